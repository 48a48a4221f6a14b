import { existsSync, mkdirSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { pull, sync } from '../../../src/client/patches/steps.ts';
import { put } from '../../patch/ground.ts';
import { freely, makeTwoSides, stepped, type TwoSides } from './two-sides.ts';

/** What lies in a worktree and does not travel, where the other side has a file. */

let sides: TwoSides;
beforeEach(async () => {
  sides = await makeTwoSides((root) => put(root, 'lib/a.txt', 'a\n'));
});
afterEach(() => sides.remove());

const pullNow = async () => stepped(await pull(sides.place, sides.link, freely));
const syncNow = async () => stepped(await sync(sides.place, sides.link, freely));

describe('a folder where the other side has a file', () => {
  it('gives way where it is empty', async () => {
    mkdirSync(join(sides.near, 'name/of/folders'), { recursive: true });
    put(sides.far, 'name', 'file\n');
    expect((await pullNow()).refused).toEqual([]);
    expect(readFileSync(join(sides.near, 'name'), 'utf8')).toBe('file\n');
    mkdirSync(join(sides.far, 'other'));
    put(sides.near, 'other', 'file\n');
    expect((await syncNow()).refused).toEqual([]);
    expect(readFileSync(join(sides.far, 'other'), 'utf8')).toBe('file\n');
  });

  it('stays with what is ignored in it, and is told until that is gone', async () => {
    put(sides.near, 'lib/ignored-notes', 'mine\n');
    mkdirSync(join(sides.near, 'lib/empty'));
    rmSync(join(sides.far, 'lib'), { recursive: true });
    put(sides.far, 'lib', 'file\n');
    const why = 'a folder with files that do not travel stands in its place';
    for (let n = 0; n < 2; n += 1) {
      expect((await pullNow()).refused).toEqual([{ path: 'lib', why }]);
      expect((await syncNow()).done).toEqual([]);
    }
    expect(readFileSync(join(sides.near, 'lib/ignored-notes'), 'utf8')).toBe('mine\n');
    expect(existsSync(join(sides.near, 'lib/empty'))).toBe(true);
    rmSync(join(sides.near, 'lib/ignored-notes'));
    expect((await pullNow()).refused).toEqual([]);
    expect(readFileSync(join(sides.near, 'lib'), 'utf8')).toBe('file\n');
  });
});

it('a file that is ignored here by now is told as such where the zone changes it', async () => {
  put(sides.near, 'notes.txt', 'shared\n');
  await syncNow();
  put(sides.near, '.gitignore', 'ignored*\nnotes.txt\n');
  put(sides.near, 'notes.txt', 'private\n');
  put(sides.far, 'notes.txt', 'edited there\n');
  const why = 'another file is here, which does not travel (ignored)';
  expect((await pullNow()).refused).toEqual([{ path: 'notes.txt', why }]);
  expect(readFileSync(join(sides.near, 'notes.txt'), 'utf8')).toBe('private\n');
  rmSync(join(sides.near, '.gitignore'));
  expect((await pullNow()).conflicts.map(({ path }) => path)).toEqual(['notes.txt']);
});
