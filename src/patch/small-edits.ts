import { constants, type Stats } from 'node:fs';
import { enter } from './beneath.ts';
import { isYoung } from './file-mark.ts';
import { type Path, toBytes } from './listing.ts';
import { lstat, type OpenFile, openRead, readlink } from './near-disk.ts';
import { FEW_PATHS, idOf, MAX_SMALL_BYTES, renewObject, smallBlobs, writeObject } from './objects.ts';
import type { Shadow } from './shadow.ts';
import type { Wish } from './tree.ts';
import { editTree } from './tree-edit.ts';

/** A few small files of a worktree, read into a tree without the index, which at fifty thousand paths takes long. */

/** `mark`: tells this state of the file from every later one; absent where it is too young for that. */
type Read = { mode: string; bytes: Buffer; mark?: string | undefined };

/** What changed just now may change again at the same time: see `folders.ts`. */
const markOf = ({ dev, ino, size, ctimeMs }: Stats): string | undefined =>
  isYoung(ctimeMs) ? undefined : [dev, ino, size, ctimeMs].join(' ');

/** The bytes of an open file; undefined where it grew while it was read, or is too large. */
const readAll = async (handle: OpenFile): Promise<Read | undefined> => {
  const facts = await handle.stat();
  if (!facts.isFile() || facts.size > MAX_SMALL_BYTES) return undefined;
  const bytes = Buffer.alloc(facts.size + 1);
  let read = 0;
  for (;;) {
    const { bytesRead } = await handle.read(bytes, read, bytes.length - read, read);
    read += bytesRead;
    if (bytesRead === 0) break;
    if (read === bytes.length) return undefined;
  }
  if (read !== facts.size) return undefined;
  const mode = facts.mode & 0o100 ? '100755' : '100644';
  return { mode, bytes: bytes.subarray(0, read), mark: markOf(facts) };
};

const readFileAt = async (path: Buffer): Promise<Read | undefined> => {
  const facts = await lstat(path);
  if (facts.isSymbolicLink()) return { mode: '120000', bytes: await readlink(path) };
  if (!facts.isFile()) return undefined;
  const handle = await openRead(path, constants.O_NOFOLLOW);
  try {
    return await readAll(handle);
  } finally {
    await handle.close();
  }
};

/** What lies at a path, no link followed on the way; undefined where that is no file any more. */
const readBeneath = async (worktree: string, path: Path): Promise<Read | undefined> => {
  const names = path.split('/');
  const name = names.pop() ?? '';
  const folder = await enter(worktree, names, false);
  if (!folder) return undefined;
  try {
    return await readFileAt(folder.at(name));
  } finally {
    await folder.close();
  }
};

/**
 * Small files by their ids, for paths that should hold them: what the worktree has is as good as what git has, and costs
 * no process. Undefined where one is nowhere.
 */
export const smallFiles = async (
  shadow: Shadow,
  wanted: ReadonlyMap<Path, string>,
): Promise<Map<string, Buffer> | undefined> => {
  const found = new Map<string, Buffer>();
  const away: string[] = [];
  for (const [path, oid] of wanted) {
    const read = await readBeneath(shadow.worktree, path).catch(() => undefined);
    if (read && idOf('blob', read.bytes, shadow.zeroId.length) === oid) found.set(oid, read.bytes);
    else away.push(oid);
  }
  const others = await smallBlobs(shadow, away);
  return others && new Map([...found, ...others]);
};

type Known = { mark: string; mode: string; oid: string };

/** Files that were read before, by shadow and path; the latest come last. A person edits a few of them all day. */
const known = new Map<string, Known>();
const MAX_KNOWN = 1_000;

const keyOf = ({ dir }: Shadow, path: Path): string => `${dir}\0${path}`;

const keep = (key: string, entry: Known): void => {
  known.delete(key);
  known.set(key, entry);
  for (const [oldest] of known) {
    if (known.size <= MAX_KNOWN) return;
    known.delete(oldest);
  }
};

/** What an earlier look read, where the file is as it was and the shadow still has its bytes. */
const readBefore = async (shadow: Shadow, path: Path): Promise<Known | undefined> => {
  const before = known.get(keyOf(shadow, path));
  if (!before) return undefined;
  const facts = await lstat(Buffer.concat([Buffer.from(`${shadow.worktree}/`), toBytes(path)])).catch(
    () => undefined,
  );
  const isSame = facts && markOf(facts) === before.mark && (await renewObject(shadow, before.oid));
  return isSame ? before : undefined;
};

type Found = { mode: string; oid: string; bytes?: Buffer };

/** A file of the worktree; with its bytes where they may not be in the shadow yet. */
const find = async (shadow: Shadow, path: Path): Promise<Found | undefined> => {
  const before = await readBefore(shadow, path);
  if (before) return before;
  const read = await readBeneath(shadow.worktree, path);
  if (!read) return undefined;
  const { mode, bytes, mark } = read;
  const oid = idOf('blob', bytes, shadow.zeroId.length);
  if (mark !== undefined) keep(keyOf(shadow, path), { mark, mode, oid });
  return { mode, oid, bytes };
};

/**
 * The tree with these files of the worktree as they are now; undefined where it takes git: many or large ones, odd
 * names, or one that goes meanwhile. `sizes`: bytes by path.
 */
export const treeByHand = async (
  shadow: Shadow,
  tree: string,
  sizes: ReadonlyMap<Path, number>,
): Promise<string | undefined> => {
  const bytes = [...sizes.values()].reduce((sum, one) => sum + one, 0);
  if (!shadow.keepsModes || sizes.size > FEW_PATHS || bytes > MAX_SMALL_BYTES) return undefined;
  if (sizes.size === 0) return tree;
  try {
    const paths = [...sizes.keys()];
    const all = await Promise.all(paths.map((path) => find(shadow, path)));
    const found = all.filter((one) => one !== undefined);
    if (found.length < all.length) return undefined;
    const wishes: Wish[] = paths.map((path, at) => {
      const { mode, oid } = found[at] as Found;
      return { path, after: { mode, oid } };
    });
    const writes = found.map(({ bytes }) => bytes && writeObject(shadow, 'blob', bytes));
    const [edited] = await Promise.all([editTree(shadow, tree, wishes), ...writes]);
    return edited;
  } catch {
    // What is wrong there, git says in its words.
    return undefined;
  }
};
