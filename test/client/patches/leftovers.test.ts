import { execFile, spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { existsSync, mkdirSync, readdirSync, utimesSync, writeFileSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { editMarked } from '../../../src/client/patches/edit-conflict.ts';
import { inTurn } from '../../../src/client/patches/lock.ts';
import { startOf } from '../../../src/client/patches/maker.ts';
import { resolveConflict } from '../../../src/client/patches/resolve.ts';
import { pull, sync } from '../../../src/client/patches/steps.ts';
import { DISPLACED_KEPT } from '../../../src/patch/displaced.ts';
import { put } from '../../patch/ground.ts';
import { freely, makeTwoSides, stepped, type TwoSides } from './two-sides.ts';

/** What killed processes leave beside a worktree's state goes with the next exchange, and what is in use stays. */

const PROGRAM = join(import.meta.dirname, 'step-program.ts');
const RUN_MS = 60_000;
const DAY_MS = 24 * 3600_000;

let sides: TwoSides;
let dir: string;
beforeEach(async () => {
  sides = await makeTwoSides();
  dir = join(sides.near, '.git/khlone');
});
afterEach(() => sides.remove());

const syncNow = async () => stepped(await sync(sides.place, sides.link, freely));

const dieAt = (fault: string, step: string): Promise<void> =>
  new Promise((resolve, reject) => {
    const args = [PROGRAM, sides.near, sides.far, sides.patchPlace.zonesDir, step];
    const options = { env: { ...process.env, KHLONE_FAULT: fault }, timeout: RUN_MS };
    execFile(process.execPath, args, options, (error, _, stderr) => {
      if (error?.signal === 'SIGKILL') resolve();
      else reject(new Error(`it did not die: ${stderr}`));
    });
  });

/** As if it had been made then. */
const age = (name: string, ms: number): void => {
  const then = new Date(Date.now() - ms);
  utimesSync(join(dir, name), then, then);
};

const lay = (name: string, ms: number, text = ''): void => {
  writeFileSync(join(dir, name), text);
  age(name, ms);
};

it('sweeps a payload and a lock whose maker was killed', async () => {
  await syncNow();
  const clean = readdirSync(dir).sort();
  // Large enough to lie in a file on its way.
  put(sides.near, 'kept.txt', randomBytes(200_000));
  await dieAt('patch.sealed:1', 'sync');
  const left = readdirSync(dir).filter((name) => !clean.includes(name));
  expect(left.map((name) => name.replace(/[\d.]*-?[0-9a-f]*$/u, '')).sort()).toEqual([
    ...['lock', 'lock', 'payload'],
  ]);
  for (const name of left) if (name.startsWith('lock.')) age(name, DAY_MS);
  expect((await syncNow()).done).toEqual(['kept.txt']);
  expect(readdirSync(dir).sort()).toEqual(clean);
});

it('sweeps what was made before there was a lock, once it is old', async () => {
  mkdirSync(join(dir, 'shadow.git.0123456789ab'));
  writeFileSync(join(dir, 'shadow.git.0123456789ab/HEAD'), '');
  age('shadow.git.0123456789ab', DAY_MS);
  lay('replica.json.99.01234567', DAY_MS);
  lay('replica.json.99.89abcdef', 0);
  mkdirSync(join(dir, 'proof-0123456789ab'));
  mkdirSync(join(dir, 'shadow.git/marked-Abc123'));
  age('shadow.git/marked-Abc123', DAY_MS);
  const notOurs = ['payload.txt', 'resolve', 'lock.old', 'my-payload-0123456789ab'];
  for (const name of notOurs) lay(name, 100 * DAY_MS);
  await syncNow();
  const names = readdirSync(dir);
  for (const name of ['shadow.git.0123456789ab', 'replica.json.99.01234567', 'proof-0123456789ab'])
    expect(names).not.toContain(name);
  expect(readdirSync(join(dir, 'shadow.git'))).not.toContain('marked-Abc123');
  for (const name of [...notOurs, 'replica.json.99.89abcdef', 'shadow.git']) expect(names).toContain(name);
});

it('keeps a text that a person may have worked on for a week, and one in an open editor for longer', async () => {
  const other = spawn('sleep', ['600'], { stdio: 'ignore' });
  try {
    const start = await startOf(other.pid ?? 0);
    const open = `resolve-${other.pid}-${start}-01234567-a.txt`;
    const [week, young] = [DISPLACED_KEPT.ms + DAY_MS, DISPLACED_KEPT.ms - DAY_MS];
    // The same number, another process.
    lay(`resolve-${other.pid}-1-01234567-a.txt`, week, 'mine\n');
    lay('resolve-01234567-old-name.txt', week, 'mine\n');
    lay('resolve-01234567-young.txt', young, 'mine\n');
    lay(open, week, 'mine\n');
    await syncNow();
    const texts = () => readdirSync(dir).filter((name) => name.startsWith('resolve-'));
    expect(texts().sort()).toEqual([open, 'resolve-01234567-young.txt'].sort());
    const ended = new Promise((resolve) => other.once('exit', resolve));
    other.kill('SIGKILL');
    await ended;
    await syncNow();
    expect(texts()).toEqual(['resolve-01234567-young.txt']);
  } finally {
    other.kill('SIGKILL');
  }
});

it('leaves what an editor has open while others exchange', async () => {
  put(sides.near, 'kept.txt', 'mine\n');
  put(sides.far, 'kept.txt', 'of the zone\n');
  stepped(await pull(sides.place, sides.link, freely));
  let seen = '';
  const merge = async (file: string): Promise<number> => {
    seen = file;
    age(file.slice(dir.length + 1), 100 * DAY_MS);
    await syncNow();
    expect(existsSync(file)).toBe(true);
    writeFileSync(file, 'both\n');
    return 0;
  };
  expect((await resolveConflict(sides.place, 'kept.txt', { merge })).refused).toEqual([]);
  expect(existsSync(seen)).toBe(false);
});

it('names files from where a person stands who decides a conflict', async () => {
  for (const [root, text] of [
    [sides.near, 'mine\n'],
    [sides.far, 'of the zone\n'],
  ] as const)
    for (const name of ['deep/one.txt', 'kept.txt']) put(root, name, text);
  stepped(await pull(sides.place, sides.link, freely));
  const cwd = join(sides.near, 'deep');
  const decide = (path: string) => resolveConflict(sides.place, path, { merge: async () => 1 }, cwd);
  const hint = 'conflicts: one.txt, ../kept.txt';
  await expect(decide('deep/none')).rejects.toMatchObject({ message: 'no conflict in none', hint });
  for (const path of ['', 'deep'])
    await expect(decide(path)).rejects.toMatchObject({ message: 'conflicts are decided file by file', hint });
  await expect(decide('deep/one.txt')).rejects.toMatchObject({
    hint: 'khlone resolve one.txt --merge opens it again',
  });
});

it('names the maker of an edited text whatever the file is called', async () => {
  const marked = { path: '77-88-01234567-x', text: Buffer.from('a\n'), markerSize: 7 };
  const name = await editMarked(
    dir,
    marked,
    async () => 0,
    async (_, file) => ({ taken: true, value: file }),
  );
  expect(name.slice(dir.length + 1)).toMatch(
    new RegExp(`^resolve-${process.pid}-${await startOf(process.pid)}-[0-9a-f]{8}-77-88-01234567-x$`, 'u'),
  );
});

it.skipIf(!existsSync('/dev/full'))('a full disk is told in words, with the next step', async () => {
  const full = inTurn(join(sides.near, '.git'), () => writeFile('/dev/full', 'x'));
  await expect(full).rejects.toMatchObject({ code: 'disk-low', hint: 'free some space, then try again' });
  await inTurn(join(sides.near, '.git'), async () => {});
});
