import { spawn as spawnProcess } from 'node:child_process';
import { closeSync, openSync, readFileSync, renameSync, rmSync, writeSync } from 'node:fs';
import { connect as connectSocket, type Server, type Socket } from 'node:net';
import { dirname, join } from 'node:path';
import type { DatabaseSync } from 'node:sqlite';
import type { Readable } from 'node:stream';
import { setTimeout as delay } from 'node:timers/promises';
import { KhloneError } from './error.ts';
import {
  CONNECT_DEADLINE_MS,
  LIFE_LOCK_DEADLINE_MS,
  SOCKET_PATH_BYTES,
  START_LOCK_DEADLINE_MS,
} from './limits.ts';
import { ownSocket } from './own-socket.ts';
import { ensurePrivateDir } from './private-dir.ts';

/**
 * How a resident process (hub, server) is started and found. Exactly one lives per home: who starts it holds the start
 * lock, the resident holds the life lock. The kernel keeps both, so whatever is killed leaves nothing stale behind.
 * Where the resident answers, nothing but a connect happens here: locks and SQLite are loaded when they are needed.
 */

export type StartSpec = {
  socketPath: string;
  startLockPath: string;
  spawn: { argv: string[]; env: NodeJS.ProcessEnv; cwd: string };
  /** What the resident writes to stdout and stderr; written anew by each start. */
  bootLogPath: string;
  /** Milliseconds that waiting for another starter and starting may take together. */
  deadlineMs: number;
};

/** Locks are open databases: a handle that becomes unreachable is closed by the collector, and its lock is lost. */
export const heldLocks = new Map<string, DatabaseSync>();

/** Tells the child that descriptor 3 is its starter's pipe. Without it, 3 may be anything, even one of Node's own. */
const READY_VARIABLE = 'KHLONE_READY_FD';
const READY_FD = 3;
const POLL_MS = 15;
const BOOT_LOG_LINES = 5;
const BOOT_LOG_CHARS = 600;
const SQLITE_BUSY = 5;

/** A pause of POLL_MS up to twice that: many who wait for one lock must not ask in step. */
const pause = (): Promise<void> => delay(POLL_MS * (1 + Math.random()));

/**
 * A folder for sockets of a home: `dir`, or, where the path of `name` in it is too long for the kernel, a short private
 * one under /tmp (not TMPDIR: two shells with other settings must find the same one). Anybody may make that folder
 * first, so it is checked here, before somebody connects to what lies in it. Throws `denied`.
 */
export const socketFolder = (home: string, dir: string, name: string): string => {
  if (Buffer.byteLength(join(dir, name)) <= SOCKET_PATH_BYTES) return dir;
  // Loaded where it is needed: each command comes by here, and it is an eighth of what Node takes to start.
  const { createHash } = process.getBuiltinModule('node:crypto');
  const hash = createHash('sha256').update(home).digest('hex').slice(0, 8);
  const short = join('/tmp', `khlone-${process.getuid?.() ?? 0}-${hash}`);
  ensurePrivateDir(short);
  return short;
};

/** The socket of a program of a home: `run/<name>.sock`, or a shorter path. Throws `denied`. */
export const socketPathIn = (home: string, name: string): string => {
  const file = `${name}.sock`;
  return assertSocketPath(join(socketFolder(home, join(home, 'run'), file), file));
};

/** Longer paths are cut off or refused, by kernel and runtime in different ways. */
const assertSocketPath = (path: string): string => {
  if (Buffer.byteLength(path) <= SOCKET_PATH_BYTES) return path;
  throw new KhloneError(
    'config',
    `the socket path is over ${SOCKET_PATH_BYTES} bytes: ${path}`,
    'use a shorter KHLONE_HOME',
  );
};

