import { link, mkdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { KhloneError } from '../../protocol/error.ts';

/** One exchange of patches at a time for each worktree, also where two hubs of two homes share it. */

/** The longest that one waits for another: a first exchange of a large worktree takes minutes. */
const WAIT_MS = 10 * 60_000;
const POLL_MS = 50;
/** The 22nd field of /proc/PID/stat, after the name in brackets, is the start time in ticks since the boot. */
const START_FIELD = 19;

/** Tells two processes of one number apart; empty where the system does not say. */
const startOf = async (pid: number): Promise<string> => {
  const text = await readFile(`/proc/${pid}/stat`, 'utf8').catch(() => '');
  return text.slice(text.lastIndexOf(')') + 2).split(' ')[START_FIELD] ?? '';
};

const isAlive = async (owner: string): Promise<boolean> => {
  const [pid = '', start = ''] = owner.trim().split(' ');
  if (!/^[1-9]\d*$/u.test(pid)) return false;
  try {
    process.kill(Number(pid), 0);
  } catch (thrown) {
    if ((thrown as NodeJS.ErrnoException).code === 'ESRCH') return false;
  }
  const now = await startOf(Number(pid));
  return start === '' || now === '' || start === now;
};

/** Takes the lock, or answers false while a living process has it. */
const tryLock = async (path: string, mine: string): Promise<boolean> => {
  const owner = await readFile(path, 'utf8').catch(() => undefined);
  if (owner !== undefined) {
    if (await isAlive(owner)) return false;
    // Moved away rather than removed: of two that find it stale, one moves it.
    await rename(path, `${mine}.stale`).catch(() => {});
    await rm(`${mine}.stale`, { force: true });
  }
  return link(mine, path).then(
    () => true,
    () => false,
  );
};

/** Those of this process, by path: they wait in line without asking the disk. */
const lines = new Map<string, Promise<unknown>>();
let count = 0;

const locked = async <T>(gitDir: string, work: () => Promise<T>): Promise<T> => {
  const path = join(gitDir, 'khlone', 'lock');
  count += 1;
  const mine = `${path}.${process.pid}.${count}`;
  await mkdir(dirname(path), { recursive: true, mode: 0o700 });
  await writeFile(mine, `${process.pid} ${await startOf(process.pid)}\n`, { mode: 0o600 });
  try {
    const end = performance.now() + WAIT_MS;
    while (!(await tryLock(path, mine))) {
      if (performance.now() > end)
        throw new KhloneError('timeout', 'another khlone exchanges patches in this worktree', `see ${path}`);
      await delay(POLL_MS);
    }
    try {
      return await work();
    } finally {
      await rm(path, { force: true });
    }
  } finally {
    await rm(mine, { force: true });
  }
};

/** Runs `work` when nobody else exchanges patches in the worktree of this git directory. Throws `timeout`. */
export const inTurn = <T>(gitDir: string, work: () => Promise<T>): Promise<T> => {
  const before = lines.get(gitDir) ?? Promise.resolve();
  const turn = before.then(
    () => locked(gitDir, work),
    () => locked(gitDir, work),
  );
  const settled = turn
    .catch(() => {})
    .finally(() => {
      if (lines.get(gitDir) === settled) lines.delete(gitDir);
    });
  lines.set(gitDir, settled);
  return turn;
};
