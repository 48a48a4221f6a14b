import { realpathSync } from 'node:fs';
import { lstat } from 'node:fs/promises';
import { basename, dirname, isAbsolute, join, relative, resolve, sep } from 'node:path';
import { isTold, type Left, type LeftOut } from '../../patch/left-out.ts';
import { type Path, pathText, toBytes } from '../../patch/listing.ts';
import { openShadow, shadowDirOf } from '../../patch/shadow.ts';
import { listTree } from '../../patch/tree.ts';
import { KhloneError } from '../../protocol/error.ts';
import { oneLine } from '../../protocol/sanitize.ts';
import { isNamed } from './judge.ts';
import type { Trees } from './meet.ts';
import type { StepPlace } from './steps.ts';

/** Files as a person names them, from wherever they stand, as paths of the worktree. */

const LIST_DEADLINE_MS = 60_000;

/** A path that people write. */
export const asPath = (text: string): Path => Buffer.from(text, 'utf8').toString('latin1');

/** What stays on its side, by paths as git has them; only of what the person named, if anything. */
export const asPaths = (
  leftOut: readonly LeftOut[],
  files: readonly Path[] | undefined,
): { path: Path; why: string }[] =>
  leftOut
    .map(({ path, why }) => ({ path: asPath(path), why }))
    .filter(({ path }) => files === undefined || isNamed(files, path));

const NO_TEXT = '\ufffd';

/**
 * Whether a person means this path. Words of a command line are text, so a name that is none comes with replacement
 * characters for what it holds.
 */
export const isMeant = (named: Path, path: Path): boolean =>
  named === path || (pathText(named).includes(NO_TEXT) && pathText(named) === pathText(path));

const isBelow = (path: string): boolean => path !== '..' && !path.startsWith(`..${sep}`) && !isAbsolute(path);

/** The same file by its folder's real path: a shell's $PWD may lead through a link to the worktree. */
const throughLinks = (full: string): string => {
  try {
    return join(realpathSync.native(dirname(full)), basename(full));
  } catch {
    return full;
  }
};

/** Throws `usage` for a file outside of the worktree. */
export const pathFrom = (cwd: string, root: string, file: string): Path => {
  const full = resolve(cwd, file);
  const path = [full, throughLinks(full)].map((one) => relative(root, one)).find(isBelow);
  if (path === undefined)
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

/** Why a named file is in no snapshot, and on which side it stays. */
const whyNot = async (
  root: string,
  file: Path,
  { here, there }: Left,
): Promise<{ where: string; why: string } | undefined> => {
  const name = pathText(file);
  const isAbout = ({ path }: LeftOut): boolean => path === name || name.startsWith(`${path}/`);
  const [mine, theirs] = [here.find(isAbout), there.find(isAbout)];
  if (mine) return { where: 'here', why: mine.why };
  if (theirs) return { where: 'in the zone', why: theirs.why };
  const full = Buffer.concat([Buffer.from(`${root}/`), toBytes(file)]);
  const facts = await lstat(full).catch(() => undefined);
  if (!facts) return undefined;
  const isFile = facts.isFile() || facts.isSymbolicLink();
  return { where: 'here', why: isFile ? 'git ignores it' : 'it holds no file that travels' };
};

/** What a person can do about it. */
const nextFor = (why: string): string =>
  isTold({ path: '', why })
    ? 'sync.include in khlone.yml lets a secret travel, sync.max_file larger ones'
    : 'khlone patch list names what never travels, git check-ignore -v FILE the rule';

const MAX_TOLD = 5;

/**
 * Throws `usage` for a file that neither side has nor had, or that stays on its side: a slip of the hand is told, not passed
 * over.
 */
export const assertKnown = async (
  { repository }: StepPlace,
  { base, local, remote }: Pick<Trees, 'base' | 'local' | 'remote'>,
  files: readonly Path[] | undefined,
  left: Left,
): Promise<void> => {
  if (!files) return;
  const shadow = await openShadow(repository, shadowDirOf(repository.gitDir), LIST_DEADLINE_MS);
  const trees = [local, remote, base].filter((tree) => tree !== undefined);
  const names = await Promise.all(trees.map(async (tree) => [...(await listTree(shadow, tree)).keys()]));
  const wrong = files.filter((file) => !names.some((all) => hasPath(all, file)));
  if (wrong.length === 0) return;
  const shown = (path: Path): string => oneLine(pathText(path), 200);
  for (const path of wrong.slice(0, MAX_TOLD)) {
    const stays = await whyNot(repository.worktree, path, left);
    if (!stays) continue;
    const { where, why } = stays;
    throw new KhloneError('usage', `${shown(path)} stays ${where}: ${oneLine(why, 200)}`, nextFor(why));
  }
  throw new KhloneError(
    'usage',
    `neither here nor in the zone: ${wrong.slice(0, MAX_TOLD).map(shown).join(', ')}`,
    'khlone diff, or git status',
  );
};
