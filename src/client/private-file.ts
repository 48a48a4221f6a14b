import { randomBytes } from 'node:crypto';
import { mkdir, open, rename, rm } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { KhloneError } from '../protocol/error.ts';
import { heldLocks, holdLifeLock } from '../protocol/resident.ts';

/** Small files of one person under KHLONE_HOME: whole or not at all after a crash, readable by nobody else. */

const LOCK_DEADLINE_MS = 5_000;
const LOCK_POLL_MS = 10;

/**
 * Replaces a file at once: a reader sees the old content or the new one, also after a power cut. Mode 0600; its
 * folder is made with 0700.
 */
export const writePrivate = async (path: string, text: string): Promise<void> => {
  const folder = dirname(path);
  await mkdir(folder, { recursive: true, mode: 0o700 });
  const temp = join(folder, `.${basename(path)}.${randomBytes(6).toString('hex')}`);
  try {
    const file = await open(temp, 'wx', 0o600);
    try {
      await file.writeFile(text);
      await file.sync();
    } finally {
      await file.close();
    }
    await rename(temp, path);
  } catch (error) {
    await rm(temp, { force: true });
    throw error;
  }
  const directory = await open(folder, 'r');
  await directory.sync().finally(() => directory.close());
};

/** Takes the lock, or says that another one has it. */
const taken = async (lock: string): Promise<boolean> => {
  try {
    await holdLifeLock(lock);
    return true;
  } catch (error) {
    if (error instanceof KhloneError && error.code === 'start-failed') return false;
    throw error;
  }
};

/**
 * Runs `work` while no other khlone on this machine holds the lock of that file. It is the kernel's lock that also
 * guards the resident processes: whoever dies holds nothing. Throws `timeout` after five seconds, `denied` where the
 * folder is not private.
 */
export const withFileLock = async <Result>(path: string, work: () => Promise<Result>): Promise<Result> => {
  const lock = `${path}.lock`;
  const until = performance.now() + LOCK_DEADLINE_MS;
  while (!(await taken(lock))) {
    if (performance.now() > until)
      throw new KhloneError('timeout', `another khlone holds ${basename(path)}`, 'try again');
    await delay(LOCK_POLL_MS);
  }
  try {
    return await work();
  } finally {
    heldLocks.get(lock)?.close();
    heldLocks.delete(lock);
  }
};
