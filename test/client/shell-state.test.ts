import {
  chmodSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterEach, beforeEach, expect, test } from 'vitest';
import {
  COUNT_MAX,
  formatZoneLine,
  HEARTBEAT_SECONDS,
  INDEX_ROWS,
  LABEL_CHARS,
  pruneMail,
  ROOT_BYTES,
  readIndex,
  removeZoneLine,
  writeIndex,
  writeMail,
  writeZoneLine,
  type ZoneLine,
} from '../../src/client/shell-state.ts';

let home: string;
beforeEach(() => {
  home = mkdtempSync(join(tmpdir(), 'khlone-state-'));
});
afterEach(() => rmSync(home, { recursive: true, force: true }));

const read = (...names: string[]) => readFileSync(join(home, 'shell', ...names), 'utf8');

const ZONE: ZoneLine = {
  label: '@feat/auth',
  mode: 'ssh',
  conn: 'online',
  active: 1,
  queued: 2,
  patches: 3,
  conflicts: 4,
  attention: 5,
  epochSeconds: 1_800_000_000.9,
};

test('a zone is one line of ten fields', () => {
  expect(writeZoneLine(home, 'k1', ZONE)).toBe(true);
  expect(read('zones', 'k1')).toBe('1\t@feat/auth\tssh\tonline\t1\t2\t3\t4\t5\t1800000000\n');
});

test('whatever a zone is called, its line has ten fields, none empty, and no control characters', () => {
  const number = fc.oneof(fc.double(), fc.integer());
  const zones = fc.record({
    label: fc.oneof(
      fc.string({ unit: 'binary', maxLength: 3 * LABEL_CHARS, size: 'max' }),
      fc.string({ unit: 'binary-ascii', maxLength: 3 * LABEL_CHARS, size: 'max' }),
    ),
    mode: fc.constantFrom('local', 'ssh', 'ec2'),
    conn: fc.constantFrom('online', 'offline', 'connecting', 'down'),
    active: number,
    queued: number,
    patches: number,
    conflicts: number,
    attention: number,
    epochSeconds: number,
  });
  fc.assert(
    fc.property(zones, (zone) => {
      const fields = formatZoneLine(zone as ZoneLine).split('\t');
      const [version, label = '', , , ...numbers] = fields;
      expect(fields).toHaveLength(10);
      expect(version).toBe('1');
      expect(label).not.toMatch(/^$|[\p{C}\p{Zl}\p{Zp}]/u);
      expect([...label].length).toBeLessThanOrEqual(LABEL_CHARS);
      for (const digits of numbers) expect(digits).toMatch(/^\d+$/);
      for (const digits of numbers.slice(0, 5)) expect(Number(digits)).toBeLessThanOrEqual(COUNT_MAX);
    }),
  );
});

test('an unchanged zone is written once per heartbeat, a changed one at once', () => {
  const at = (epochSeconds: number, active = 1) =>
    writeZoneLine(home, 'k1', { ...ZONE, active, epochSeconds });
  expect(at(1000)).toBe(true);
  expect(at(1000 + HEARTBEAT_SECONDS - 1)).toBe(false);
  expect(at(1000 + HEARTBEAT_SECONDS)).toBe(true);
  expect(at(1000 + HEARTBEAT_SECONDS, 2)).toBe(true);
  // After the clock was set back, the line would seem to come from the future.
  expect(at(500, 2)).toBe(true);
});

test('the index is written and read, innermost first, and not again when nothing changed', () => {
  const rows = [
    { root: '/a/b', key: 'k1' },
    { root: '/a/b/c/', key: 'k2' },
    { root: '/', key: 'k3' },
  ];
  expect(writeIndex(home, rows)).toBe(true);
  expect(writeIndex(home, [...rows].reverse())).toBe(false);
  expect(readIndex(home)).toEqual([
    { root: '/a/b/c', key: 'k2' },
    { root: '/a/b', key: 'k1' },
    { root: '/', key: 'k3' },
  ]);
  const [head] = read('index').split('\n');
  expect(writeIndex(home, rows.slice(1))).toBe(true);
  expect(read('index').split('\n')[0]).not.toBe(head);
});