/** Takes a lock, or answers false where another process has it. Throws `start-failed` where it cannot be asked for. */
const tryLock = async (path: string): Promise<boolean> => {
  const { DatabaseSync: Database } = await import('node:sqlite');
  let db: DatabaseSync | undefined;
  try {
    db = new Database(path, { timeout: 0 });
    db.exec('BEGIN EXCLUSIVE');
  } catch (thrown) {
    db?.close();
    if ((thrown as { errcode?: unknown }).errcode === SQLITE_BUSY) return false;
    throw new KhloneError(
      'start-failed',
      `the lock ${path} cannot be taken: ${(thrown as Error).message}`,
      'khlone doctor',
    );
  }
  heldLocks.set(path, db);
  return true;
};

const releaseLock = (path: string): void => {
  heldLocks.get(path)?.close();
  heldLocks.delete(path);
};

/** A word to the starter, if there is one. */
const tellStarter = (word: 'ready' | 'held'): void => {
  if (process.env[READY_VARIABLE] !== String(READY_FD)) return;
  try {
    writeSync(READY_FD, `${word}\n`);
  } catch {
    // The starter is gone; the next one will find us by our socket.
  }
};

/** Tells the starter that the socket answers, and lets go of its pipe. */
export const signalReady = (): void => {
  if (process.env[READY_VARIABLE] !== String(READY_FD)) return;
  tellStarter('ready');
  delete process.env[READY_VARIABLE];
  closeSync(READY_FD);
};

/**
 * Holds the life lock until the process ends. Another holder may be on its way out, so this waits a while for it;
 * the starter is told, for the holder may as well be one that has only just begun. Throws `start-failed`.
 */
export const holdLifeLock = async (path: string): Promise<void> => {
  ensurePrivateDir(dirname(path));
  const endMs = performance.now() + LIFE_LOCK_DEADLINE_MS;
  for (let told = false; !(await tryLock(path)); told = true) {
    if (!told) tellStarter('held');
    if (performance.now() > endMs) {
      throw new KhloneError('start-failed', 'another one is running for this home', 'khlone stop ends it');
    }
    await pause();
  }
};

/**
 * Binds under a temporary name and renames onto `path`: the path leads at every moment to a socket that listens, or to
 * none. Only who holds the life lock may do this, and who lost its socket must end. Answers with what removes it.
 */
export const listenByRename = async (
  server: Server,
  path: string,
  onLost: () => void = () => {},
): Promise<() => void> => {
  ensurePrivateDir(dirname(path));
  const temporary = join(dirname(assertSocketPath(path)), `.${process.pid.toString(36)}`);
  rmSync(temporary, { force: true });
  const before = process.umask(0o077);
  try {
    const bound = Promise.withResolvers<void>();
    server.once('error', bound.reject);
    server.listen(temporary, bound.resolve);
    await bound.promise;
    server.off('error', bound.reject);
  } finally {
    process.umask(before);
  }
  renameSync(temporary, path);
  return ownSocket(path, onLost);
};

/** Nobody listens. ECONNRESET: who did died with our connection in its queue. ENOTDIR: the home is no folder. */
const NOBODY: ReadonlySet<string> = new Set(['ENOENT', 'ECONNREFUSED', 'ECONNRESET', 'ENOTDIR']);

/** Connects; undefined where nobody listens. A time-out is no such proof (a stopped process listens): it throws. */
const tryConnect = (path: string): Promise<Socket | undefined> => {
  const done = Promise.withResolvers<Socket | undefined>();
  const socket = connectSocket(assertSocketPath(path));
  const fail = (why: string): void => {
    socket.destroy();
    done.reject(new KhloneError('unreachable', `khlone is there, but ${why}`, 'khlone doctor'));
  };
  const timer = setTimeout(fail, CONNECT_DEADLINE_MS, `took no connection in ${CONNECT_DEADLINE_MS} ms`);
  socket.once('connect', () => {
    clearTimeout(timer);
    socket.off('error', onError);
    done.resolve(socket);
  });
  const onError = ({ code }: NodeJS.ErrnoException): void => {
    clearTimeout(timer);
    if (NOBODY.has(code ?? '')) done.resolve(undefined);
    else fail(`its socket cannot be opened: ${code}`);
  };
  socket.once('error', onError);
  return done.promise;
};

