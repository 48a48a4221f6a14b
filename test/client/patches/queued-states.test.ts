import { readFileSync, renameSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { resolveConflict } from '../../../src/client/patches/resolve.ts';
import { pull, sync } from '../../../src/client/patches/steps.ts';
import { put } from '../../patch/ground.ts';
import { freely, makeTwoSides, queueState, stepped, type TwoSides } from './two-sides.ts';

/** States that wait for their host, with tasks between them, while the person goes on here. */

let sides: TwoSides;
const lines = (third = 'line 3'): string => `line 1\nline 2\n${third}\nline 4\nline 5\nline 6\n`;
beforeEach(async () => {
  sides = await makeTwoSides((root) => {
    for (const name of ['a.txt', 'b.txt']) put(root, name, `${name}\n`);
    put(root, 'long.txt', lines());
  });
});
afterEach(() => sides.remove());

const queueNow = () => queueState(sides);
const there = (name: string): string => readFileSync(join(sides.far, name), 'utf8');
const pullNow = async () => stepped(await pull(sides.place, sides.link, freely));

it.each(['local', 'remote'] as const)(
  'each find what the one before brought, and a conflict decided between them (%s)',
  async (keep) => {
    for (const name of ['a.txt', 'b.txt']) {
      put(sides.near, name, 'mine\n');
      put(sides.far, name, 'theirs\n');
    }
    await pullNow();
    const trees: string[] = [];
    for (const [n, name] of ['a.txt', 'b.txt', ''].entries()) {
      put(sides.near, 'new.txt', `state ${n}\n`);
      trees.push(await queueNow());
      if (name) await resolveConflict(sides.place, name, { keep });
    }
    const decided = { local: 'mine\n', remote: 'theirs\n' }[keep];
    const expected = [
      { 'a.txt': 'theirs\n', 'b.txt': 'theirs\n' },
      { 'a.txt': decided, 'b.txt': 'theirs\n' },
      { 'a.txt': decided, 'b.txt': decided },
    ];
    for (const [n, localTree] of trees.entries()) {
      stepped(await sync(sides.place, sides.link, { ...freely, localTree }));
      expect(there('new.txt')).toBe(`state ${n}\n`);
      expect({ 'a.txt': there('a.txt'), 'b.txt': there('b.txt') }).toEqual(expected[n]);
    }
    const { meeting, done } = await pullNow();
    expect([meeting.merge.conflicts, done]).toEqual([[], []]);
  },
);

it('takes nothing back that the zone did to a file which was moved here, where a conflict was decided since', async () => {
  put(sides.near, 'a.txt', 'mine\n');
  put(sides.far, 'a.txt', 'theirs\n');
  await pullNow();
  renameSync(join(sides.near, 'long.txt'), join(sides.near, 'moved.txt'));
  put(sides.far, 'long.txt', lines('theirs'));
  const localTree = await queueNow();
  await resolveConflict(sides.place, 'a.txt', { keep: 'remote' });
  stepped(await sync(sides.place, sides.link, { ...freely, localTree }));
  expect(there('moved.txt')).toBe(lines('theirs'));
  await pullNow();
  stepped(await sync(sides.place, sides.link, freely));
  expect(there('moved.txt')).toBe(lines('theirs'));
  expect(readFileSync(join(sides.near, 'moved.txt'), 'utf8')).toBe(lines('theirs'));
});
