import { foldersOf } from './groups.ts';
import { type Path, pathText, toBytes } from './listing.ts';
import { lstat } from './near-disk.ts';
import type { Shadow } from './shadow.ts';
import type { Snapshot } from './snapshot.ts';
import { type Change, diffTrees, diffWithRenames, treeWith } from './tree.ts';

/**
 * What a snapshot leaves out is not gone. A file that both sides have and that one of them ignores, excludes or finds
 * too large since, would look deleted, or back at HEAD's version, and the other side would follow. So it stands in the
 * snapshot as both sides knew it last.
 */

const IGNORED = 'ignored';

const lstatAt = (worktree: string, path: Path) =>
  lstat(Buffer.concat([Buffer.from(`${worktree}/`), toBytes(path)])).catch(() => undefined);

/** Whether a file or a link lies there, and every folder of its path is one. */
const isThere = async (worktree: string, path: Path): Promise<boolean> => {
  const facts = await lstatAt(worktree, path);
  if (!facts?.isFile() && !facts?.isSymbolicLink()) return false;
  const folders = await Promise.all(foldersOf(path).map((folder) => lstatAt(worktree, folder)));
  return folders.every((folder) => folder?.isDirectory());
};

/** Paths of the known tree that a snapshot lacks although they lie in the worktree: rules cover them by now. */
export const hiddenPaths = async (
  shadow: Shadow,
  worktree: string,
  { tree }: Pick<Snapshot, 'tree'>,
  known: string,
): Promise<Path[]> => {
  const gone = (await diffTrees(shadow, known, tree)).filter(({ after }) => after === undefined);
  const found = await Promise.all(
    gone.map(async ({ path }) => ((await isThere(worktree, path)) ? [path] : [])),
  );
  return found.flat();
};

/** The snapshot with all that it leaves out as the known tree has it. */
export const asKnown = async (
  shadow: Shadow,
  worktree: string,
  snapshot: Snapshot,
  known: string,
): Promise<Snapshot> => {
  if (snapshot.tree === known) return snapshot;
  const left = new Set(snapshot.leftOut.map(({ path }) => path));
  const isLeft = (path: Path): boolean => [path, ...foldersOf(path)].some((one) => left.has(pathText(one)));
  const kept: Change[] = [];
  const hidden: Path[] = [];
  // With renames, since a merge asks for the very same next.
  const { changes } = await diffWithRenames(shadow, known, snapshot.tree);
  for (const change of changes) {
    if (change.before === undefined) continue;
    if (isLeft(change.path)) kept.push(change);
    else if (change.after === undefined && (await isThere(worktree, change.path))) {
      kept.push(change);
      hidden.push(change.path);
    }
  }
  if (kept.length === 0) return snapshot;
  const wishes = kept.map(({ path, before }) => ({ path, after: before }));
  return {
    ...snapshot,
    tree: await treeWith(shadow, snapshot.tree, wishes),
    leftOut: [...snapshot.leftOut, ...hidden.map((path) => ({ path: pathText(path), why: IGNORED }))],
  };
};
