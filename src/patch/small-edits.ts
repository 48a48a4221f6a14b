import { constants } from 'node:fs';
import { type FileHandle, lstat, open, readlink } from 'node:fs/promises';
import { enter } from './beneath.ts';
import type { Path } from './listing.ts';
import { FEW_PATHS, idOf, MAX_SMALL_BYTES, smallBlobs, writeObject } from './objects.ts';
import type { Shadow } from './shadow.ts';
import type { Wish } from './tree.ts';
import { editTree } from './tree-edit.ts';

/** A few small files of a worktree, read into a tree without the index, which at fifty thousand paths takes long. */

type Read = { mode: string; bytes: Buffer };

/** The bytes of an open file; undefined where it grew while it was read, or is too large. */
const readAll = async (handle: FileHandle): Promise<Read | undefined> => {
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
  return { mode: facts.mode & 0o100 ? '100755' : '100644', bytes: bytes.subarray(0, read) };
};

const readFileAt = async (path: Buffer): Promise<Read | undefined> => {
  const facts = await lstat(path);
  if (facts.isSymbolicLink()) return { mode: '120000', bytes: await readlink(path, { encoding: 'buffer' }) };
  if (!facts.isFile()) return undefined;
  const handle = await open(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
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
    const reads = await Promise.all([...sizes.keys()].map((path) => readBeneath(shadow.worktree, path)));
    const files = reads.filter((read) => read !== undefined);
    if (files.length < reads.length) return undefined;
    const entries = files.map(({ mode, bytes: held }) => ({
      ...{ mode, oid: idOf('blob', held, shadow.zeroId.length) },
    }));
    const wishes: Wish[] = [...sizes.keys()].map((path, at) => ({ path, after: entries[at] }));
    const writes = files.map((file) => writeObject(shadow, 'blob', file.bytes));
    const [edited] = await Promise.all([editTree(shadow, tree, wishes), ...writes]);
    return edited;
  } catch {
    // What is wrong there, git says in its words.
    return undefined;
  }
};
