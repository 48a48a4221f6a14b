import type { Path } from './listing.ts';
import type { Entry, Rename, Tree } from './tree.ts';
import { GITLINK } from './worktree-listing.ts';

/** Paths that move together or not at all: a name and what it was renamed from, a file and what needs its place as a folder. */

/** The paths in which any of the four trees differ, with what each has there. The rest is the same in all. */
export type Sides = { base: Tree; local: Tree; remote: Tree; merged: Tree };

export const pathsOf = ({ base, local, remote, merged }: Sides): Set<Path> =>
  new Set([...base.keys(), ...local.keys(), ...remote.keys(), ...merged.keys()]);

/** The folders that a path lies in. */
export const foldersOf = (path: Path): Path[] => {
  const folders: Path[] = [];
  for (let at = path.indexOf('/'); at >= 0; at = path.indexOf('/', at + 1)) folders.push(path.slice(0, at));
  return folders;
};

/**
 * The paths that one of some names takes with it, each with the first such name: the same path, one below it, or a
 * file in the place of a folder that it lies in.
 */
export const touchedBy = (paths: Iterable<Path>, names: readonly Path[]): Map<Path, Path> => {
  const taken = new Set(names);
  const folders = new Map<Path, Path>();
  for (const name of names) {
    for (const folder of foldersOf(name)) if (!folders.has(folder)) folders.set(folder, name);
  }
  const touched = new Map<Path, Path>();
  for (const path of paths) {
    const name = [path, ...foldersOf(path)].find((one) => taken.has(one)) ?? folders.get(path);
    if (name !== undefined) touched.set(path, name);
  }
  return touched;
};

/** Commits of submodules: they are no files, so they are told and never merged or written. */
export const submodulesIn = ({ base, local, remote }: Sides): Path[] => {
  const trees = [...base, ...local, ...remote];
  return [...new Set(trees.filter(([, { mode }]) => mode === GITLINK).map(([path]) => path))];
};

/** One tree, but with another's entries at some paths. */
export const composed = (tree: Tree, other: Tree, at: ReadonlySet<Path>): Map<Path, Entry> => {
  const made = new Map([...tree].filter(([path]) => !at.has(path)));
  for (const path of at) {
    const entry = other.get(path);
    if (entry !== undefined) made.set(path, entry);
  }
  return made;
};

/** Every path with a file of the same tree that stands where it needs a folder. */
const clashesIn = (tree: Tree): Rename[] => {
  const found: Rename[] = [];
  for (const path of tree.keys()) {
    for (const folder of foldersOf(path)) if (tree.has(folder)) found.push({ from: folder, to: path });
  }
  return found;
};

/** The trees that there would be if the paths of all groups stayed as they are and the others moved. */
const outcomes = ({ base, local, remote, merged }: Sides, kept: ReadonlySet<Path>): Tree[] => [
  composed(merged, base, kept),
  composed(merged, local, kept),
  composed(merged, remote, kept),
  composed(local, base, kept),
  composed(remote, base, kept),
];

/** Whether either side can stay as the base has it at these paths while the rest of it is as it is. */
export const canStandAside = ({ base, local, remote }: Sides, paths: ReadonlySet<Path>): boolean =>
  [local, remote].every((tree) => clashesIn(composed(tree, base, paths)).length === 0);

/** Sets that grow together: paths joined by any chain are one group. */
const makeForest = () => {
  const parents = new Map<Path, Path>();
  const rootOf = (path: Path): Path => {
    let root = path;
    for (let up = parents.get(root); up !== undefined && up !== root; up = parents.get(root)) root = up;
    parents.set(path, root);
    return root;
  };
  return {
    has: (path: Path): boolean => parents.has(path),
    paths: (): Set<Path> => new Set(parents.keys()),
    /** Whether this changed anything. */
    join: (one: Path, other: Path): boolean => {
      const known = parents.has(one) && parents.has(other);
      const [a, b] = [rootOf(one), rootOf(other)];
      if (a !== b) parents.set(a, b);
      return a !== b || !known;
    },
    groups: (): Path[][] => {
      const byRoot = Map.groupBy([...parents.keys()].sort(), rootOf);
      return [...byRoot.values()];
    },
  };
};

/**
 * Pairs of which one is a file where the other needs a folder, whatever tree each is in: a person may decide one for
 * this side and the other for that one.
 */
const nestedIn = (paths: ReadonlySet<Path>): Rename[] =>
  [...paths].flatMap((path) =>
    foldersOf(path).flatMap((folder) => (paths.has(folder) ? [{ from: folder, to: path }] : [])),
  );

/**
 * The smallest groups that hold the seeds and are closed: a linked path follows the other into its group, and no
 * outcome has a file where it needs a folder, however each group is decided.
 */
export const closeGroups = (
  sides: Sides,
  seeds: readonly (readonly Path[])[],
  links: readonly Rename[],
): Path[][] => {
  const forest = makeForest();
  for (const [first, ...rest] of seeds) {
    if (first === undefined) continue;
    forest.join(first, first);
    for (const path of rest) forest.join(first, path);
  }
  for (let grew = true; grew; ) {
    grew = false;
    for (const { from, to } of links) {
      if (forest.has(from) || forest.has(to)) grew = forest.join(from, to) || grew;
    }
    if (grew) continue;
    const kept = forest.paths();
    for (const { from, to } of [...outcomes(sides, kept).flatMap(clashesIn), ...nestedIn(kept)]) {
      grew = forest.join(from, to) || grew;
    }
  }
  return forest.groups();
};
