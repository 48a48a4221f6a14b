import { type FSWatcher, watch } from 'node:fs';
import { join } from 'node:path';
import { listWorktree } from '../../patch/worktree-listing.ts';

/**
 * Hints that something in a worktree changed: a watcher for each directory that holds a tracked or untracked file, so
 * ignored trees cost nothing. A hint may be missed; whoever listens looks at everything now and then anyway.
 */

export type TreeWatch = {
  /** Watches the directories that there are now. */
  update(): Promise<void>;
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

const watchOne = (
  root: string,
  directory: string,
  onHint: () => void,
  onEnd: () => void,
): FSWatcher | undefined => {
  try {
    const path = join(root, Buffer.from(directory, 'latin1').toString('utf8'));
    const made = watch(path, { persistent: false }, (_, name) => {
      if (directory !== '' || name === null || !OURS.has(name)) onHint();
    });
    made.on('error', onEnd);
    return made;
  } catch {
    // Gone meanwhile, no right to look, or too many: the slow look finds it.
    return undefined;
  }
};

export const createTreeWatch = (worktree: string, onHint: () => void): TreeWatch => {
  const watchers = new Map<string, FSWatcher>();
  let isClosed = false;

  const drop = (directory: string): void => {
    watchers.get(directory)?.close();
    watchers.delete(directory);
  };

  return {
    update: async () => {
      const { tracked, untracked } = await listWorktree({ worktree, deadlineMs: LIST_DEADLINE_MS });
      if (isClosed) return;
      const wanted = directoriesOf([...tracked.keys(), ...untracked]);
      for (const directory of watchers.keys()) if (!wanted.has(directory)) drop(directory);
      for (const directory of wanted) {
        if (watchers.has(directory) || watchers.size >= MAX_DIRECTORIES) continue;
        const made = watchOne(worktree, directory, onHint, () => drop(directory));
        if (made) watchers.set(directory, made);
      }
    },
    close: () => {
      isClosed = true;
      for (const directory of [...watchers.keys()]) drop(directory);
    },
  };
};
