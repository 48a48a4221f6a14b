import { symlink } from 'node:fs/promises';
import { faultPoint } from '../protocol/fault-point.ts';
import { enter, type Folder, removeEmpty, removeFolders } from './beneath.ts';
import { type BlobFacts, blobAt, type NoBlob } from './blob-id.ts';
import { isOurs } from './left-out.ts';
import type { Path } from './listing.ts';
import { link, lstat, readlink, readText, rename, unlink, writeSmall } from './near-disk.ts';
import { isSafePath } from './safe-path.ts';
import type { Change, Entry } from './tree.ts';

/**
 * One path of a worktree from what it is expected to be to what it shall be: compare and swap. What stands there is
 * moved aside, looked at, and only then replaced, by a link that never overwrites. So whatever an editor does in
 * between is either seen, and the path refused, or kept among the displaced files.
 *
 * Each step leaves marks, by which a later call for the same step knows how far an interrupted one came:
 * `new-N` the bytes to come, gone when they are in place; `old-N` what was moved aside; `no-N` the step was refused.
 */

export type Swap = {
  /** The worktree. */
  root: string;
  /** Where the marks lie, on the same file system as the worktree. */
  holding: string;
  /** Hexadecimal digits of an object id. */
  idLength: number;
};

export const CHANGED = 'changed meanwhile';
const BLOCKED = 'a folder of its path is a file or a link';
const FOLDER = 'a folder with files that do not travel stands in its place';
const UNSAFE = 'not a name for a worktree';
const FOREIGN = 'on another file system';

export const newMark = (swap: Swap, n: number): string => `${swap.holding}/new-${n}`;
export const oldMark = (swap: Swap, n: number): string => `${swap.holding}/old-${n}`;
const noMark = (swap: Swap, n: number): string => `${swap.holding}/no-${n}`;

type Found = BlobFacts | NoBlob | undefined;

const isEntry = (found: Found, entry: Entry | undefined): boolean => {
  if (found === undefined || entry === undefined) return found === undefined && entry === undefined;
  return typeof found !== 'string' && found.mode === entry.mode && found.oid === entry.oid;
};

const exists = (path: string): Promise<boolean> =>
  lstat(path).then(
    () => true,
    () => false,
  );

const codeOf = (thrown: unknown): string => (thrown as NodeJS.ErrnoException).code ?? '';

/** Gives a name to what lies at `from`, where nothing has that name. False: somebody else has it. */
const place = async (from: string, to: Buffer): Promise<boolean> => {
  try {
    const facts = await lstat(from);
    // link(2) would follow a symbolic link on some systems.
    if (facts.isSymbolicLink()) await symlink(await readlink(from), to);
    else if (facts.isDirectory()) await rename(from, to);
    else await link(from, to);
    return true;
  } catch (thrown) {
    if (['EEXIST', 'ENOTEMPTY', 'ENOTDIR'].includes(codeOf(thrown))) return false;
    // The folder that it was to lie in was removed meanwhile.
    if (codeOf(thrown) === 'ENOENT' && (await exists(from))) return false;
    throw thrown;
  }
};

/** Puts back what was moved aside, unless somebody has made something in its place: then both are kept. */
const restore = async (aside: string, path: Buffer): Promise<void> => {
  if (!(await place(aside, path))) return;
  await unlink(aside).catch(() => {});
};

/** Removes the folders that a removal left empty, as git does. */
const pruneFolders = async (root: string, path: Path): Promise<void> => {
  const names = path.split('/').slice(0, -1);
  await removeFolders(
    root,
    names.map((_, n) => names.slice(0, names.length - n)),
  );
};

/** Whether the bytes to come are linked in already, and only their other name is left. */
const isLinked = async (mark: string, found: Found): Promise<boolean> => {
  if (found === undefined || typeof found === 'string') return false;
  const facts = await lstat(mark).catch(() => undefined);
  return facts !== undefined && facts.ino === found.stat.ino && facts.dev === found.stat.dev;
};

/** Moves aside what is there and looks at it. A reason: it was not what it should be, and is back. */
const displace = async (swap: Swap, n: number, path: Buffer, before: Entry): Promise<string | undefined> => {
  const aside = oldMark(swap, n);
  if (!(await exists(aside))) {
    try {
      await rename(path, aside);
    } catch (thrown) {
      if (codeOf(thrown) === 'EXDEV') return FOREIGN;
      if (codeOf(thrown) === 'ENOENT') return CHANGED;
      throw thrown;
    }
  }
  faultPoint('apply.aside');
  if (isEntry(await blobAt(Buffer.from(aside), swap.idLength), before)) return undefined;
  await restore(aside, path);
  return CHANGED;
};