const lastLines = (path: string): string => {
  try {
    const lines = readFileSync(path, 'utf8').trim().split('\n').slice(-BOOT_LOG_LINES);
    return lines.join(' / ').slice(-BOOT_LOG_CHARS);
  } catch {
    return '';
  }
};

const bootFailure = (path: string, why = lastLines(path)): KhloneError =>
  new KhloneError('start-failed', `khlone could not be started${why ? `: ${why}` : ''}`, `see ${path}`);

/** How far a starting resident is: the words it said, and whether it has let go of its pipe without `ready`. */
type Boot = { said: string; ended: boolean; fault: string | undefined; pipe: Readable };

/**
 * Starts the resident in a session of its own, with nothing of the caller's: a descriptor that it inherited would keep
 * `$(khlone …)` waiting until the resident ends.
 */
const launch = ({ spawn, bootLogPath }: StartSpec): Boot => {
  const [program = '', ...args] = spawn.argv;
  const log = openSync(bootLogPath, 'w', 0o600);
  const child = spawnProcess(program, args, {
    cwd: spawn.cwd,
    env: { ...spawn.env, [READY_VARIABLE]: String(READY_FD) },
    detached: true,
    stdio: ['ignore', log, log, 'pipe'],
  });
  closeSync(log);
  child.unref();
  const boot: Boot = { said: '', ended: false, fault: undefined, pipe: child.stdio[READY_FD] as Readable };
  child.once('error', (error) => {
    boot.fault = error.message;
  });
  boot.pipe.on('data', (words) => {
    boot.said += words;
  });
  boot.pipe.once('close', () => {
    boot.ended = true;
  });
  boot.pipe.on('error', () => undefined);
  return boot;
};

/** Waits until the resident says more, lets go of its pipe, or `mostMs` have passed. */
const nextWord = async ({ pipe }: Boot, mostMs: number): Promise<void> => {
  const word = Promise.withResolvers<void>();
  const timer = setTimeout(word.resolve, mostMs);
  pipe.once('data', word.resolve).once('close', word.resolve);
  await word.promise;
  clearTimeout(timer);
  pipe.off('data', word.resolve).off('close', word.resolve);
};

/** Starts the resident and connects to it, or to one that turns out to live already. */
const start = async (spec: StartSpec, endMs: number): Promise<Socket> => {
  const boot = launch(spec);
  try {
    while (performance.now() < endMs) {
      // One that found the life lock held says so: its holder may have just begun, started by somebody since killed.
      const socket = boot.said || boot.ended ? await tryConnect(spec.socketPath) : undefined;
      if (socket) return socket;
      if (boot.ended || boot.said.includes('ready')) throw bootFailure(spec.bootLogPath, boot.fault);
      await nextWord(boot, boot.said ? POLL_MS : endMs - performance.now());
    }
    throw bootFailure(spec.bootLogPath, `it was not ready in ${spec.deadlineMs} ms`);
  } finally {
    boot.pipe.destroy();
  }
};

/**
 * A connection to the resident, which is started where nobody answers.
 * Throws `start-failed` with the last lines of the boot log, `unreachable` where it is there but takes no connection.
 */
export const connectOrStart = async (spec: StartSpec): Promise<Socket> => {
  const first = await tryConnect(spec.socketPath);
  if (first) return first;
  const beganMs = performance.now();
  ensurePrivateDir(dirname(spec.startLockPath));
  ensurePrivateDir(dirname(spec.socketPath));
  while (!(await tryLock(spec.startLockPath))) {
    if (performance.now() - beganMs > Math.min(spec.deadlineMs, START_LOCK_DEADLINE_MS)) {
      throw new KhloneError(
        'start-failed',
        'somebody else is starting khlone and does not end',
        'khlone doctor',
      );
    }
    await pause();
    const other = await tryConnect(spec.socketPath);
    if (other) return other;
  }
  try {
    return (await tryConnect(spec.socketPath)) ?? (await start(spec, beganMs + spec.deadlineMs));
  } finally {
    releaseLock(spec.startLockPath);
  }
};
