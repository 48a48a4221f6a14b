import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  formatShort,
  formatWho,
  formatZone,
  parseWho,
  parseZone,
  type Who,
  type ZoneAddress,
} from '../../src/protocol/address.ts';
import { KhloneError } from '../../src/protocol/error.ts';

const name = fc.stringMatching(/^[a-z][a-z0-9-]{0,39}$/).filter((one) => one !== 'hero');
const defined = <T extends object>(value: T): T =>
  Object.fromEntries(Object.entries(value).filter(([, part]) => part !== undefined)) as T;

const who: fc.Arbitrary<Who> = fc
  .record({
    role: fc.option(name, { nil: undefined }),
    index: fc.option(fc.nat({ max: 999_999 }), { nil: undefined }),
    brain: fc.option(name, { nil: undefined }),
    spawn: fc.boolean(),
  })
  .filter((one) => one.index === undefined || (one.role !== undefined && !one.spawn))
  .filter((one) => one.role !== undefined || one.brain !== undefined || one.spawn)
  .map((one) => defined(one) as Who);

describe('--who', () => {
  test('says what the manual says', () => {
    expect(parseWho('hero')).toEqual({ role: 'clone', index: 0, spawn: false });
    expect(parseWho('clone.0')).toEqual({ role: 'clone', index: 0, spawn: false });
    expect(formatWho(parseWho('hero'))).toBe('clone.0');
    expect(parseWho('hero@codex')).toEqual({ role: 'clone', index: 0, brain: 'codex', spawn: false });
    expect(parseWho('mechanic')).toEqual({ role: 'mechanic', spawn: false });
    expect(parseWho('mechanic.1')).toEqual({ role: 'mechanic', index: 1, spawn: false });
    expect(parseWho('mechanic.1@codex')).toEqual({
      role: 'mechanic',
      index: 1,
      brain: 'codex',
      spawn: false,
    });
    expect(parseWho('@codex')).toEqual({ brain: 'codex', spawn: false });
    expect(parseWho('researcher++')).toEqual({ role: 'researcher', spawn: true });
    expect(parseWho('researcher@codex++')).toEqual({ role: 'researcher', brain: 'codex', spawn: true });
    expect(parseWho('++')).toEqual({ spawn: true });
    expect(parseWho('hero++')).toEqual({ spawn: true });
  });

  test.each([
    '',
    ' ',
    '.2',
    'mechanic.3++',
    'a b',
    'hero.1',
    'mechanic.',
    'mechanic.01',
    'mechanic.-1',
    'mechanic.1000000',
    'mechanic.1e3',
    '@',
    '++@codex',
    '@codex+',
    'mechanic+',
    'a@b@c',
    'a.1.2',
    'Mechanic',
    '1a',
    '-a',
    'ä',
    'a\n',
    'a\u001b[31m',
    'mechanic.9999999999999999999999',
    'a'.repeat(41),
    `@${'a'.repeat(41)}`,
    'role/x',
    '--who',
  ])('refuses %j and shows the grammar', (token) => {
    expect(() => parseWho(token)).toThrow(
      expect.objectContaining({ code: 'usage', hint: expect.stringContaining('[role][.n][@brain][++]') }),
    );
  });

  test('reads back what it wrote', () => {
    fc.assert(
      fc.property(who, (one) => {
        expect(parseWho(formatWho(one))).toEqual(one);
      }),
      { numRuns: 1_000 },
    );
  });

  test('is a clone or a usage error for any text, and the error holds nothing a terminal obeys', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary', maxLength: 60, size: 'max' }), (text) => {
        try {
          const one = parseWho(text);
          expect(parseWho(formatWho(one))).toEqual(one);
        } catch (thrown) {
          expect(thrown).toBeInstanceOf(KhloneError);
          expect((thrown as KhloneError).message).not.toMatch(/[\p{C}]/u);
        }
      }),
      { numRuns: 1_000 },
    );
  });
});

