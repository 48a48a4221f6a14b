import { KhloneError } from '../protocol/error.ts';
import { type Conflict, conflictOf } from './conflict.ts';
import { EMPTY_BLOBS, lostOf, withDropped } from './dropped.ts';
import { git, gitFailed } from './git.ts';
import {
  canStandAside,
  closeGroups,
  composed,
  pathsOf,
  type Sides,
  submodulesIn,
  touchedBy,
} from './groups.ts';
import type { Path } from './listing.ts';
import { mergeByIds, mergeWithoutBase } from './merge-by-ids.ts';
import { type Note, readMergeTree, type Said } from './merge-said.ts';
import { MAX_LISTING_BYTES, type Shadow } from './shadow.ts';
import { commitOf } from './synthetic-commit.ts';
import {
  type Change,
  diffTrees,
  diffWithRenames,
  type Entry,
  isComplete,
  type Rename,
  sameEntry,
  treeWith,
  type Wish,
} from './tree.ts';

/**
 * Three trees into one, by git's own merge and nothing else. What git cannot decide stays as the base has it, in groups
 * that are closed under renames; everything outside of them is as `git merge` makes it.
 */

export type MergeWish = {
  /** The last agreed tree; undefined where it is not known any more. */
  base: string | undefined;
  local: string;
  remote: string;
  /**
   * Conflicts of the last merge. One at whose paths nothing moved since stays as it is, whatever moved elsewhere: git
   * might decide it anew when a folder was renamed beside it.
   */
  known?: readonly Conflict[];
};

export type Merge = {
  /** The merged tree, in which the paths of all conflicts are as in the base. */
  tree: string;
  conflicts: Conflict[];
  /** What either side renamed since the base. */
  renames: Rename[];
  /** `merged` is `tree`. */
  sides: Sides;
};

type Known = { base: string; local: string; remote: string };

const MERGE_DEADLINE_MS = 10 * 60_000;
/** The shadow seen from nowhere: attributes of the worktree, the person and the machine name no driver in here. */
const withoutWorktree = (shadow: Shadow): Shadow => ({
  ...shadow,
  run: (args, more = {}) => {
    const { GIT_WORK_TREE: _, ...env } = shadow.env(more.index);
    return git([...shadow.config, '-c', 'core.attributesFile=/dev/null', ...args], {
      cwd: shadow.dir,
      env: { ...env, GIT_ATTR_NOSYSTEM: '1' },
      deadlineMs: MERGE_DEADLINE_MS,
      maxBytes: more.maxBytes ?? MAX_LISTING_BYTES,
      ...(more.input !== undefined && { input: more.input }),
    });
  },
});

/** Whether that is why git would not merge; the others of its commands are older. */
const tooOld = async (shadow: Shadow): Promise<KhloneError | undefined> => {
  const said = (await shadow.run(['version'])).stdout.toString('utf8').trim();
  const [, major = '0', minor = '0'] = /(\d+)\.(\d+)/u.exec(said) ?? [];
  if (Number(major) > 2 || (Number(major) === 2 && Number(minor) >= 38)) return undefined;
  return new KhloneError('config', `${said} is too old to merge here`, 'install git 2.38 or newer');
};

/** Every git since 2.38 merges two commits by their common parent; only newer ones take a base by name. */
const mergeTree = async (shadow: Shadow, { base, local, remote }: Known): Promise<Said> => {
  const parent = await commitOf(shadow, base);
  const [ours, theirs] = await Promise.all([
    commitOf(shadow, local, [parent]),
    commitOf(shadow, remote, [parent]),
  ]);
  const { code, stdout, stderr } = await shadow.run(['merge-tree', '--write-tree', '-z', ours, theirs]);
  if (code !== 0 && code !== 1) throw (await tooOld(shadow)) ?? gitFailed('git could not merge', stderr);
  const said = readMergeTree(stdout);
  const worded = ({ text, ...note }: Note): Note => ({
    ...note,
    text: text.replaceAll(ours, 'local').replaceAll(theirs, 'remote'),
  });
  return { ...said, notes: said.notes.map(worded) };
};

