import { access } from 'node:fs/promises';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { git } from './git.ts';
import { foldersOf } from './groups.ts';
import { fileMark } from './last-snapshot.ts';
import { type Path, toBytes } from './listing.ts';
import type { Repository } from './shadow.ts';

/**
 * Whether git's attributes say anything of a worktree's files. Most repositories have none, and then nobody needs to
 * ask a git which files a filter makes.
 */

type Place = Pick<Repository, 'worktree' | 'gitDir' | 'commonDir'> & { deadlineMs: number };

const NAME = '.gitattributes';
const MAX_ANSWER_BYTES = 64 * 1024;
/** Where gits of different makes have the machine's file. */
const SYSTEM =
  process.platform === 'darwin'
    ? ['/etc', '/usr/local/etc', '/opt/homebrew/etc', '/opt/local/etc']
    : ['/etc', '/usr/local/etc'];

const personal = (): string => join(process.env.XDG_CONFIG_HOME || join(homedir(), '.config'), 'git');

/** Files that hold attributes for every repository, or for all of this one. */
const sharedFiles = ({ commonDir }: Place): string[] => [
  join(commonDir, 'info/attributes'),
  join(personal(), 'attributes'),
  ...SYSTEM.map((folder) => join(folder, 'gitattributes')),
];

/** Files in which `core.attributesFile` could be set. What they include is looked at when one of them changes. */
const settingFiles = ({ gitDir, commonDir }: Place): string[] => [
  join(gitDir, 'config.worktree'),
  join(commonDir, 'config'),
  join(homedir(), '.gitconfig'),
  join(personal(), 'config'),
  ...SYSTEM.map((folder) => join(folder, 'gitconfig')),
];

const exists = (path: string | Buffer): Promise<boolean> =>
  access(path).then(
    () => true,
    () => false,
  );

const anyExists = async (paths: readonly (string | Buffer)[]): Promise<boolean> =>
  (await Promise.all(paths.map(exists))).some(Boolean);

const settingsMark = async (place: Place): Promise<string> =>
  (await Promise.all(settingFiles(place).map(fileMark))).join(';');

const isSet = async ({ worktree: cwd, deadlineMs }: Place): Promise<boolean> => {
  const options = { cwd, deadlineMs, maxBytes: MAX_ANSWER_BYTES };
  return (await git(['config', '--get', 'core.attributesFile'], options)).code !== 1;
};

const isAttributes = (path: Path): boolean => path === NAME || path.endsWith(`/${NAME}`);

/** A mark of the settings where no attribute holds for any of these paths, which are all of the worktree; else undefined. */
export const markWithoutAttributes = async (
  place: Place,
  paths: Iterable<Path>,
): Promise<string | undefined> => {
  for (const path of paths) if (isAttributes(path)) return undefined;
  const before = await settingsMark(place);
  if ((await anyExists(sharedFiles(place))) || (await isSet(place))) return undefined;
  return (await settingsMark(place)) === before ? before : undefined;
};

/** Whether that still holds for these paths. Ignored files are in no listing, so each folder is looked at. */
export const isWithoutAttributes = async (
  place: Place,
  mark: string | undefined,
  paths: readonly Path[],
): Promise<boolean> => {
  if (mark === undefined) return false;
  const folders = new Set(['', ...paths.flatMap((path) => foldersOf(path).map((folder) => `${folder}/`))]);
  const root = Buffer.from(`${place.worktree}/`);
  const here = [...folders].map((folder) => Buffer.concat([root, toBytes(`${folder}${NAME}`)]));
  return !(await anyExists([...sharedFiles(place), ...here])) && (await settingsMark(place)) === mark;
};
