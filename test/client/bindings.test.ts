import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { type Binding, openBindings, zoneIdOf } from '../../src/client/bindings.ts';
import { mintSession } from '../../src/client/sessions.ts';

/** Which worktree has which zone, as far as it must survive the hub. */

let dir: string;
let file: string;
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'khlone-bindings-'));
  file = join(dir, 'zones.json');
});
afterEach(() => rmSync(dir, { recursive: true }));

const DAY_MS = 24 * 3600_000;
const BINDING: Binding = {
  ...{ zone: zoneIdOf('local', '/w'), root: '/w', gitDir: '/w/.git', address: 'o/r@b', branch: 'b' },
  ...{ mode: 'local', host: 'local', path: '/w', usedMs: 100 * DAY_MS },
};
const storedUse = (): number => JSON.parse(readFileSync(file, 'utf8'))[0].usedMs;

test('one path on two hosts is two zones, and one zone whoever asks', () => {
  const ids = ['local', 'box', 'me@box:22'].map((host) => zoneIdOf(host, '~/zones/o/r/b'));
  expect(new Set(ids).size).toBe(3);
  for (const id of ids) expect(id).toMatch(/^z-[0-9a-f]{16}$/);
  expect(zoneIdOf('box', '~/zones/o/r/b')).toBe(ids[1]);
  expect(zoneIdOf('box', '~/zones/o/r/c')).not.toBe(ids[1]);
});

test('a use is written down when the one on the disk is over a day old, and with every other change', () => {
  const bindings = openBindings(file);
  bindings.put(BINDING);
  bindings.put({ ...BINDING, usedMs: BINDING.usedMs + DAY_MS });
  expect(storedUse()).toBe(BINDING.usedMs);
  for (const lateMs of [1, 2]) bindings.put({ ...BINDING, usedMs: BINDING.usedMs + DAY_MS + lateMs });
  expect(storedUse()).toBe(BINDING.usedMs + DAY_MS + 1);
  bindings.put({ ...BINDING, usedMs: BINDING.usedMs + DAY_MS + 3, session: 's-1' });
  expect(storedUse()).toBe(BINDING.usedMs + DAY_MS + 3);
  const next = openBindings(file);
  next.put({ ...BINDING, usedMs: BINDING.usedMs + 3 * DAY_MS, session: 's-1' });
  expect(storedUse()).toBe(BINDING.usedMs + 3 * DAY_MS);
});

test('a file that is none is as no file', () => {
  writeFileSync(file, '[{"zone": 1}]');
  expect(openBindings(file).all()).toEqual([]);
});

test('a command that is repeated makes the same new session, another command another one', () => {
  expect(mintSession('nonce-1')).toMatch(/^s-[0-9a-f]{10}$/);
  expect(mintSession('nonce-1')).toBe(mintSession('nonce-1'));
  expect(mintSession('nonce-1')).not.toBe(mintSession('nonce-2'));
});
