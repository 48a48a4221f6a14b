import {
  type BigIntStats,
  closeSync,
  constants,
  fchmodSync,
  fstatSync,
  fsync,
  linkSync,
  lstatSync,
  mkdirSync,
  openSync,
  read,
  readdirSync,
  readlinkSync,
  readSync,
  realpathSync,
  renameSync,
  type Stats,
  statSync,
  unlinkSync,
  writeFileSync,
} from 'node:fs';
import * as pool from 'node:fs/promises';
import { dirname } from 'node:path';
import { promisify } from 'node:util';

/**
 * Questions to a disk of this machine, asked on the spot. Most often the kernel has the answer in memory and gives it
 * within microseconds; by way of Node's thread pool the same question takes ten times as long, and an exchange of
 * patches asks two hundred. A disk that is slow or away must hold up nobody's keys: only file systems of this machine
 * are asked like this, and after one slow answer the threads ask for a while. A small file is written the same way, in
 * 0.1 ms, 0.5 while others keep the disk busy; only that it is on the disk itself is waited for by a thread.
 */

/** File systems of this machine, by statfs(2): a server's or a program's may hang, or keep no times. */
const LOCAL: ReadonlySet<number> = new Set([
  ...[0xef53 /* ext2 to ext4 */, 0x58465342 /* xfs */, 0x9123683e /* btrfs */, 0x01021994 /* tmpfs */],
  ...[0xf2f52010 /* f2fs */, 0x2fc12fc1 /* zfs */, 0xca451a4e /* bcachefs */, 0x794c7630 /* overlay */],
]);
/** An answer that took longer waited for the disk, or the processor is busy. */
const SLOW_MS = 10;
/** So long the threads ask then: at most a hundredth of the time is spent waiting here. */
const PAUSE_MS = 1_000;
/** And in one turn of the loop no more than this, so that others have theirs. */
const TURN_MS = 3;
/** What is read at once. */
const SMALL_BYTES = 64 * 1024;
/** Folders of which it is known whether they are on such a disk. */
const MAX_FOLDERS = 20_000;

type Path = string | Buffer;

/** Whether the folder is on a file system of this machine; false where that cannot be told. */
export const isLocal = (folder: Path): Promise<boolean> =>
  pool.statfs(folder).then(
    ({ type }) => LOCAL.has(type),
    () => false,
  );

const near = new Map<string, boolean>();
const asked = new Set<string>();
let pausedUntilMs = 0;
let turnMs = 0;
let isTurnNoted = false;

/** One character per byte, whatever the path is. */
const textOf = (path: Path): string =>
  (typeof path === 'string' ? Buffer.from(path) : path).toString('latin1');

const folderOf = (path: Path): string => dirname(textOf(path));

/** What is not there would lie on the disk of the folder above. */
const isOnLocal = async (folder: Path): Promise<boolean> => {
  const isThere = await pool.stat(folder).then(
    () => true,
    () => false,
  );
  const above = folderOf(folder);
  return isThere || above === textOf(folder) ? isLocal(folder) : isOnLocal(Buffer.from(above, 'latin1'));
};

const note = (folder: string, isNear: boolean): void => {
  if (near.size >= MAX_FOLDERS) near.clear();
  near.set(folder, isNear);
};

const ask = (key: string): void => {
  // A name in there may be another folder's by the time of the answer.
  if (asked.has(key) || key.startsWith('/proc/')) return;
  asked.add(key);
  void isOnLocal(Buffer.from(key, 'latin1')).then((found) => {
    asked.delete(key);
    note(key, found);
  });
};

/** Whether a question about this path may be asked here and now. The first one about a folder asks for that. */
const isQuick = (path: Path, on?: string): boolean => {
  const key = on === undefined ? folderOf(path) : textOf(on);
  if (turnMs > TURN_MS || performance.now() < pausedUntilMs) return false;
  const known = near.get(key);
  if (known === undefined) ask(key);
  return known === true;
};

/** Another name of a folder, under /proc, for as long as it is one: it is on the disk that the folder is on. */
export const alsoNamed = (name: string, folder: Path): (() => void) => {
  const key = textOf(folder);
  const known = near.get(key);
  if (known === undefined) ask(key);
  note(name, known === true);
  return () => void near.delete(name);
};

const now = <T>(question: () => T): T => {
  const begun = performance.now();
  try {
    return question();
  } finally {
    const tookMs = performance.now() - begun;
    if (tookMs > SLOW_MS) pausedUntilMs = performance.now() + PAUSE_MS;
    turnMs += tookMs;
    if (!isTurnNoted)
      setImmediate(() => {
        turnMs = 0;
        isTurnNoted = false;
      });
    isTurnNoted = true;
  }
};

/** As `node:fs/promises` has them, with what they throw. `on`: a folder whose disk it is, where the path's own may be new. */
export const lstat = async (path: Path): Promise<Stats> =>
  isQuick(path) ? now(() => lstatSync(path)) : pool.lstat(path);

export const stat = async (path: Path, on?: string): Promise<Stats> =>
  isQuick(path, on) ? now(() => statSync(path)) : pool.stat(path);

export const statBig = async (path: Path): Promise<BigIntStats> =>
  isQuick(path) ? now(() => statSync(path, { bigint: true })) : pool.stat(path, { bigint: true });

export const exists = (path: Path, on?: string): Promise<boolean> =>
  stat(path, on).then(
    () => true,
    () => false,
  );

export const realpath = async (path: string): Promise<string> =>
  isQuick(path) ? now(() => realpathSync(path)) : pool.realpath(path);