/** The entries of all trees at every path in which one differs from the base. */
const sidesOf = (local: readonly Change[], remote: readonly Change[], merged: readonly Change[]): Sides => {
  const all = [...local, ...remote, ...merged];
  const set = (tree: Map<Path, Entry>, path: Path, entry: Entry | undefined): void => {
    if (entry) tree.set(path, entry);
    else tree.delete(path);
  };
  const base = new Map<Path, Entry>();
  for (const { path, before } of all) set(base, path, before);
  const after = (changes: readonly Change[]): Map<Path, Entry> => {
    const tree = new Map(base);
    for (const change of changes) set(tree, change.path, change.after);
    return tree;
  };
  return { base, local: after(local), remote: after(remote), merged: after(merged) };
};

/** The sides with some entries put into what was merged. */
const withWishes = (sides: Sides, wishes: readonly Wish[]): Sides => {
  if (wishes.length === 0) return sides;
  const put = wishes.flatMap(({ path, after }) => (after ? [[path, after] as const] : []));
  return { ...sides, merged: new Map([...sides.merged, ...put]) };
};

/** A name that the merge removes, and whose content is a part of a conflict under another name. */
const movedAway = ({ base, local, remote, merged }: Sides, { stages }: Said): Rename[] => {
  const names = new Map<string, Path>();
  for (const [path, { base: b, local: l, remote: r }] of stages) {
    for (const entry of [b, l, r]) if (entry && !EMPTY_BLOBS.has(entry.oid)) names.set(entry.oid, path);
  }
  const removed = [...new Set([...local.keys(), ...remote.keys()])].filter((path) => !merged.has(path));
  return removed.flatMap((path) =>
    [base, local, remote].flatMap((tree) => {
      const to = names.get(tree.get(path)?.oid ?? '');
      return to === undefined ? [] : [{ from: path, to }];
    }),
  );
};

/** The groups of git's conflicts: what one message names together, and what these paths pull after them. */
const groupsOf = (
  sides: Sides,
  said: Said,
  renames: readonly Rename[],
  kept: readonly Conflict[],
): Path[][] => {
  const isKnown = (path: Path): boolean => Object.values(sides).some((tree) => tree.has(path));
  const named = said.notes
    .filter(({ type, paths }) => type.startsWith('CONFLICT') && paths.some((path) => said.stages.has(path)))
    .map(({ paths }) => paths.filter((path) => said.stages.has(path) || isKnown(path)));
  const seeds = [...[...said.stages.keys()].map((path) => [path]), ...named, ...kept.map((one) => one.paths)];
  // Git's own tree is sound as it is.
  if (seeds.length === 0) return [];
  return closeGroups(sides, seeds, [...renames, ...movedAway(sides, said)]);
};

const isUnmoved = (sides: Sides, { stages }: Conflict): boolean =>
  [...stages].every(
    ([path, { base, local, remote }]) =>
      sameEntry(base, sides.base.get(path)) &&
      sameEntry(local, sides.local.get(path)) &&
      sameEntry(remote, sides.remote.get(path)),
  );

/** The trees as git shall see them: at these paths nobody changed anything. */
const without = async (shadow: Shadow, wish: Known, sides: Sides, paths: Set<Path>): Promise<Known> => {
  if (paths.size === 0) return wish;
  const back = [...paths].map((path) => ({ path, after: sides.base.get(path) }));
  const [local, remote] = await Promise.all([
    treeWith(shadow, wish.local, back),
    treeWith(shadow, wish.remote, back),
  ]);
  return { base: wish.base, local, remote };
};

/** Submodules, which are no files, and conflicts that wait for a person already. */
const setAside = (sides: Sides, known: readonly Conflict[]): { paths: Set<Path>; kept: Conflict[] } => {
  const all = pathsOf(sides);
  const submodules = new Set(touchedBy(all, submodulesIn(sides)).keys());
  const kept = known.filter((conflict) => isUnmoved(sides, conflict));
  const paths = new Set([...submodules, ...kept.flatMap((conflict) => conflict.paths)]);
  return canStandAside(sides, paths) ? { paths, kept } : { paths: submodules, kept: [] };
};

