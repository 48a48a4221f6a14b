import type { Store } from './store.ts';
import type { ZoneRow } from './zones.ts';

const prefixOf = (zone: string): string => `git-dirs ${zone} `;

/** A zone that is deleted may be made again in the same place over another repository. */
export const forgetGitDirs = (store: Store, zone: string): void => {
  const prefix = prefixOf(zone);
  store.run('DELETE FROM meta WHERE substr(key, 1, ?) = ?', prefix.length, prefix);
};

/**
 * The git directories of a zone, found before its first run and kept: an act may rewrite the `.git` file of a linked
 * worktree, and what it names afterwards must not become writable for the next one.
 */
export const knownGitDirs = async (
  store: Store,
  zone: ZoneRow,
  find: (worktree: string) => Promise<string[]>,
): Promise<string[]> => {
  const key = `${prefixOf(zone.id)}${zone.path}`;
  const known = store.get<{ value: string }>('SELECT value FROM meta WHERE key = ?', key);
  if (known) return JSON.parse(known.value) as string[];
  const found = await find(zone.path);
  if (found.length > 0)
    await store.write(() =>
      store.run('INSERT OR IGNORE INTO meta VALUES (?, ?)', key, JSON.stringify(found)),
    );
  return found;
};
