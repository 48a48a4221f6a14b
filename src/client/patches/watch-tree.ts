import { type FSWatcher, lstatSync, watch } from 'node:fs';
import { join } from 'node:path';
import { listWorktree } from '../../patch/worktree-listing.ts';

/**
 * Hints that something in a worktree changed: a watcher for each directory that holds a tracked or untracked file, so
 * ignored trees cost nothing. A hint may be missed; whoever listens looks at everything now and then anyway.
 */

export type TreeWatch = {
  /** Watches the directories that there are now, where some came or went; `whole`: looks for them in any case. */
  update(whole?: boolean): Promise<void>;
  close(): void;
};

/** Directories that are watched at most: what changes in others is found by the slow look. */
const MAX_DIRECTORIES = 8_192;
const LIST_DEADLINE_MS = 60_000;
const OURS = new Set(['.git', '.khlone']);

/** Every directory above a path, the worktree's top as ''. */
const directoriesOf = (paths: Iterable<string>): Set<string> => {
  const found = new Set(['']);
  for (const path of paths) {
    let at = path.lastIndexOf('/');
    while (at > 0 && !found.has(path.slice(0, at))) {
      found.add(path.slice(0, at));
      at = path.lastIndexOf('/', at - 1);
    }
  }
  return found;
};

/** A path as the system knows it, of one with a character per byte. */
const onDisk = (root: string, path: string): string =>
  join(root, Buffer.from(path, 'latin1').toString('utf8'));

/** Something was made, removed or renamed (`isName`), or written to: at this name, where the system tells it. */
type Hint = (name: string | null, isName: boolean) => void;

const watchOne = (path: string, onHint: Hint, onEnd: () => void): FSWatcher | undefined => {
  try {
    const made = watch(path, { persistent: false }, (event, name) => onHint(name, event === 'rename'));
    made.on('error', onEnd);
    return made;
  } catch {
    // Gone meanwhile, no right to look, or too many: the slow look finds it.
    return undefined;
  }
};

const isDirectory = (path: string): boolean =>
  lstatSync(path, { throwIfNoEntry: false })?.isDirectory() ?? false;

export const createTreeWatch = (worktree: string, onHint: () => void): TreeWatch => {
  const watchers = new Map<string, FSWatcher>();
  /** Directories that came and held nothing to watch for when all was listed last: a file may have come since. */
  let unlisted = new Set<string>();
  let isStale = true;
  let isClosed = false;

  const drop = (directory: string): void => {
    watchers.get(directory)?.close();
    watchers.delete(directory);
  };

  /** A new directory under an old name is another one, and so is all in it. */
  const came = (directory: string): void => {
    for (const one of watchers.keys()) if (one === directory || one.startsWith(`${directory}/`)) drop(one);
    if (unlisted.size < MAX_DIRECTORIES) unlisted.add(directory);
    isStale = true;
  };

  const hintIn =
    (directory: string): Hint =>
    (name, isName) => {
      if (directory === '' && name !== null && OURS.has(name)) return;
      if (name === null || name === '.gitignore') isStale = true;
      else if (isName) {
        const path = `${directory === '' ? '' : `${directory}/`}${Buffer.from(name).toString('latin1')}`;
        if (isDirectory(onDisk(worktree, path))) came(path);
      }
      onHint();
    };

  return {
    update: async (whole = false) => {
      if (!whole && !isStale && unlisted.size === 0) return;
      isStale = false;
      if (whole) unlisted = new Set();
      const { tracked, untracked } = await listWorktree({ worktree, deadlineMs: LIST_DEADLINE_MS });
      if (isClosed) return;
      const wanted = directoriesOf([...tracked.keys(), ...untracked]);
      for (const directory of watchers.keys()) if (!wanted.has(directory)) drop(directory);
      for (const directory of wanted) {
        unlisted.delete(directory);
        if (watchers.has(directory) || watchers.size >= MAX_DIRECTORIES) continue;
        const made = watchOne(onDisk(worktree, directory), hintIn(directory), () => drop(directory));
        if (made) watchers.set(directory, made);
      }
    },
    close: () => {
      isClosed = true;
      for (const directory of [...watchers.keys()]) drop(directory);
    },
  };
};
