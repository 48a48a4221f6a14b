import { join } from 'node:path';
import { type Conflict, conflictOf } from './conflict.ts';
import { foldersOf, type Sides } from './groups.ts';
import { type Path, pathText } from './listing.ts';
import { readText } from './near-disk.ts';
import type { Shadow } from './shadow.ts';
import type { Change } from './tree.ts';

/** Names that differ for git and are one name for a disk that does not tell letters apart. */

/** A name as such a disk compares it. */
export const folded = (path: Path): string => pathText(path).normalize('NFC').toLowerCase();

/** Whether the disk under the shadow takes `A` for `a`, as git found when it made the shadow there. */
export const ignoresCase = async ({ dir }: Shadow): Promise<boolean> =>
  /^\s*ignorecase = true$/mu.test(await readText(join(dir, 'config')));

/** The path itself and every folder that it lies in. */
const prefixes = (path: Path): Path[] => [path, ...foldersOf(path)];

/**
 * Conflicts of a plan with a disk that ignores case: a new name that would fall on another one. `names` are all
 * paths of the local tree. The plan is made again with them beside git's own conflicts.
 */
export const caseConflicts = (
  sides: Sides,
  names: Iterable<Path>,
  toLocal: readonly Change[],
): Conflict[] => {
  const after = new Set(names);
  for (const change of toLocal) if (change.after === undefined) after.delete(change.path);
  const fresh = toLocal.filter((change) => change.after !== undefined && !after.has(change.path));
  for (const { path } of fresh) after.add(path);
  // By folded name, each spelling with one path that has it.
  const spellings = new Map<string, Map<Path, Path>>();
  for (const path of after) {
    for (const prefix of prefixes(path)) {
      const key = folded(prefix);
      const known = spellings.get(key) ?? new Map<Path, Path>();
      spellings.set(key, known.has(prefix) ? known : known.set(prefix, path));
    }
  }
  return fresh.flatMap(({ path }) => {
    const others = prefixes(path).flatMap((prefix) =>
      [...(spellings.get(folded(prefix)) ?? [])].filter(([other]) => other !== prefix).map(([, one]) => one),
    );
    if (others.length === 0) return [];
    const message = `${pathText(path)} and ${pathText(others[0] ?? '')} are one name on this disk`;
    return [conflictOf([path, ...new Set(others)], sides, { kind: 'case', message })];
  });
};
