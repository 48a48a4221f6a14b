import { spawn as spawnProcess } from 'node:child_process';
import { createHash } from 'node:crypto';
import { closeSync, fstatSync, lstatSync, mkdirSync, openSync, readFileSync, renameSync, rmSync, statSync, writeSync } from 'node:fs';
import { connect as connectSocket, type Server, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import type { DatabaseSync } from 'node:sqlite';
import { setTimeout as delay } from 'node:timers/promises';
import { KhloneError } from './error.ts';
import { CONNECT_DEADLINE_MS, SOCKET_PATH_BYTES } from './limits.ts';

/**
 * How a resident process (hub, server) is started and found. Exactly one lives per home: a starter holds the start
 * lock, the resident the life lock, both kept by the kernel, so a kill -9 leaves nothing stale behind.
 */

export type StartSpec = {
  socketPath: string;
  startLockPath: string;
  spawn: { argv: string[]; env: NodeJS.ProcessEnv; cwd: string };
  bootLogPath: string;
  /** How long connecting and starting may take together, in ms. */
  deadlineMs: number;
};

/** Locks are open databases: a handle that becomes unreachable is closed by the collector, and its lock is lost. */
export const heldLocks = new Map<string, DatabaseSync>();

const POLL_MS = 15;
const BOOT_LOG_LINES = 5;

/** A directory of ours alone. Throws `denied` where somebody else could put things into it. */
export const ensurePrivateDir = (path: string): void => {
  mkdirSync(path, { recursive: true, mode: 0o700 });
  const facts = lstatSync(path);
  const ours = facts.isDirectory() && facts.uid === process.getuid?.() && (facts.mode & 0o077) === 0;
  if (!ours) throw new KhloneError('denied', `${path} is not a private directory of yours`, `chmod 700 ${path}`);
};

/** The socket of a program of a home; in a short private place where the home's path is too long for the kernel. */
export const socketPathIn = (home: string, name: string): string => {
  const path = join(home, 'run', `${name}.sock`);
  if (Buffer.byteLength(path) <= SOCKET_PATH_BYTES) return path;
  const hash = createHash('sha256').update(home).digest('hex').slice(0, 8);
  return join(tmpdir(), `khlone-${process.getuid?.() ?? 0}-${hash}`, `${name}.sock`);
};

const tryLock = async (path: string): Promise<boolean> => {
  const { DatabaseSync: Database } = await import('node:sqlite');
  const db = new Database(path);
  try {
    db.exec('PRAGMA busy_timeout = 0');
    db.exec('BEGIN EXCLUSIVE');
  } catch {
    db.close();
    return false;
  }
  heldLocks.set(path, db);
  return true;
};

const releaseLock = (path: string): void => {
  heldLocks.get(path)?.close();
  heldLocks.delete(path);
};

/** Holds the life lock until the process ends. Throws `start-failed` where another resident lives. */
export const holdLifeLock = async (path: string): Promise<void> => {
  ensurePrivateDir(dirname(path));
  if (await tryLock(path)) return;
  throw new KhloneError('start-failed', 'another one is running for this home', 'khlone stop ends it');
};

/** Binds under a temporary name and renames onto the path, so that the path never leads to a socket nobody answers. */
export const listenByRename = async (server: Server, path: string): Promise<() => void> => {
  ensurePrivateDir(dirname(path));
  const temp = `${path}.${process.pid % 100_000}`;
  rmSync(temp, { force: true });
  const before = process.umask(0o077);
  try {
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject);
      server.listen(temp, resolve);
    });
  } finally {
    process.umask(before);
  }
  const { ino } = statSync(temp);
  renameSync(temp, path);
  return () => {
    try {
      if (statSync(path).ino === ino) rmSync(path);
    } catch {
      // Somebody removed it already.
    }
  };
};

/** Tells the starter that the socket answers: descriptor 3 is its pipe, if there is a starter. */
export const signalReady = (): void => {
  try {
    if (!fstatSync(3).isFIFO() && !fstatSync(3).isSocket()) return;
    writeSync(3, 'ready\n');
    closeSync(3);
  } catch {
    // Started by hand.
  }
};

/** Connects, or says why not: `absent` where nobody listens. A time-out is not absence: it throws. */
const tryConnect = (path: string): Promise<Socket | 'absent'> =>
  new Promise((resolve, reject) => {
    const socket = connectSocket(path);
    const timer = setTimeout(() => {
      socket.destroy();
      reject(new KhloneError('unreachable', 'khlone is there but does not answer', 'khlone doctor'));
    }, CONNECT_DEADLINE_MS);
    socket.once('connect', () => {
      clearTimeout(timer);
      resolve(socket);
    });
    socket.once('error', (error: NodeJS.ErrnoException) => {
      clearTimeout(timer);
      if (error.code === 'ENOENT' || error.code === 'ECONNREFUSED') resolve('absent');
      else reject(new KhloneError('unreachable', `the socket cannot be opened: ${error.code}`, 'khlone doctor'));
    });
  });

const bootFailure = (path: string): KhloneError => {
  let said = '';
  try {
    said = readFileSync(path, 'utf8').trim().split('\n').slice(-BOOT_LOG_LINES).join(' / ').slice(0, 600);
  } catch {
    // It did not come so far.
  }
  return new KhloneError('start-failed', `khlone could not be started${said ? `: ${said}` : ''}`, `see ${path}`);
};

/** Starts the resident in a session of its own with nothing of the caller's: a held pipe would hang `$(khlone …)`. */
const start = async ({ spawn, bootLogPath }: StartSpec, deadlineMs: number): Promise<void> => {
  const [program = '', ...args] = spawn.argv;
  const log = openSync(bootLogPath, 'w', 0o600);
  const child = spawnProcess(program, args, {
    cwd: spawn.cwd,
    env: spawn.env,
    detached: true,
    stdio: ['ignore', log, log, 'pipe'],
  });
  closeSync(log);
  const pipe = child.stdio[3];
  try {
    await new Promise<void>((resolve, reject) => {
      const timer = setTimeout(() => reject(bootFailure(bootLogPath)), deadlineMs);
      const settle = (then: () => void) => (): void => {
        clearTimeout(timer);
        then();
      };
      child.once('error', settle(() => reject(bootFailure(bootLogPath))));
      pipe?.once('data', settle(resolve));
      pipe?.once('end', settle(() => reject(bootFailure(bootLogPath))));
    });
  } finally {
    pipe?.destroy();
    child.unref();
  }
};

/** A connection to the resident, which is started where nobody answers. Throws `start-failed`, `unreachable`. */
export const connectOrStart = async (spec: StartSpec): Promise<Socket> => {
  const endMs = performance.now() + spec.deadlineMs;
  const first = await tryConnect(spec.socketPath);
  if (first !== 'absent') return first;
  ensurePrivateDir(dirname(spec.startLockPath));
  ensurePrivateDir(dirname(spec.socketPath));
  while (!(await tryLock(spec.startLockPath))) {
    if (performance.now() > endMs) throw new KhloneError('start-failed', 'somebody else is starting khlone and does not end', 'khlone doctor');
    await delay(POLL_MS + Math.random() * POLL_MS);
    const other = await tryConnect(spec.socketPath);
    if (other !== 'absent') return other;
  }
  try {
    const raced = await tryConnect(spec.socketPath);
    if (raced !== 'absent') return raced;
    await start(spec, Math.max(1_000, endMs - performance.now()));
    const made = await tryConnect(spec.socketPath);
    if (made === 'absent') throw bootFailure(spec.bootLogPath);
    return made;
  } finally {
    releaseLock(spec.startLockPath);
  }
};
