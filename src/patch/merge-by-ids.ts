import { type ConflictKind, conflictOf } from './conflict.ts';
import { closeGroups, composed, pathsOf, type Sides } from './groups.ts';
import type { Path } from './listing.ts';
import type { Merge } from './merge.ts';
import type { Shadow } from './shadow.ts';
import { diffTrees, type Entry, sameEntry, treeWith } from './tree.ts';

/** The merge without the base's contents: whole files, decided by their ids or not at all. */

const LOST = {
  kind: 'no-base' as ConflictKind,
  message: 'both sides changed, and what they had before is not stored here any more',
};

/** The side that changed, where only one did. */
const decide = ({ base, local, remote }: Sides, path: Path): { entry: Entry | undefined } | undefined => {
  const [b, l, r] = [base.get(path), local.get(path), remote.get(path)];
  if (sameEntry(l, r) || sameEntry(b, r)) return { entry: l };
  return sameEntry(b, l) ? { entry: r } : undefined;
};

const finish = async (shadow: Shadow, local: string, sides: Sides, seeds: Path[][]): Promise<Merge> => {
  const groups = closeGroups(sides, seeds, []);
  const merged = composed(sides.merged, sides.base, new Set(groups.flat()));
  const changes = [...pathsOf(sides)]
    .filter((path) => !sameEntry(merged.get(path), sides.local.get(path)))
    .map((path) => ({ path, after: merged.get(path) }));
  return {
    tree: await treeWith(shadow, local, changes),
    conflicts: groups.map((group) => conflictOf(group, sides, LOST)),
    renames: [],
    sides: { ...sides, merged },
  };
};

/** Merges by the base's ids alone: some of its files are gone, so that no line of them can be compared. */
export const mergeByIds = (shadow: Shadow, local: string, sides: Sides): Promise<Merge> => {
  const merged = new Map<Path, Entry>();
  const seeds: Path[][] = [];
  for (const path of pathsOf(sides)) {
    const decided = decide(sides, path);
    if (decided === undefined) seeds.push([path]);
    else if (decided.entry) merged.set(path, decided.entry);
  }
  return finish(shadow, local, { ...sides, merged }, seeds);
};

/**
 * Two trees with no known base: every difference is a conflict, since nobody knows what was added here and what was
 * deleted there.
 */
export const mergeWithoutBase = async (shadow: Shadow, local: string, remote: string): Promise<Merge> => {
  const changes = await diffTrees(shadow, local, remote);
  const side = (of: 'before' | 'after'): Map<Path, Entry> =>
    new Map(changes.flatMap((change) => (change[of] ? [[change.path, change[of]]] : [])));
  const nothing = new Map<Path, Entry>();
  const sides = { base: nothing, local: side('before'), remote: side('after'), merged: nothing };
  return finish(
    shadow,
    local,
    sides,
    changes.map(({ path }) => [path]),
  );
};