const part = fc.stringMatching(/^\.?[\p{L}\p{N}_][\p{L}\p{N}\p{M}._+~-]{0,30}$/u);
const branch = fc
  .array(fc.stringMatching(/^[a-zA-Z0-9_#=,+%@-]{1,12}$/), { minLength: 1, maxLength: 5 })
  .map((names) => names.join('/'))
  .filter((one) => !one.startsWith('-') && one !== '@');
const zone: fc.Arbitrary<ZoneAddress> = fc.oneof(
  fc.record({ branch }),
  fc.record({ repo: part, branch }),
  fc.record({
    org: fc.array(part, { minLength: 1, maxLength: 3 }).map((all) => all.join('/')),
    repo: part,
    branch,
  }),
  fc
    .tuple(
      fc.constantFrom('/', './', '../', '~/'),
      fc.string({ maxLength: 40 }).filter((one) => !/[\p{C}]/u.test(one)),
    )
    .map(([head, tail]) => ({ path: head + tail })),
);

describe('a zone address', () => {
  test('says what the manual says', () => {
    expect(parseZone('ehmpathy/rhachet@main')).toEqual({ org: 'ehmpathy', repo: 'rhachet', branch: 'main' });
    expect(parseZone('group/sub/repo@main')).toEqual({ org: 'group/sub', repo: 'repo', branch: 'main' });
    expect(parseZone('repo@feat/auth')).toEqual({ repo: 'repo', branch: 'feat/auth' });
    expect(parseZone('@feat/auth')).toEqual({ branch: 'feat/auth' });
    expect(parseZone('@1a2b3c4')).toEqual({ branch: '1a2b3c4' });
    expect(parseZone('.github@main')).toEqual({ repo: '.github', branch: 'main' });
    expect(parseZone('o/r@user@host/x')).toEqual({ org: 'o', repo: 'r', branch: 'user@host/x' });
    for (const path of ['.', '..', './a b', '../x', '/', '~', '~/z', '/a@b'])
      expect(parseZone(path)).toEqual({ path });
    expect(formatShort(parseZone('o/r@feat/x'))).toBe('@feat/x');
  });

  test.each([
    '',
    '@',
    'repo',
    'org/repo',
    'o//r@b',
    '/@'.slice(1),
    'o/../r@b',
    '-o/r@b',
    'o/-r@b',
    'o/r@-b',
    'o/r@a..b',
    'o/r@a b',
    'o r@b',
    'r@a~1',
    'r@a^',
    'r@a:b',
    'r@x.lock',
    'r@a/.b',
    'r@/a',
    'r@a/',
    'r@a//b',
    'r@@{1}',
    'r@@',
    'r@a\u0000',
    'r@a\u001b]0;x',
    '/a\u001b[2J',
    '/a\nb',
    'r@a\u202eb',
    'r@$(id)',
    'r@`id`',
    'r@a;b',
    `r@${'a'.repeat(1_000)}`,
    `/${'a'.repeat(5_000)}`,
  ])('refuses %j and shows the grammar', (token) => {
    expect(() => parseZone(token)).toThrow(
      expect.objectContaining({ code: 'usage', hint: expect.stringContaining('org/repo@branch') }),
    );
  });

  test('reads back what it wrote', () => {
    fc.assert(
      fc.property(zone, (one) => {
        expect(parseZone(formatZone(one))).toEqual(one);
      }),
      { numRuns: 1_000 },
    );
  });

  test('is a zone or a usage error for any text', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary', maxLength: 60, size: 'max' }), (text) => {
        try {
          expect(formatZone(parseZone(text))).toBe(text);
        } catch (thrown) {
          expect(thrown).toBeInstanceOf(KhloneError);
          expect((thrown as KhloneError).message).not.toMatch(/[\p{C}]/u);
        }
      }),
      { numRuns: 1_000 },
    );
  });
});
