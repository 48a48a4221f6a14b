import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { formatWho, parseWho } from '../../src/protocol/address.ts';
import { choose, type Member } from '../../src/server/crew.ts';
import { POLICY } from '../fixtures/server.ts';

/** The table of `--who`, row by row, over one crew. */

const member = (role: string, index: number, brain: string, load = 0): Member => ({
  role,
  index,
  brain,
  load,
});

const HERO = member('mechanic', 1, 'claude', 3);
const CREW = [
  HERO,
  member('mechanic', 2, 'codex', 0),
  member('mechanic', 3, 'claude', 1),
  member('mechanic', 4, 'claude', 1),
  member('researcher', 2, 'claude', 5),
];
const policy = { ...POLICY, heroBrain: 'claude' };

const who = (token: string | undefined, crew: readonly Member[] = CREW, hero: Member | undefined = HERO) =>
  choose(crew, hero, token === undefined ? undefined : parseWho(token), policy);
const found = (role: string, index: number) => ({ type: 'found', role, index });
const enroll = (role: string, brain: string | undefined) => ({
  type: 'enroll',
  role,
  index: undefined,
  brain,
});

describe('--who', () => {
  test.each([undefined, 'hero', 'clone.0'])('%s is the hero', (token) => {
    expect(who(token)).toEqual(found('mechanic', 1));
    expect(choose([], undefined, token === undefined ? undefined : parseWho(token), policy)).toEqual(
      enroll('mechanic', 'claude'),
    );
  });

  test('a role is its least busy clone on the brain of the hero, then the lowest index', () => {
    expect(who('mechanic')).toEqual(found('mechanic', 3));
    expect(who('researcher')).toEqual(found('researcher', 2));
    expect(who('reviewer')).toEqual(enroll('reviewer', 'claude'));
  });

  test('a role with an index is exactly that clone, or an error with the crew', () => {
    expect(who('mechanic.4')).toEqual(found('mechanic', 4));
    expect(() => who('mechanic.9')).toThrow(
      expect.objectContaining({ code: 'not-found', hint: expect.stringContaining('researcher.2 on claude') }),
    );
  });

  test('a clone on another brain is refused by name', () => {
    expect(who('mechanic.2@codex')).toEqual(found('mechanic', 2));
    expect(() => who('mechanic.1@codex')).toThrow('mechanic.1 is on claude, not codex');
  });

  test('a brain alone is the role of the hero on it', () => {
    expect(who('@codex')).toEqual(found('mechanic', 2));
    expect(who('@gemini')).toEqual(enroll('mechanic', 'gemini'));
  });

  test('++ is always a new clone', () => {
    expect(who('researcher++')).toEqual(enroll('researcher', 'claude'));
    expect(who('researcher@codex++')).toEqual(enroll('researcher', 'codex'));
    expect(who('++')).toEqual(enroll('mechanic', 'claude'));
  });

  test('an unknown role names the known ones', () => {
    expect(() => who('wizard')).toThrow(
      expect.objectContaining({ code: 'not-found', hint: expect.stringContaining('mechanic, reviewer') }),
    );
    expect(() => who('constructor')).toThrow(expect.objectContaining({ code: 'not-found' }));
  });

  test('a brain that nothing names is left for the first ready one', () => {
    const { heroBrain: _none, ...open } = policy;
    expect(choose([], undefined, undefined, open)).toEqual(enroll('mechanic', undefined));
  });
});

const name = fc.constantFrom('mechanic', 'researcher', 'reviewer');
const brain = fc.constantFrom('claude', 'codex');
const members = fc
  .array(fc.tuple(name, fc.nat(5), brain, fc.nat(4)), { maxLength: 12, size: 'max' })
  .map((rows) => rows.map(([role, index, on, load]) => member(role, index + 1, on, load)))
  .map((rows) =>
    rows.filter((row, i) => rows.findIndex((r) => r.role === row.role && r.index === row.index) === i),
  );
const tokens = fc
  .record({
    role: fc.option(name, { nil: undefined }),
    brain: fc.option(brain, { nil: undefined }),
    spawn: fc.boolean(),
  })
  .filter((one) => one.role !== undefined || one.brain !== undefined || one.spawn)
  .map((one) => {
    const { role, brain: on, spawn } = one;
    return { ...(role && { role }), ...(on && { brain: on }), spawn };
  });

test('who is found is in the crew, fits every word of the token, and nobody who fits is less busy', () => {
  fc.assert(
    fc.property(members, tokens, (crew, token) => {
      const hero = crew[0];
      const choice = choose(crew, hero, parseWho(formatWho(token)), policy);
      const fits = crew.filter(
        (m) =>
          m.role === (token.role ?? hero?.role ?? policy.heroRole) &&
          m.brain === (token.brain ?? hero?.brain ?? 'claude'),
      );
      if (choice.type === 'enroll') {
        expect(token.spawn || fits.length === 0).toBe(true);
        return;
      }
      const chosen = crew.find((m) => m.role === choice.role && m.index === choice.index);
      expect(fits).toContain(chosen);
      expect(Math.min(...fits.map((m) => m.load))).toBe(chosen?.load);
    }),
    { numRuns: 500 },
  );
});
