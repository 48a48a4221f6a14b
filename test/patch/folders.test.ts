import { mkdirSync, rmSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import { confirmed, lookAgain, noteFolders } from '../../src/patch/folders.ts';
import { snapshotTree } from '../../src/patch/snapshot.ts';
import { gitIn, makeGround, makeRepo, nextTick, put, snapshotWish } from './ground.ts';

/** A file that comes into a worktree is seen by the time of its folder, wherever that is and whatever was ignored. */

let ground: ReturnType<typeof makeGround>;
let root: string;
beforeEach(() => {
  ground = makeGround();
  root = makeRepo(ground.dir);
  // What changed just now is looked at again in any case: by a clock that is ahead all of it is old.
  vi.useFakeTimers({ toFake: ['Date'], now: Date.now() + 60_000 });
});
afterEach(() => {
  vi.useRealTimers();
  ground.remove();
});

const treeNow = async (): Promise<string> => (await snapshotTree(snapshotWish(root))).tree;
const treeAnew = async (n: number): Promise<string> =>
  (await snapshotTree({ ...snapshotWish(root), shadowDir: join(ground.dir, `anew-${n}`) })).tree;

const change = (what: () => void): void => {
  nextTick(join(ground.dir, 'probe'));
  what();
};

const ignores = (name: string, text: string) => (): void => put(root, name, text);

/** Each story: what is there when the folders are noted, and what happens one after the other. */
const STORIES: Record<string, [before: () => void, ...steps: (() => void)[]]> = {
  'a folder that had none': [
    () => mkdirSync(join(root, 'empty/deeper'), { recursive: true }),
    ignores('empty/deeper/new', 'x'),
  ],
  'a folder that is new itself': [() => {}, ignores('one/two/new', 'x'), ignores('one/two/other', 'y')],
  'a folder of ignored files': [
    ignores('.gitignore', '*.log\n'),
    ignores('logs/a.log', 'x'),
    ignores('logs/b', 'y'),
  ],
  'a folder that .gitignore covered': [
    () => {
      put(root, '.gitignore', 'build/\n');
      put(root, 'build/out', 'x');
    },
    ignores('.gitignore', 'built/\n'),
    ignores('build/new', 'y'),
  ],
  'a folder that info/exclude covered': [
    () => {
      put(root, '.git/info/exclude', 'build/\n');
      put(root, 'build/out', 'x');
    },
    ignores('.git/info/exclude', '\n'),
    ignores('build/new', 'y'),
  ],
  'a folder that a person ignores everywhere': [
    () => {
      put(root, '.git/mine', 'build/\n');
      put(root, 'build/out', 'x');
      gitIn(root, 'config', 'core.excludesFile', join(root, '.git/mine'));
    },
    ignores('.git/mine', '\n'),
    () => gitIn(root, 'config', 'core.excludesFile', join(root, '.git/other')),
    ignores('.git/other', 'build/out\n'),
  ],
  'a folder whose own rules cover themselves': [
    () => {
      put(root, 'cache/.gitignore', '*\n');
      put(root, 'cache/held', 'x');
    },
    ignores('cache/.gitignore', 'held\n.gitignore\n'),
    ignores('cache/new', 'y'),
    () => rmSync(join(root, 'cache/.gitignore')),
  ],
  'a folder that gets rules of its own': [
    ignores('some/a', 'x'),
    ignores('some/.gitignore', '.gitignore\nb\n'),
    ignores('some/b', 'y'),
    ignores('some/c', 'z'),
    ignores('some/.gitignore', '.gitignore\n'),
  ],
  'a folder with a name that means more to git': [
    ignores(':(top)x/a*/one', 'x'),
    ignores(':(top)x/a*/two', 'y'),
  ],
};

for (const [name, [before, ...steps]] of Object.entries(STORIES)) {
  it(`sees a file that comes into ${name}`, async () => {
    before();
    // The first look has no note, the second one makes it.
    for (let n = 0; n < 3; n += 1) await treeNow();
    for (const [n, step] of steps.entries()) {
      change(step);
      expect(await treeNow()).toBe(await treeAnew(n));
      expect(await treeNow()).toBe(await treeAnew(n));
    }
  });
}

const place = () => ({ ...snapshotWish(root), worktree: root });

it('asks no git where nothing came', async () => {
  put(root, '.gitignore', 'modules/\n');
  put(root, 'modules/far/below', 'x');
  put(root, 'src/deep/one', 'x');
  const noted = await noteFolders(place());
  expect(noted.seen.map(([path]) => path).toSorted()).toEqual(['', 'folder', 'src', 'src/deep']);
  expect(await lookAgain(place(), noted)).toEqual({ isSame: true, now: noted });
  change(() => put(root, 'modules/far/new', 'x'));
  expect(await lookAgain(place(), noted)).toEqual({ isSame: true, now: noted });
});

it('sees by the names that a file was only written anew under its own', async () => {
  put(root, 'src/one', 'x');
  const noted = await noteFolders(place());
  change(() => {
    put(root, 'src/one.tmp', 'y');
    rmSync(join(root, 'src/one.tmp'));
  });
  expect((await lookAgain(place(), noted)).isSame).toBe(true);
  change(() => put(root, 'src/two', 'y'));
  const again = await lookAgain(place(), noted);
  expect(again.isSame).toBe(false);
  expect((await lookAgain(place(), again.now ?? noted)).isSame).toBe(true);
});

it('does not take a name for known that was away while git listed the files', async () => {
  put(root, 'src/one', 'x');
  const noted = await noteFolders(place());
  expect(await confirmed(place(), noted)).toEqual(noted);
  change(() => rmSync(join(root, 'src/one')));
  const sure = await confirmed(place(), noted);
  change(() => put(root, 'src/one', 'x'));
  expect((await lookAgain(place(), sure)).isSame).toBe(false);
});

it('believes no time of change that the disk could give again', async () => {
  const changedMs = statSync(root).ctimeMs;
  const believed = async (nowMs: number): Promise<boolean[]> => {
    vi.setSystemTime(nowMs);
    const { seen } = await confirmed(place(), await noteFolders(place()));
    return seen.map(([, , atMs, names]) => atMs !== 0 && names !== '');
  };
  expect(await believed(changedMs + 90)).toContain(false);
  expect(await believed(changedMs + 5_000)).not.toContain(false);
});

it('forgets a folder that is gone', async () => {
  put(root, 'src/one', 'x');
  const noted = await noteFolders(place());
  change(() => rmSync(join(root, 'src'), { recursive: true }));
  const { isSame, now } = await lookAgain(place(), noted);
  expect({ isSame, again: await lookAgain(place(), now ?? noted) }).toEqual({
    ...{ isSame: false, again: { isSame: true, now } },
  });
});

it('lists the files each time where the disk may not keep times, or nothing was noted', async () => {
  const none = await noteFolders({ ...place(), worktree: '/proc' });
  expect(none.seen).toEqual([]);
  expect(await lookAgain(place(), none)).toEqual({ isSame: false, now: none });
});