test('the index is bounded, and leaves out roots that no line can carry', () => {
  const odd = ['/a\tb', '/a\nb', 'relative', `/${'x'.repeat(ROOT_BYTES)}`].map((root) => ({
    root,
    key: 'odd',
  }));
  const many = Array.from({ length: INDEX_ROWS + 5 }, (_, i) => ({ root: `/r${i}`, key: `k${i}` }));
  writeIndex(home, [...odd, ...many]);
  const rows = readIndex(home);
  expect(rows).toHaveLength(INDEX_ROWS);
  expect(rows.map(({ key }) => key)).not.toContain('odd');
  expect(rows.map(({ key }) => key)).not.toContain(`k${INDEX_ROWS}`);
});

test('no index reads as no rows, and a broken one as what can be read of it', () => {
  expect(readIndex(home)).toEqual([]);
  writeIndex(home, []);
  writeFileSync(join(home, 'shell/index'), 'x\n/a\tk1\n/b\n/c\t../x\n\n');
  expect(readIndex(home)).toEqual([{ root: '/a', key: 'k1' }]);
});

test('generations grow, also past a clock that was ahead', () => {
  const first = writeMail(home, '1-2-3', 's1');
  expect(read('mail', '1-2-3')).toBe(`${first}\ts1\n`);
  const second = writeMail(home, '1-2-3', undefined, '@a\tb');
  expect(second).toBeGreaterThan(first);
  expect(read('mail', '1-2-3')).toBe(`${second}\t-\t@ab\n`);
  writeFileSync(join(home, 'shell/mail/1-2-3'), '9000000000000000\ts1\n');
  expect(writeMail(home, '1-2-3', 's1')).toBe(9_000_000_000_000_001);
});

test.each(['', '-', '..', '../x', 'a/b', '.hidden', 'a b', 'é', 'x\n', 'x'.repeat(65)])(
  '%j is no name of a file or a session',
  (name) => {
    const refused = expect.objectContaining({ code: 'invalid-params' });
    expect(() => writeMail(home, name, 's1')).toThrow(refused);
    expect(() => writeMail(home, 'ok', name)).toThrow(refused);
    expect(() => writeZoneLine(home, name, ZONE)).toThrow(refused);
    expect(() => writeIndex(home, [{ root: '/a', key: name }])).toThrow(refused);
  },
);

test('only this user may look: directories are 0700 and files 0600, also where they were open', () => {
  mkdirSync(join(home, 'shell/zones'), { recursive: true });
  chmodSync(join(home, 'shell/zones'), 0o755);
  writeZoneLine(home, 'k1', ZONE);
  writeMail(home, 'm', 's');
  const mode = (...names: string[]) => statSync(join(home, 'shell', ...names)).mode & 0o777;
  expect([mode('zones'), mode('mail'), mode('zones', 'k1'), mode('mail', 'm')]).toEqual([
    0o700, 0o700, 0o600, 0o600,
  ]);
});

test('nothing is left beside the files', () => {
  for (let i = 0; i < 5; i += 1) writeMail(home, 'm', `s${i}`);
  mkdirSync(join(home, 'shell/mail/blocked/full'), { recursive: true });
  expect(() => writeMail(home, 'blocked', 's')).toThrow();
  expect(readdirSync(join(home, 'shell/mail')).sort()).toEqual(['blocked', 'm']);
});

test('a removed zone has no line, and removing it again is no error', () => {
  writeZoneLine(home, 'k1', ZONE);
  removeZoneLine(home, 'k1');
  removeZoneLine(home, 'k1');
  expect(readdirSync(join(home, 'shell/zones'))).toEqual([]);
});

test('old mailboxes are pruned', () => {
  expect(pruneMail(home, 1000)).toBe(0);
  writeMail(home, 'old', 's');
  writeMail(home, 'new', 's');
  utimesSync(join(home, 'shell/mail/old'), 1, 1);
  expect(pruneMail(home, 60_000)).toBe(1);
  expect(readdirSync(join(home, 'shell/mail'))).toEqual(['new']);
});