const decide = async (shadow: Shadow, wish: Known): Promise<Said> => {
  const { base, local, remote } = wish;
  const oneSided = base === remote || local === remote ? local : base === local ? remote : undefined;
  if (oneSided !== undefined) return { tree: oneSided, stages: new Map(), notes: [] };
  return mergeTree(shadow, wish);
};

/** The conflicts of the groups: a known one where it is the same, or what is left to say about it. */
const conflictsOf = (groups: Path[][], sides: Sides, said: Said, kept: readonly Conflict[]): Conflict[] => {
  const knownAt = new Map(kept.flatMap((known) => known.paths.map((path) => [path, known] as const)));
  const notesAt = Map.groupBy(
    said.notes.flatMap((note) => note.paths.map((path) => ({ path, note }))),
    ({ path }) => path,
  );
  return groups.map((group) => {
    const notes = [...new Set(group.flatMap((path) => (notesAt.get(path) ?? []).map(({ note }) => note)))];
    const conflict = conflictOf(group, sides, { stages: said.stages, notes });
    const known = [...new Set(group.flatMap((path) => knownAt.get(path) ?? []))];
    const [first] = known;
    if (first === undefined) return conflict;
    if (first.id === conflict.id) return first;
    const contents = new Map([...known.flatMap((one) => [...one.contents]), ...conflict.contents]);
    return { ...conflict, kind: first.kind, message: first.message, contents };
  });
};

const mergeByGit = async (shadow: Shadow, wish: Known, known: readonly Conflict[]): Promise<Merge> => {
  const { base, local, remote } = wish;
  const [mine, theirs] = await Promise.all([
    diffWithRenames(shadow, base, local),
    diffWithRenames(shadow, base, remote),
  ]);
  const renames = [...mine.renames, ...theirs.renames];
  const before = sidesOf(mine.changes, theirs.changes, []);
  const { paths: aside, kept } = setAside(before, known);
  const decided = await decide(shadow, await without(shadow, wish, before, aside));
  const moved = decided.tree === local ? mine.changes : await diffTrees(shadow, base, decided.tree);
  const given = sidesOf(mine.changes, theirs.changes, moved);
  const lost = lostOf(given, decided, aside);
  const whole = withWishes(given, lost);
  const said = withDropped(decided, whole, { local: mine.renames, remote: theirs.renames }, aside);
  const groups = groupsOf(whole, said, renames, kept);
  const blocked = new Set(groups.flat());
  const back = [...blocked].map((path) => ({ path, after: whole.base.get(path) }));
  const sides = { ...whole, merged: composed(whole.merged, whole.base, blocked) };
  const put = said.isBroken
    ? [...pathsOf(sides)].map((path) => ({ path, after: sides.merged.get(path) }))
    : [...lost.filter(({ path }) => !blocked.has(path)), ...back];
  return {
    tree: await treeWith(shadow, said.isBroken ? base : said.tree, put),
    conflicts: conflictsOf(groups, whole, said, kept),
    renames,
    sides,
  };
};

/**
 * Merges local and remote over their base. The same inputs give the same answer; nothing but objects of the shadow is
 * written, and no hook, filter, driver or attribute of the repository plays a part. Where the base is not whole any
 * more, only what its ids alone decide is merged and the rest is in conflict. Throws `internal` where local or remote
 * is not whole, `timeout`.
 */
export const mergeTrees = async (
  shadow: Shadow,
  { base, local, remote, known = [] }: MergeWish,
): Promise<Merge> => {
  const alone = withoutWorktree(shadow);
  if (base === undefined) return mergeWithoutBase(alone, local, remote);
  try {
    return await mergeByGit(alone, { base, local, remote }, known);
  } catch (thrown) {
    if (await isComplete(alone, base)) throw thrown;
  }
  const ids = await Promise.all([diffTrees(alone, base, local), diffTrees(alone, base, remote)]).catch(
    () => undefined,
  );
  if (ids === undefined) return mergeWithoutBase(alone, local, remote);
  return mergeByIds(alone, local, sidesOf(ids[0], ids[1], []));
};