/** A link's target in bytes. */
export const readlink = async (path: Path): Promise<Buffer> =>
  isQuick(path)
    ? now(() => readlinkSync(path, { encoding: 'buffer' }))
    : pool.readlink(path, { encoding: 'buffer' });

/** Of a folder of ours: a person's may have a hundred thousand names. */
export const readNames = async (path: string): Promise<string[]> =>
  isQuick(path) ? now(() => readdirSync(path)) : pool.readdir(path);

/** What is open for reading. */
export type OpenFile = {
  fd: number;
  stat(): Promise<Stats>;
  read(buffer: Buffer, offset: number, length: number, position: number): Promise<{ bytesRead: number }>;
  close(): Promise<void>;
};

const opened = (fd: number): OpenFile => ({
  fd,
  stat: async () => now(() => fstatSync(fd)),
  read: async (buffer, offset, length, position) =>
    length <= SMALL_BYTES
      ? { bytesRead: now(() => readSync(fd, buffer, offset, length, position)) }
      : promisify(read)(fd, buffer, offset, length, position),
  close: async () => closeSync(fd),
});

/** Opens for reading; never waits for whoever would write into a pipe. `flags` of open(2), besides. */
export const openRead = async (path: Path, flags = 0): Promise<OpenFile> => {
  const all = constants.O_RDONLY | constants.O_NONBLOCK | flags;
  return isQuick(path) ? opened(now(() => openSync(path, all))) : pool.open(path, all);
};

/** All of a file. Throws `EINVAL` for what is none: a pipe there would never end. */
export const readFile = async (path: Path): Promise<Buffer> => {
  const file = await openRead(path);
  try {
    const facts = await file.stat();
    if (!facts.isFile()) throw Object.assign(new Error(`EINVAL: no file, ${path}`), { code: 'EINVAL' });
    let buffer: Buffer = Buffer.alloc(facts.size + 1);
    for (let bytes = 0; ; ) {
      const { bytesRead } = await file.read(buffer, bytes, buffer.length - bytes, bytes);
      bytes += bytesRead;
      if (bytesRead === 0) return buffer.subarray(0, bytes);
      // It grew meanwhile.
      if (bytes === buffer.length) buffer = Buffer.concat([buffer, Buffer.alloc(SMALL_BYTES)]);
    }
  } finally {
    await file.close();
  }
};

/** `isNew`: throws `EEXIST` where something has that name. `permissions`: those that it gets, whatever the umask. */
type Writing = { mode: number; isNew?: boolean; permissions?: number };

/** A clone may share the folder: no link that it puts there is followed, and no pipe is waited for. */
const flagsFor = ({ isNew }: Writing): number => {
  const { O_WRONLY, O_CREAT, O_EXCL, O_TRUNC, O_NOFOLLOW, O_NONBLOCK } = constants;
  return O_WRONLY | O_CREAT | O_NOFOLLOW | O_NONBLOCK | (isNew ? O_EXCL : O_TRUNC);
};

const toDisk = promisify(fsync);

const writeHere = async (
  path: string,
  content: string | Buffer,
  how: Writing,
  isDurable: boolean,
): Promise<void> => {
  const fd = now(() => openSync(path, flagsFor(how), how.mode));
  try {
    now(() => writeFileSync(fd, content));
    if (how.permissions !== undefined) fchmodSync(fd, how.permissions);
    if (isDurable) await toDisk(fd);
  } finally {
    closeSync(fd);
  }
};

const write = async (
  path: string,
  content: string | Buffer,
  how: Writing,
  isDurable: boolean,
): Promise<void> => {
  if (content.length <= SMALL_BYTES && isQuick(path)) return writeHere(path, content, how, isDurable);
  const file = await pool.open(path, flagsFor(how), how.mode);
  try {
    await file.writeFile(content);
    if (how.permissions !== undefined) await file.chmod(how.permissions);
    if (isDurable) await file.sync();
  } finally {
    await file.close();
  }
};

/** Writes a file, which stays in the kernel's memory for now. */
export const writeSmall = (path: string, content: string | Buffer, how: Writing): Promise<void> =>
  write(path, content, how, false);

/** Writes a file that is on the disk when this returns; its name may not be. */
export const writeDurable = (path: string, content: string | Buffer, how: Writing): Promise<void> =>
  write(path, content, how, true);

/** Brings a file onto the disk, or the names in a folder. */
export const syncPath = async (path: string): Promise<void> => {
  if (!isQuick(path)) {
    const file = await pool.open(path, 'r');
    await file.sync().finally(() => file.close());
    return;
  }
  const fd = now(() => openSync(path, 'r'));
  await toDisk(fd).finally(() => closeSync(fd));
};

export const rename = async (from: Path, to: Path, on?: string): Promise<void> =>
  isQuick(to, on) ? now(() => renameSync(from, to)) : pool.rename(from, to);

/** Makes a folder in one that is there, on the same disk. Throws `EEXIST`. */
export const makeFolder = async (path: string, mode: number): Promise<void> => {
  if (!isQuick(path)) return pool.mkdir(path, mode).then(() => undefined);
  now(() => mkdirSync(path, mode));
  note(textOf(path), true);
};

export const link = async (from: Path, to: Path): Promise<void> =>
  isQuick(to) ? now(() => linkSync(from, to)) : pool.link(from, to);

export const unlink = async (path: Path): Promise<void> =>
  isQuick(path) ? now(() => unlinkSync(path)) : pool.unlink(path);

export const readText = async (path: Path): Promise<string> => (await readFile(path)).toString('utf8');
