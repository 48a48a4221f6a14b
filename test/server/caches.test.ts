import { existsSync, mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { cachesOf } from '../../src/server/run.ts';

test('an act may fill caches, and write no folder that programs are started from', () => {
  const home = mkdtempSync(join(tmpdir(), 'khlone-caches-'));
  try {
    mkdirSync(join(home, '.cargo/bin'), { recursive: true });
    mkdirSync(join(home, '.local/share/pnpm'), { recursive: true });
    const caches = cachesOf(home);
    const onPath = ['.cargo/bin', '.local/share/pnpm', '.local/bin', 'go/bin'].map((name) =>
      join(home, name),
    );
    for (const folder of onPath)
      expect(caches.filter((cache) => `${folder}/`.startsWith(`${cache}/`))).toEqual([]);
    expect(caches).toContain(join(home, '.cargo/registry'));
    expect(existsSync(join(home, '.cargo/registry'))).toBe(true);
    expect(existsSync(join(home, '.local/share/pnpm/store'))).toBe(true);
    expect(existsSync(join(home, 'go'))).toBe(false);
  } finally {
    rmSync(home, { recursive: true });
  }
});
