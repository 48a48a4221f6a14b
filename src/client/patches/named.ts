import { isAbsolute, relative, resolve, sep } from 'node:path';
import { type Path, pathText } from '../../patch/listing.ts';
import { openShadow, shadowDirOf } from '../../patch/shadow.ts';
import { listTree } from '../../patch/tree.ts';
import { KhloneError } from '../../protocol/error.ts';
import { oneLine } from '../../protocol/sanitize.ts';
import type { Trees } from './meet.ts';
import type { StepPlace } from './steps.ts';

/** Files as a person names them, from wherever they stand, as paths of the worktree. */

const LIST_DEADLINE_MS = 60_000;

const asPath = (text: string): Path => Buffer.from(text, 'utf8').toString('latin1');

const NO_TEXT = '\ufffd';

/**
 * Whether a person means this path. Words of a command line are text, so a name that is none comes with replacement
 * characters for what it holds.
 */
export const isMeant = (named: Path, path: Path): boolean =>
  named === path || (pathText(named).includes(NO_TEXT) && pathText(named) === pathText(path));

/** Throws `usage` for a file outside of the worktree. */
export const pathFrom = (cwd: string, root: string, file: string): Path => {
  const path = relative(root, resolve(cwd, file));
  if (path === '..' || path.startsWith(`..${sep}`) || isAbsolute(path))
    throw new KhloneError('usage', `${file} is not in this worktree`, `files below ${root}`);
  return asPath(path);
};

/** Undefined where none is named, or the whole worktree is. */
export const pathsFrom = (cwd: string, root: string, files: readonly string[]): Path[] | undefined => {
  const paths = files.map((file) => pathFrom(cwd, root, file));
  return paths.length === 0 || paths.includes('') ? undefined : paths;
};

/** Paths with their reasons, as people and scripts read them. */
export const asText = <T extends { path: Path }>(told: readonly T[]): T[] =>
  told.map((one) => ({ ...one, path: pathText(one.path) }));

/** Whether a tree has the path, or files below it. */
const hasPath = (names: Iterable<Path>, path: Path): boolean => {
  for (const name of names) if (name === path || name.startsWith(`${path}/`)) return true;
  return false;
};

/** Throws `usage` for a file that neither side has nor had: a slip of the hand is told, not passed over. */
export const assertKnown = async (
  { repository }: StepPlace,
  { base, local, remote }: Pick<Trees, 'base' | 'local' | 'remote'>,
  files: readonly Path[] | undefined,
): Promise<void> => {
  if (!files) return;
  const shadow = await openShadow(repository, shadowDirOf(repository.gitDir), LIST_DEADLINE_MS);
  const trees = [local, remote, base].filter((tree) => tree !== undefined);
  const names = await Promise.all(trees.map(async (tree) => [...(await listTree(shadow, tree)).keys()]));
  const wrong = files.filter((file) => !names.some((all) => hasPath(all, file)));
  if (wrong.length === 0) return;
  const shown = wrong.slice(0, 5).map((path) => oneLine(pathText(path), 200));
  throw new KhloneError(
    'usage',
    `neither here nor in the zone: ${shown.join(', ')}`,
    'khlone diff, or git status',
  );
};
