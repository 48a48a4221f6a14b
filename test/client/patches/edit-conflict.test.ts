import { chmodSync, existsSync, readFileSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { resolveConflict } from '../../../src/client/patches/resolve.ts';
import { pull, sync } from '../../../src/client/patches/steps.ts';
import { put } from '../../patch/ground.ts';
import { freely, makeTwoSides, stepped, type TwoSides } from './two-sides.ts';

/** A conflict that is decided by a text: what else the two sides did to the file than its lines. */

let sides: TwoSides;
const lines = (third = 'line 3'): string => `line 1\nline 2\n${third}\nline 4\nline 5\nline 6\n`;
beforeEach(async () => {
  sides = await makeTwoSides((root) => put(root, 'a.txt', lines()));
});
afterEach(() => sides.remove());

const merge = async (file: string): Promise<number> => {
  writeFileSync(file, lines('both'));
  return 0;
};
const there = (path: string): string => join(sides.far, path);
const here = (path: string): string => join(sides.near, path);
const exchange = async () => {
  const sent = stepped(await sync(sides.place, sides.link, freely));
  const pulled = stepped(await pull(sides.place, sides.link, freely));
  return [sent, pulled].map(({ conflicts }) => conflicts.length);
};

it('takes the name that the zone gave the file', async () => {
  put(sides.near, 'a.txt', lines('mine'));
  put(sides.far, 'a.txt', lines('theirs'));
  renameSync(there('a.txt'), there('b.txt'));
  stepped(await pull(sides.place, sides.link, freely));
  expect(await resolveConflict(sides.place, 'b.txt', { merge })).toMatchObject({ refused: [] });
  expect(await exchange()).toEqual([0, 0]);
  for (const at of [here, there]) {
    expect(readFileSync(at('b.txt'), 'utf8')).toBe(lines('both'));
    expect(existsSync(at('a.txt'))).toBe(false);
  }
});

it('leaves what somebody made here meanwhile under the name that the zone gave the file', async () => {
  put(sides.near, 'a.txt', lines('mine'));
  put(sides.far, 'a.txt', lines('theirs'));
  renameSync(there('a.txt'), there('b.txt'));
  stepped(await pull(sides.place, sides.link, freely));
  put(sides.near, 'b.txt', 'another\n');
  const { refused, kept } = await resolveConflict(sides.place, 'b.txt', { merge });
  expect(refused).toEqual([{ path: 'b.txt', why: 'changed meanwhile' }]);
  expect(readFileSync(kept ?? '', 'utf8')).toBe(lines('both'));
  expect(readFileSync(here('a.txt'), 'utf8')).toBe(lines('mine'));
  expect(readFileSync(here('b.txt'), 'utf8')).toBe('another\n');
});

it.each(['near', 'far'] as const)('is a program where one side (%s) made it one', async (side) => {
  put(sides.near, 'a.txt', lines('mine'));
  put(sides.far, 'a.txt', lines('theirs'));
  chmodSync(join(sides[side], 'a.txt'), 0o755);
  stepped(await pull(sides.place, sides.link, freely));
  await resolveConflict(sides.place, 'a.txt', { merge });
  expect(await exchange()).toEqual([0, 0]);
  for (const at of [here, there]) {
    expect(readFileSync(at('a.txt'), 'utf8')).toBe(lines('both'));
    expect(statSync(at('a.txt')).mode & 0o100).toBe(0o100);
  }
});

it('stays where the editor leaves no text behind', async () => {
  put(sides.near, 'a.txt', lines('mine'));
  put(sides.far, 'a.txt', lines('theirs'));
  stepped(await pull(sides.place, sides.link, freely));
  const gone = async (file: string): Promise<number> => {
    rmSync(file);
    return 0;
  };
  await expect(resolveConflict(sides.place, 'a.txt', { merge: gone })).rejects.toMatchObject({
    code: 'conflict',
    message: 'the editor left no text: nothing was changed',
    hint: 'khlone resolve a.txt --merge opens it again',
  });
  expect(readFileSync(here('a.txt'), 'utf8')).toBe(lines('mine'));
});
