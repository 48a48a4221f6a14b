import { constants } from 'node:fs';
import { mkdir, open, readdir, rmdir } from 'node:fs/promises';
import { type Path, toBytes } from './listing.ts';
import { alsoNamed, lstat, type OpenFile, openRead, readlink, realpath } from './near-disk.ts';

/**
 * Folders below a worktree, entered one by one without following a symbolic link. Where /proc names open folders
 * (Linux), what is done in one stays in it even if somebody swaps a parent for a link meanwhile; elsewhere the names
 * are looked at and then used.
 */

export type Folder = {
  /** The path by which a name in this folder is reached. */
  at(name: Path): Buffer;
  close(): Promise<void>;
};

const { O_RDONLY, O_DIRECTORY, O_NOFOLLOW } = constants;
const AS_FOLDER = O_DIRECTORY | O_NOFOLLOW;
const NO_SUCH = new Set(['ENOENT', 'ENOTDIR', 'ELOOP']);

let procWorks: boolean | undefined;

/** Whether an open folder can be named: /proc may be absent or masked. Asked again where that could not be told. */
const hasProc = async (): Promise<boolean> => {
  if (procWorks !== undefined) return procWorks;
  const handle = await openRead('/', AS_FOLDER);
  try {
    procWorks = (await readlink(`/proc/self/fd/${handle.fd}`).catch(() => '')).toString() === '/';
  } finally {
    await handle.close();
  }
  return procWorks;
};

const join = (base: Buffer, name: Path): Buffer => Buffer.concat([base, Buffer.from('/'), toBytes(name)]);

const codeOf = (thrown: unknown): string => (thrown as NodeJS.ErrnoException).code ?? '';

/** `path` is the one by which it was found, be it that of another folder by now. */
const byHandle = (handle: OpenFile, path: Buffer): Folder => {
  const name = `/proc/self/fd/${handle.fd}`;
  const forget = alsoNamed(name, path);
  return {
    at: (below) => join(Buffer.from(name), below),
    close: () => {
      forget();
      return handle.close();
    },
  };
};

/**
 * Makes a folder where none is; somebody else may have been quicker. As open as git would make it below a worktree of
 * this mode: our own umask is for files of ours.
 */
const makeFolder = async (path: Buffer, rootMode: number): Promise<void> => {
  try {
    await mkdir(path, { mode: 0o700 });
  } catch (thrown) {
    if (codeOf(thrown) === 'EEXIST') return;
    throw thrown;
  }
  const handle = await open(path, O_RDONLY | AS_FOLDER);
  try {
    await handle.chmod((rootMode & 0o755) | 0o700);
  } finally {
    await handle.close();
  }
};

const descend = async (root: string, names: readonly Path[], make: boolean): Promise<Folder> => {
  let path: Buffer = Buffer.from(await realpath(root));
  let handle = await openRead(path, AS_FOLDER);
  const { mode } = await handle.stat();
  for (const name of names) {
    const here = byHandle(handle, path);
    try {
      const below = here.at(name);
      handle = await openRead(below, AS_FOLDER).catch(async (thrown: unknown) => {
        if (!make || codeOf(thrown) !== 'ENOENT') throw thrown;
        await makeFolder(below, mode);
        return openRead(below, AS_FOLDER);
      });
      path = join(path, name);
    } finally {
      await here.close();
    }
  }
  return byHandle(handle, path);
};

const descendByName = async (root: string, names: readonly Path[], make: boolean): Promise<Folder> => {
  let base: Buffer = Buffer.from(await realpath(root));
  const { mode } = await lstat(base);
  for (const name of names) {
    base = join(base, name);
    if (make) await makeFolder(base, mode);
    const facts = await lstat(base);
    if (!facts.isDirectory()) throw Object.assign(new Error('not a folder'), { code: 'ENOTDIR' });
  }
  return { at: (name) => join(base, name), close: async () => {} };
};

/**
 * The folder at `names` below `root`; undefined where one of them is missing (unless `make`), a file or a link.
 * The names are safe ones (safe-path.ts).
 */
export const enter = async (
  root: string,
  names: readonly Path[],
  make: boolean,
): Promise<Folder | undefined> => {
  try {
    return await ((await hasProc()) ? descend : descendByName)(root, names, make);
  } catch (thrown) {
    if (NO_SUCH.has(codeOf(thrown))) return undefined;
    throw thrown;
  }
};

/** Deeper ones are nobody's leftovers, and each level holds an open folder. */
const MAX_EMPTY_DEPTH = 100;

/** A folder at these names and all that are in it, the deepest first; undefined where anything else lies there. */
const emptyOnes = async (root: string, names: readonly Path[]): Promise<Path[][] | undefined> => {
  const folder = names.length > MAX_EMPTY_DEPTH ? undefined : await enter(root, names, false);
  if (!folder) return undefined;
  const found: Path[][] = [];
  try {
    for (const entry of await readdir(folder.at('.'), { withFileTypes: true, encoding: 'latin1' })) {
      const below = entry.isDirectory() ? await emptyOnes(root, [...names, entry.name]) : undefined;
      if (!below) return undefined;
      found.push(...below);
    }
  } finally {
    await folder.close();
  }
  return [...found, [...names]];
};

/** Removes the folders that these are, the deepest first, as far as nothing lies in them. False: not all of them. */
export const removeFolders = async (
  root: string,
  folders: readonly (readonly Path[])[],
): Promise<boolean> => {
  for (const names of folders) {
    const parent = await enter(root, names.slice(0, -1), false);
    if (!parent) return false;
    try {
      await rmdir(parent.at(names.at(-1) ?? ''));
    } catch {
      return false;
    } finally {
      await parent.close();
    }
  }
  return true;
};

/** Removes a folder that holds nothing but empty folders, which no tree tells of. False: something lies in it. */
export const removeEmpty = async (root: string, names: readonly Path[]): Promise<boolean> => {
  const folders = await emptyOnes(root, names);
  return folders !== undefined && removeFolders(root, folders);
};
