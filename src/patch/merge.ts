import { type Conflict, conflictOf } from './conflict.ts';
import { git, gitFailed } from './git.ts';
import { closeGroups, composed, pathsOf, type Sides, submodulesIn, touchedBy } from './groups.ts';
import type { Path } from './listing.ts';
import { mergeByIds, mergeWithoutBase } from './merge-by-ids.ts';
import { type Note, readMergeTree, type Said } from './merge-said.ts';
import { MAX_LISTING_BYTES, type Shadow } from './shadow.ts';
import {
  type Change,
  diffTrees,
  diffWithRenames,
  type Entry,
  isComplete,
  type Rename,
  treeWith,
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
/** The same trees give the same commits, so that a repeated merge makes no new objects. */
const NOBODY = {
  GIT_AUTHOR_NAME: 'khlone',
  GIT_AUTHOR_EMAIL: 'khlone@invalid',
  GIT_AUTHOR_DATE: '1000000000 +0000',
  GIT_COMMITTER_NAME: 'khlone',
  GIT_COMMITTER_EMAIL: 'khlone@invalid',
  GIT_COMMITTER_DATE: '1000000000 +0000',
};

/** The shadow seen from nowhere: attributes of the worktree, the person and the machine name no driver in here. */
const withoutWorktree = (shadow: Shadow): Shadow => ({
  ...shadow,
  run: (args, more = {}) => {
    const { GIT_WORK_TREE: _, ...env } = shadow.env(more.index);
    return git([...shadow.config, '-c', 'core.attributesFile=/dev/null', ...args], {
      cwd: shadow.dir,
      env: { ...env, ...NOBODY, GIT_ATTR_NOSYSTEM: '1' },
      deadlineMs: MERGE_DEADLINE_MS,
      maxBytes: more.maxBytes ?? MAX_LISTING_BYTES,
      ...(more.input !== undefined && { input: more.input }),
    });
  },
});

/** Every git since 2.38 merges two commits by their common parent; only newer ones take a base by name. */
const commitOf = async (shadow: Shadow, tree: string, parent?: string): Promise<string> => {
  const parents = parent === undefined ? [] : ['-p', parent];
  const { code, stdout, stderr } = await shadow.run(['commit-tree', tree, ...parents, '-m', 'khlone']);
  if (code !== 0) throw gitFailed('git could not make a commit to merge', stderr);
  return stdout.toString('utf8').trim();
};

const mergeTree = async (shadow: Shadow, { base, local, remote }: Known): Promise<Said> => {
  const parent = await commitOf(shadow, base);
  const [ours, theirs] = await Promise.all([
    commitOf(shadow, local, parent),
    commitOf(shadow, remote, parent),
  ]);
  const { code, stdout, stderr } = await shadow.run(['merge-tree', '--write-tree', '-z', ours, theirs]);
  if (code !== 0 && code !== 1) throw gitFailed('git could not merge', stderr);
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

/** Git skips empty files when it looks for renames, since all of them are the same. */
const EMPTY_BLOBS: ReadonlySet<string> = new Set([
  'e69de29bb2d1d6434b8b29ae775ad8c2e48c5391',
  '473a0f4c3be8a93681a267e3b1e9a7dcda1185436fe141f7749120a303721813',
]);

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
const groupsOf = (sides: Sides, said: Said, renames: readonly Rename[]): Path[][] => {
  const isKnown = (path: Path): boolean => Object.values(sides).some((tree) => tree.has(path));
  const named = said.notes
    .filter(({ type, paths }) => type.startsWith('CONFLICT') && paths.some((path) => said.stages.has(path)))
    .map(({ paths }) => paths.filter((path) => said.stages.has(path) || isKnown(path)));
  const seeds = [...[...said.stages.keys()].map((path) => [path]), ...named];
  return closeGroups(sides, seeds, [...renames, ...movedAway(sides, said)]);
};

/** The trees as git shall see them: where a submodule is or was, nobody changed anything. */
const withoutSubmodules = async (shadow: Shadow, wish: Known, sides: Sides): Promise<Known> => {
  const submodules = submodulesIn(sides);
  if (submodules.length === 0) return wish;
  const paths = pathsOf(sides);
  const touched = new Set(submodules.flatMap((path) => touchedBy(paths, path)));
  const back = [...touched].map((path) => ({ path, after: sides.base.get(path) }));
  const [local, remote] = await Promise.all([
    treeWith(shadow, wish.local, back),
    treeWith(shadow, wish.remote, back),
  ]);
  return { base: wish.base, local, remote };
};

const decide = async (shadow: Shadow, wish: Known): Promise<Said> => {
  const { base, local, remote } = wish;
  const oneSided = base === remote || local === remote ? local : base === local ? remote : undefined;
  if (oneSided !== undefined) return { tree: oneSided, stages: new Map(), notes: [] };
  return mergeTree(shadow, wish);
};

const mergeByGit = async (shadow: Shadow, wish: Known): Promise<Merge> => {
  const { base, local, remote } = wish;
  const [mine, theirs] = await Promise.all([
    diffWithRenames(shadow, base, local),
    diffWithRenames(shadow, base, remote),
  ]);
  const renames = [...mine.renames, ...theirs.renames];
  const before = sidesOf(mine.changes, theirs.changes, []);
  const said = await decide(shadow, await withoutSubmodules(shadow, wish, before));
  const whole = sidesOf(mine.changes, theirs.changes, await diffTrees(shadow, base, said.tree));
  const groups = groupsOf(whole, said, renames);
  if (groups.length === 0) return { tree: said.tree, conflicts: [], renames, sides: whole };
  const blocked = groups.flat();
  const back = blocked.map((path) => ({ path, after: whole.base.get(path) }));
  return {
    tree: await treeWith(shadow, said.tree, back),
    conflicts: groups.map((group) => conflictOf(group, whole, said)),
    renames,
    sides: { ...whole, merged: composed(whole.merged, whole.base, new Set(blocked)) },
  };
};

/**
 * Merges local and remote over their base. The same inputs give the same answer; nothing but objects of the shadow is
 * written, and no hook, filter, driver or attribute of the repository plays a part. Where the base is not whole any
 * more, only what its ids alone decide is merged and the rest is in conflict. Throws `internal` where local or remote
 * is not whole, `timeout`.
 */
export const mergeTrees = async (shadow: Shadow, { base, local, remote }: MergeWish): Promise<Merge> => {
  const alone = withoutWorktree(shadow);
  if (base === undefined) return mergeWithoutBase(alone, local, remote);
  try {
    return await mergeByGit(alone, { base, local, remote });
  } catch (thrown) {
    if (await isComplete(alone, base)) throw thrown;
  }
  const known = await Promise.all([diffTrees(alone, base, local), diffTrees(alone, base, remote)]).catch(
    () => undefined,
  );
  if (known === undefined) return mergeWithoutBase(alone, local, remote);
  return mergeByIds(alone, local, sidesOf(known[0], known[1], []));
};
