import { inOrder } from './apply-order.ts';
import type { Conflict } from './conflict.ts';
import { closeGroups, composed, pathsOf, type Sides, submodulesIn, touchedBy } from './groups.ts';
import type { Path } from './listing.ts';
import { type Change, type Rename, sameEntry, type Tree, type Wish } from './tree.ts';

/**
 * What a merge means for each side, as values. Nothing moves at a path that is in conflict or held: there both
 * worktrees stay as they are, and the base stays where it was, so that the next merge finds the same difference.
 */

/** A path that may not move now, and why. One that ends in "/" holds everything below it. */
export type Held = { path: Path; why: string };

export type PlanWish = {
  sides: Sides;
  conflicts: readonly Conflict[];
  renames: readonly Rename[];
  held: readonly Held[];
};

export type Plan = {
  /** What a pull does to the local worktree, in this order. */
  toLocal: Change[];
  /** What a sync does to the remote worktree, in this order. */
  toRemote: Change[];
  /**
   * Pairs within each list: where `to` fails, `from` stays, since its edits are nowhere else on that side. A `from`
   * that had to make room and is gone already is put back.
   */
  moves: { toLocal: Rename[]; toRemote: Rename[] };
  /** Paths of conflicts and held ones, and what cannot move without them. */
  blocked: ReadonlySet<Path>;
  /** All renames of the merge: what failed at one name did not arrive from the other either. */
  renames: readonly Rename[];
  /** Held paths that would have moved, sorted, each with its reason. */
  held: Held[];
};

const changesBetween = (from: Tree, to: Tree, blocked: ReadonlySet<Path>): Change[] =>
  [...new Set([...from.keys(), ...to.keys()])]
    .filter((path) => !blocked.has(path) && !sameEntry(from.get(path), to.get(path)))
    .map((path) => ({ path, before: from.get(path), after: to.get(path) }));

const movesIn = (changes: readonly Change[], renames: readonly Rename[]): Rename[] => {
  const kept = new Map(changes.map(({ path, after }) => [path, after !== undefined]));
  return renames.filter(({ from, to }) => kept.get(from) === false && kept.get(to) === true);
};

/** Plans both directions of one merge. A pull uses `toLocal`, a sync `toRemote`; never both from one plan. */
export const planPatch = ({ sides, conflicts, renames, held }: PlanWish): Plan => {
  const paths = pathsOf(sides);
  const whys = new Map<Path, string>();
  for (const { path, why } of held) {
    const name = path.replace(/\/+$/u, '');
    if (!whys.has(name)) whys.set(name, why);
  }
  for (const path of submodulesIn(sides)) whys.set(path, 'submodule');
  const touched = touchedBy(paths, [...whys.keys()]);
  const reasons = new Map([...touched].map(([path, name]) => [path, whys.get(name) ?? '']));
  const seeds = [
    ...conflicts.map((conflict) => conflict.paths),
    ...[...touched.keys()].map((path) => [path]),
  ];
  const inConflict = new Set(conflicts.flatMap((conflict) => conflict.paths));
  const groups = seeds.length === 0 ? [] : closeGroups(sides, seeds, renames);
  const blocked = new Set(groups.flat());
  const { base, local, remote, merged } = sides;
  const wouldMove = (path: Path): boolean =>
    !sameEntry(local.get(path), merged.get(path)) || !sameEntry(remote.get(path), merged.get(path));
  const toLocal = inOrder(changesBetween(local, merged, blocked));
  const toRemote = inOrder(changesBetween(remote, merged, blocked));
  return {
    toLocal,
    toRemote,
    moves: { toLocal: movesIn(toLocal, renames), toRemote: movesIn(toRemote, renames) },
    blocked,
    renames,
    held: groups
      .flatMap((group) => {
        const cause = group.find((path) => reasons.has(path));
        if (cause === undefined || group.some((path) => inConflict.has(path) && !reasons.has(path)))
          return [];
        const why = reasons.get(cause) ?? '';
        return group
          .filter((path) => wouldMove(path) || base.has(path) !== merged.has(path))
          .map((path) => ({ path, why: reasons.get(path) ?? `moves with ${JSON.stringify(cause)}: ${why}` }));
      })
      .sort((one, other) => (one.path < other.path ? -1 : 1)),
  };
};

type Settled = Pick<Plan, 'blocked' | 'renames'>;

/** What of a tree goes back to the base: all that did not move, and what cannot be told apart from it. */
const backToBase = (
  sides: Sides,
  from: Tree,
  { blocked, renames }: Settled,
  failed: readonly Path[],
): Wish[] => {
  const kept = closeGroups(
    sides,
    [...blocked, ...failed].map((path) => [path]),
    renames,
  ).flat();
  return kept
    .filter((path) => !sameEntry(from.get(path), sides.base.get(path)))
    .map((path) => ({ path, after: sides.base.get(path) }));
};

/**
 * The base after a pull is the REMOTE tree of this merge with these paths set: what was blocked, and what failed,
 * as the old base has it. What the merge made of local's own edits is then an edit of local against the new base,
 * for the next sync. `failed` are paths of `toLocal` that were not written.
 */
export const baseAfterPull = (sides: Sides, plan: Settled, failed: readonly Path[] = []): Wish[] =>
  backToBase(sides, sides.remote, plan, failed);

/**
 * The base after a sync is the LOCAL tree of this merge with these paths set. What remote had more is then an edit of
 * remote against the new base, for the next pull. `failed` are paths of `toRemote` that were not written.
 */
export const baseAfterSync = (sides: Sides, plan: Settled, failed: readonly Path[] = []): Wish[] =>
  backToBase(sides, sides.local, plan, failed);

/** A tree after some changes, at the paths of a merge: what a worktree holds once they are made. */
export const changed = (tree: Tree, changes: readonly Wish[]): Tree =>
  composed(
    tree,
    new Map(changes.flatMap(({ path, after }) => (after ? [[path, after]] : []))),
    new Set(changes.map(({ path }) => path)),
  );
