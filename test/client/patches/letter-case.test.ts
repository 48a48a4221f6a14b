import { execFile } from 'node:child_process';
import { existsSync, readFileSync, renameSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { readState } from '../../../src/client/patches/state.ts';
import { compare, pull, sync } from '../../../src/client/patches/steps.ts';
import { viewPatches } from '../../../src/client/patches/view.ts';
import { conflictLines } from '../../../src/client/render/patches.ts';
import { gitIn, put, ZONE } from '../../patch/ground.ts';
import { freely, makeTwoSides, stepped, type TwoSides } from './two-sides.ts';

/**
 * A zone's name that is another file's name on a disk that ignores case. Git says of a disk whether it does, in the
 * shadow's configuration; here it says so of a disk that does not, which nothing but the plan believes.
 */

const PROGRAM = join(import.meta.dirname, 'step-program.ts');
const RUN_MS = 60_000;
const PLAIN = { colour: false, utf8: true };

let sides: TwoSides;
beforeEach(async () => {
  sides = await makeTwoSides();
  gitIn(sides.near, 'config', '-f', '.git/khlone/shadow.git/config', 'core.ignorecase', 'true');
  put(sides.far, 'KEPT.txt', 'of the zone\n');
  put(sides.far, 'new.txt', 'new\n');
});
afterEach(() => sides.remove());

const pullNow = async () => stepped(await pull(sides.place, sides.link, freely));
const syncNow = async () => stepped(await sync(sides.place, sides.link, freely));
const kinds = (conflicts: readonly { kind: string; paths: readonly string[] }[]) =>
  conflicts.map(({ kind, paths }) => [kind, [...paths]]);
const noted = async () => kinds((await readState(join(sides.near, '.git'), ZONE)).conflicts);
const CASE = [['case', ['KEPT.txt']]];

const expectUntouched = (): void => {
  expect(existsSync(join(sides.near, 'KEPT.txt'))).toBe(false);
  expect(readFileSync(join(sides.near, 'kept.txt'), 'utf8')).toBe('kept\n');
  expect(readFileSync(join(sides.far, 'KEPT.txt'), 'utf8')).toBe('of the zone\n');
  expect(readFileSync(join(sides.far, 'kept.txt'), 'utf8')).toBe('kept\n');
};

it('is told by a look, before any pull, and counted in what status reads', async () => {
  const view = await viewPatches(sides.place, sides.link);
  expect(kinds(view.conflicts)).toEqual(CASE);
  expect(view).toMatchObject({ toPull: 1 });
  expect(await noted()).toEqual(CASE);
  expect(conflictLines(view.conflicts, PLAIN)[0]).toContain(
    'conflict in KEPT.txt (the same name as another file on this disk)',
  );
  await compare(sides.place, sides.link);
  expect(await noted()).toEqual(CASE);
});

it('is told by a pull and by the next one, and stays in the zone at a sync', async () => {
  for (const done of [['new.txt'], []]) {
    const pulled = await pullNow();
    expect(kinds(pulled.conflicts)).toEqual(CASE);
    expect(pulled.done).toEqual(done);
    expect((await syncNow()).done).toEqual([]);
    expect(await noted()).toEqual(CASE);
    expect(kinds((await viewPatches(sides.place, undefined)).conflicts)).toEqual(CASE);
    expectUntouched();
  }
});

it.each(['apply.journal:1', 'apply.run:1', 'patch.pulled:1'])(
  'is not taken for pulled where the pull died at %s and the next command ended it',
  async (fault) => {
    const args = [PROGRAM, sides.near, sides.far, sides.patchPlace.zonesDir, 'pull'];
    const killed = await new Promise((resolve) => {
      const options = { env: { ...process.env, KHLONE_FAULT: fault }, timeout: RUN_MS };
      execFile(process.execPath, args, options, (error) => resolve(error?.signal));
    });
    expect(killed).toBe('SIGKILL');
    expect((await syncNow()).done).toEqual([]);
    expect(await noted()).toEqual(CASE);
    expectUntouched();
    expect(readFileSync(join(sides.near, 'new.txt'), 'utf8')).toBe('new\n');
  },
);

it('is over, with no word of the person, once the other file has another name', async () => {
  await pullNow();
  renameSync(join(sides.near, 'kept.txt'), join(sides.near, 'mine.txt'));
  const { done, conflicts } = await pullNow();
  expect(kinds(conflicts)).toEqual([]);
  expect(done).toEqual(['KEPT.txt']);
  expect(readFileSync(join(sides.near, 'KEPT.txt'), 'utf8')).toBe('of the zone\n');
});

it('is one conflict where two such names come together', async () => {
  put(sides.far, 'Both.txt', '1\n');
  put(sides.far, 'both.txt', '2\n');
  expect(kinds((await pullNow()).conflicts).sort()).toEqual([
    ['case', ['Both.txt', 'both.txt']],
    ['case', ['KEPT.txt']],
  ]);
});
