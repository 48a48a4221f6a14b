import { mkdir, open, rename, rm } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { tellFull } from '../../patch/full-disk.ts';
import { exists, link, statBig, unlink, writeSmall } from '../../patch/near-disk.ts';
import { KhloneError } from '../../protocol/error.ts';
import { createTurns } from '../../protocol/turns.ts';
import { sweepLeftovers } from './leftovers.ts';
import { startOf, stillRuns } from './maker.ts';

/** One exchange of patches at a time for each worktree, also where two hubs of two homes share it. */

/** The longest that one waits for another: a first exchange of a large worktree takes minutes. */
const WAIT_MS = 10 * 60_000;
const POLL_MS = 50;

type Owner = { text: string; inode: bigint };

/** Who has the lock, by the file itself: a copy of a worktree copies the lock, but not the file that it is. */
const ownerOf = async (path: string): Promise<Owner | undefined> => {
  const handle = await open(path, 'r').catch(() => undefined);
  if (!handle) return undefined;
  try {
    const { ino } = await handle.stat({ bigint: true });
    return { text: await handle.readFile('utf8'), inode: ino };
  } finally {
    await handle.close();
  }
};

const isAlive = async ({ text, inode }: Owner): Promise<boolean> => {
  const [pid = '', start = '', made = ''] = text.trim().split(' ');
  return made === String(inode) && stillRuns(pid, start);
};

/** Takes a stale lock away. What was moved may be a newer lock by then: it goes back, unless there is one again. */
const takeAway = async (path: string, stale: Owner, mine: string): Promise<void> => {
  const aside = `${mine}.stale`;
  const isMoved = await rename(path, aside).then(
    () => true,
    () => false,
  );
  if (!isMoved) return;
  const moved = await ownerOf(aside);
  if (moved && moved.text !== stale.text) await link(aside, path).catch(() => {});
  await rm(aside, { force: true });
};

/** Answers whether that was possible. */
const take = (path: string, mine: string): Promise<boolean> =>
  link(mine, path).then(
    () => true,
    () => false,
  );

/** Takes the lock, or answers false while a living process has it. */
const tryLock = async (path: string, mine: string): Promise<boolean> => {
  if (await take(path, mine)) return true;
  const owner = await ownerOf(path);
  if (owner) {
    if (await isAlive(owner)) return false;
    await takeAway(path, owner, mine);
  }
  return take(path, mine);
};

/** Names this process, and the file that says so. */
const writeOwner = async (path: string): Promise<void> => {
  await writeSmall(path, '', { mode: 0o600 });
  const { ino } = await statBig(path);
  const start = (await startOf(process.pid)) || '-';
  await writeSmall(path, `${process.pid} ${start} ${ino}\n`, { mode: 0o600 });
};

/** Those of this process, by path: they wait in line without asking the disk. */
const inLine = createTurns();
let count = 0;

/** It may have been taken away meanwhile, with all of the worktree. */
const free = (path: string): Promise<void> =>
  unlink(path).catch((thrown: NodeJS.ErrnoException) => {
    if (thrown.code !== 'ENOENT' && thrown.code !== 'ENOTDIR') throw thrown;
  });

const locked = async <T>(gitDir: string, work: () => Promise<T>): Promise<T> => {
  const path = join(gitDir, 'khlone', 'lock');
  count += 1;
  const mine = `${path}.${process.pid}.${count}`;
  if (!(await exists(dirname(path)))) await mkdir(dirname(path), { recursive: true, mode: 0o700 });
  await writeOwner(mine);
  try {
    const end = performance.now() + WAIT_MS;
    while (!(await tryLock(path, mine))) {
      if (performance.now() > end)
        throw new KhloneError('timeout', 'another khlone exchanges patches in this worktree', `see ${path}`);
      await delay(POLL_MS);
    }
    try {
      await sweepLeftovers(dirname(path));
      return await work();
    } finally {
      await free(path);
    }
  } finally {
    await free(mine);
  }
};

/**
 * Runs `work` when nobody else exchanges patches in the worktree of this git directory. Throws `timeout`, `disk-low`.
 */
export const inTurn = <T>(gitDir: string, work: () => Promise<T>): Promise<T> =>
  inLine(gitDir, () =>
    locked(gitDir, work).catch((thrown: unknown) => {
      throw tellFull(thrown, gitDir);
    }),
  );
