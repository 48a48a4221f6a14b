import { join } from 'node:path';
import { foldersOf } from './groups.ts';
import { type Path, toBytes } from './listing.ts';
import { exists } from './near-disk.ts';
import { personalFolder, type SettingsPlace, SYSTEM_FOLDERS, settingPath, settingsMark } from './settings.ts';

/**
 * Whether git's attributes say anything of a worktree's files. Most repositories have none, and then nobody needs to
 * ask a git which files a filter makes.
 */

const NAME = '.gitattributes';

/** Files that hold attributes for every repository, or for all of this one. */
const sharedFiles = ({ commonDir }: SettingsPlace): string[] => [
  join(commonDir, 'info/attributes'),
  join(personalFolder(), 'attributes'),
  ...SYSTEM_FOLDERS.map((folder) => join(folder, 'gitattributes')),
];

const anyExists = async (paths: readonly (string | Buffer)[]): Promise<boolean> =>
  (await Promise.all(paths.map((path) => exists(path)))).some(Boolean);

const isAttributes = (path: Path): boolean => path === NAME || path.endsWith(`/${NAME}`);

/** A mark of the settings where no attribute holds for any of these paths, which are all of the worktree; else undefined. */
export const markWithoutAttributes = async (
  place: SettingsPlace,
  paths: Iterable<Path>,
): Promise<string | undefined> => {
  for (const path of paths) if (isAttributes(path)) return undefined;
  const before = await settingsMark(place);
  if (await anyExists(sharedFiles(place))) return undefined;
  if ((await settingPath(place, 'core.attributesFile')) !== undefined) return undefined;
  return (await settingsMark(place)) === before ? before : undefined;
};

/** Whether that still holds for these paths. Ignored files are in no listing, so each folder is looked at. */
export const isWithoutAttributes = async (
  place: SettingsPlace,
  mark: string | undefined,
  paths: readonly Path[],
): Promise<boolean> => {
  if (mark === undefined) return false;
  const folders = new Set(['', ...paths.flatMap((path) => foldersOf(path).map((folder) => `${folder}/`))]);
  const root = Buffer.from(`${place.worktree}/`);
  const here = [...folders].map((folder) => Buffer.concat([root, toBytes(`${folder}${NAME}`)]));
  return !(await anyExists([...sharedFiles(place), ...here])) && (await settingsMark(place)) === mark;
};