const replace = async (
  swap: Swap,
  n: number,
  change: Change,
  folder: Folder,
): Promise<string | undefined> => {
  const path = folder.at(change.path.slice(change.path.lastIndexOf('/') + 1));
  const { before, after } = change;
  const mark = newMark(swap, n);
  const wasAside = before !== undefined && (await exists(oldMark(swap, n)));
  const found = await blobAt(path, swap.idLength);
  const isDone = isEntry(found, after) || (after !== undefined && (await isLinked(mark, found)));
  if (!isDone) {
    const isFolder = before === undefined && found === 'folder';
    if (isFolder && !(await removeEmpty(swap.root, change.path.split('/')))) return FOLDER;
    if (!isFolder && !wasAside && !isEntry(found, before)) return CHANGED;
    const why = before && (await displace(swap, n, path, before));
    if (why !== undefined) return why;
    if (after && !(await place(mark, path))) return CHANGED;
  }
  faultPoint('apply.placed');
  if (after) await unlink(mark);
  return undefined;
};

/** A removal whose file was moved aside and is the right one is over, whatever came to its place since. */
const remove = async (swap: Swap, n: number, change: Change): Promise<string | undefined> => {
  const names = change.path.split('/');
  const folder = await enter(swap.root, names.slice(0, -1), false);
  if (!folder) return undefined;
  const { before } = change;
  try {
    const isAside = before !== undefined && (await exists(oldMark(swap, n)));
    const why = isAside
      ? await displace(swap, n, folder.at(names.at(-1) ?? ''), before)
      : await replace(swap, n, change, folder);
    if (why !== undefined) return why;
  } finally {
    await folder.close();
  }
  await pruneFolders(swap.root, change.path);
  return undefined;
};

const write = async (swap: Swap, n: number, change: Change): Promise<string | undefined> => {
  // The bytes are in place since an earlier call; what came after them is somebody's next edit.
  if (!(await exists(newMark(swap, n)))) return undefined;
  const folder = await enter(swap.root, change.path.split('/').slice(0, -1), true);
  if (!folder) return BLOCKED;
  try {
    return await replace(swap, n, change, folder);
  } finally {
    await folder.close();
  }
};

/** What a try again would not change: one path that may not be written never stops the others. */
const LASTING: ReadonlySet<string> = new Set([
  ...['EACCES', 'EPERM', 'EROFS', 'ENAMETOOLONG', 'ELOOP', 'EBUSY', 'ETXTBSY', 'EISDIR', 'EINVAL'],
]);

/** One try; where the file system forbids it half-way, what was moved aside is put back. */
const attempt = async (swap: Swap, n: number, change: Change): Promise<string | undefined> => {
  try {
    return await (change.after ? write(swap, n, change) : remove(swap, n, change));
  } catch (thrown) {
    if (!LASTING.has(codeOf(thrown))) throw thrown;
    const names = change.path.split('/');
    const folder = await enter(swap.root, names.slice(0, -1), false).catch(() => undefined);
    if (folder && (await exists(oldMark(swap, n))))
      await restore(oldMark(swap, n), folder.at(names.at(-1) ?? '')).catch(() => {});
    await folder?.close();
    return `may not be written (${codeOf(thrown)})`;
  }
};

/**
 * Swaps one path; repeatable after any interruption. Answers nothing when the path is as it shall be, else why it was
 * left as it is: then it was changed by somebody else, or is no path for us. Throws what the file system says.
 */
export const swapPath = async (swap: Swap, n: number, change: Change): Promise<string | undefined> => {
  const refused = await readText(noMark(swap, n)).catch(() => undefined);
  if (refused !== undefined) return refused || CHANGED;
  const isOpen = isSafePath(change.path) && !isOurs(change.path);
  const why = isOpen ? await attempt(swap, n, change) : UNSAFE;
  if (why !== undefined) await writeSmall(noMark(swap, n), why, { mode: 0o600 });
  return why;
};

/**
 * Puts back what a removal displaced because it stood in the way, once its new place turned out not to be written: its
 * bytes would be nowhere in the worktree. Repeatable like a swap. False: something else stands there by now, and what
 * was displaced is only kept.
 */
export const putBack = async (
  swap: Swap,
  n: number,
  { path, before }: Change,
  why: string,
): Promise<boolean> => {
  const names = path.split('/');
  const folder = await enter(swap.root, names.slice(0, -1), true);
  if (!folder) return false;
  try {
    const there = folder.at(names.at(-1) ?? '');
    if (await exists(oldMark(swap, n))) await restore(oldMark(swap, n), there);
    if (!isEntry(await blobAt(there, swap.idLength), before)) return false;
  } finally {
    await folder.close();
  }
  await writeSmall(noMark(swap, n), why, { mode: 0o600 });
  return true;
};
