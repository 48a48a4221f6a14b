import { execFile, execFileSync } from 'node:child_process';
import { mkdirSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import type { Far } from '../../../src/client/patches/far.ts';
import { readState } from '../../../src/client/patches/state.ts';
import { pull, sync } from '../../../src/client/patches/steps.ts';
import { bytesOf, makeDirty, put, ZONE } from '../../patch/ground.ts';
import {
  contentsOf,
  expectGitUntouched,
  expectNothingLost,
  farSide,
  momentOf,
  nearSide,
} from './invariants.ts';
import { freely, makeTwoSides, stepped, type TwoSides } from './two-sides.ts';

/**
 * A process that dies at a named place of an exchange, and the next one that finishes it: both sides end as if nothing
 * had happened. KHLONE_LONG=1 dies at every passing of each place.
 */

const LONG = process.env.KHLONE_LONG === '1';
const PROGRAM = join(import.meta.dirname, 'step-program.ts');
const RUN_MS = 60_000;

let sides: TwoSides;
let template = '';
const lines = (changed: Record<number, string> = {}): string =>
  Array.from({ length: 30 }, (_, n) => `${changed[n] ?? `line ${n}`}\n`).join('');

const run = (steps: readonly string[], fault = 'none'): Promise<{ killed: boolean; said: string }> =>
  new Promise((resolve, reject) => {
    const args = [PROGRAM, sides.near, sides.far, sides.patchPlace.zonesDir, ...steps];
    const options = { env: { ...process.env, KHLONE_FAULT: fault }, timeout: RUN_MS };
    execFile(process.execPath, args, options, (error, said, stderr) => {
      if (error && error.signal !== 'SIGKILL') reject(new Error(stderr));
      else resolve({ killed: error !== null, said });
    });
  });

/** Both sides as they were before any step, at the same paths. */
const begin = (): void => {
  for (const name of ['near', 'far', 'zones']) {
    rmSync(join(sides.dir, name), { recursive: true, force: true });
    execFileSync('cp', ['-a', join(template, name), join(sides.dir, name)]);
  }
};

/** What both sides have, and what they agree on. */
const outcome = async () => {
  const { base, remote, conflicts, pending } = await readState(join(sides.near, '.git'), ZONE);
  const agreed = { base, remote, conflicts: conflicts.map(({ id, paths }) => [id, paths]), pending };
  return { near: contentsOf(sides.near), far: contentsOf(sides.far), agreed };
};

beforeAll(async () => {
  sides = await makeTwoSides((root) => {
    put(root, 'long.txt', lines());
    put(root, 'fought.txt', lines());
  });
  makeDirty(sides.near);
  rmSync(join(sides.near, 'ignored.log'));
  // The checks of this file read names as text.
  rmSync(join(sides.near, 'names'), { recursive: true });
  for (const name of ['from-far.txt', 'deep/in/far.txt']) put(sides.far, name, `${name}\n`);
  rmSync(join(sides.far, 'kept.txt'));
  put(sides.near, 'long.txt', lines({ 2: 'near' }));
  put(sides.far, 'long.txt', lines({ 20: 'far' }));
  put(sides.near, 'fought.txt', lines({ 5: 'near' }));
  put(sides.far, 'fought.txt', lines({ 5: 'far' }));
  template = join(sides.dir, 'template');
  mkdirSync(template);
  for (const name of ['near', 'far', 'zones']) renameSync(join(sides.dir, name), join(template, name));
});
afterAll(() => sides.remove());

const times = (name: string, count: number): string[] =>
  Array.from({ length: count }, (_, n) => `${name}:${n + 1}`);

/** `short` are the places that tell most; the others are tried at night. */
const scripts: Record<string, { steps: string[]; short: string[]; long: string[] }> = {
  'a sync': {
    steps: ['sync', 'pull'],
    short: [
      'patch.pending-sync:1',
      'apply.placed:7',
      'patch.receipt:1',
      'patch.answered:1',
      'patch.pinned:3',
    ],
    long: [
      ...['patch.fetched:1', 'patch.sealed:1', 'patch.opened:1', 'patch.held:1', 'patch.told:1'],
      ...['patch.received:1', 'patch.settled:1', 'apply.staged:1', 'apply.journal:1', 'apply.run:1'],
      ...[...times('patch.pinned', 4), ...times('patch.state', 4)],
      ...[...times('apply.aside', 6), ...times('apply.placed', 12)],
    ],
  },
  'a pull': {
    steps: ['pull', 'sync'],
    short: ['patch.pending-pull:1', 'apply.aside:1', 'patch.pulled:1'],
    long: [
      ...['apply.run:1', 'apply.staged:1', 'apply.journal:1', ...times('patch.pinned', 4)],
      ...[...times('patch.state', 4), ...times('apply.aside', 2), ...times('apply.placed', 4)],
    ],
  },
  'a sync that does not wait for an answer': {
    steps: ['pull', 'resolve-remote', 'sync', 'pull', 'sync', 'edit:early.txt', 'sync', 'pull'],
    short: ['patch.pending-sync:2', 'patch.opened:2', 'patch.receipt:2', 'patch.answered:2'],
    long: ['patch.sealed:2', 'patch.held:2', 'patch.received:2', 'patch.settled:2'],
  },
  'a decision': {
    steps: ['pull', 'resolve-remote', 'sync', 'pull'],
    short: ['patch.decided:1'],
    long: ['apply.run:2', 'apply.journal:2', 'patch.agreed:1'],
  },
};
const DEATHS = LONG ? ['patch.opened:1', 'apply.journal:1', 'patch.receipt:1', 'patch.settled:1'] : [];

for (const [what, { steps, short, long }] of Object.entries(scripts)) {
  it(`${what} that dies anywhere ends as if it had not`, {
    timeout: LONG ? 3_600_000 : 180_000,
  }, async () => {
    begin();
    await run(steps);
    const expected = await outcome();
    for (const fault of LONG ? [...short, ...long] : short) {
      begin();
      const both = [nearSide(sides.near), farSide(sides.far, sides.patchPlace.zonesDir)];
      const before = both.map(momentOf);
      expect(await run(steps, fault), fault).toMatchObject({ killed: true });
      const midway = both.map(momentOf);
      await run(steps);
      expect(await outcome(), fault).toEqual(expected);
      for (const [n, side] of both.entries()) {
        for (const moment of [before[n], midway[n]]) {
          if (!moment) continue;
          expectNothingLost(side, moment, momentOf(side));
          expectGitUntouched(moment, momentOf(side));
        }
      }
    }
  });
}

/** The far side in a process that dies: the near one sees a link that breaks. */
const dyingFar = (fault: string): Far => ({
  ...sides.link,
  apply: async (change, payload) => {
    const file = join(sides.dir, 'take.json');
    writeFileSync(file, JSON.stringify({ zone: ZONE, ...change }));
    writeFileSync(`${file}.payload`, await bytesOf(payload));
    const { killed, said } = await run([`take:${file}`], fault);
    if (killed) throw new Error('the link was cut');
    return JSON.parse(said);
  },
});

it('a server that dies while it takes a change in is no conflict for who sent it', async () => {
  begin();
  await run(['sync', 'pull']);
  const expected = await outcome();
  for (const fault of ['apply.placed:3', 'patch.received:1', ...DEATHS]) {
    begin();
    await expect(sync(sides.place, dyingFar(fault), freely), fault).rejects.toThrow('cut');
    stepped(await sync(sides.place, sides.link, freely));
    stepped(await pull(sides.place, sides.link, freely));
    expect(await outcome(), fault).toEqual(expected);
  }
}, 120_000);
