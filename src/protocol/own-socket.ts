import { type FSWatcher, rmSync, statSync, watch } from 'node:fs';
import { dirname } from 'node:path';

/** A socket that was removed under a resident: it holds the life lock, so nobody could be found or started any more. */

/** Tells once that the path leads to our socket no longer. Answers with what removes the socket, if it is still ours. */
export const ownSocket = (path: string, onLost: () => void): (() => void) => {
  const inoOf = (): number | undefined => statSync(path, { throwIfNoEntry: false })?.ino;
  const ino = inoOf();
  const isOurs = (): boolean => {
    try {
      return inoOf() === ino;
    } catch {
      return false;
    }
  };
  const watcher = watchFolder(dirname(path), () => {
    if (isOurs()) return;
    watcher?.close();
    onLost();
  });
  return () => {
    watcher?.close();
    if (isOurs()) rmSync(path, { force: true });
  };
};

/** Where the kernel has no watch to give, a removed socket is noticed by nobody. */
const watchFolder = (dir: string, look: () => void): FSWatcher | undefined => {
  try {
    const watcher = watch(dir, { persistent: false }, look);
    return watcher.on('error', () => watcher.close());
  } catch {
    return undefined;
  }
};
