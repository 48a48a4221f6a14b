import { namesAtHand } from './folder-names.ts';
import type { Path } from './listing.ts';
import type { Shadow } from './shadow.ts';
import type { Change, Entry } from './tree.ts';
import { FOLDER, type ReadonlyNames } from './tree-bytes.ts';

/** Where two trees differ, by the folders in which they do, as long as these are few and at hand. */

/** Folders that are read at most; a git is quicker with more. */
const MAX_FOLDERS = 64;

/** `folders`: ids of the folders of the second tree that the first does not have at the same place. */
export type FewChanges = { changes: Change[]; folders: string[] };

type Walk = { shadow: Shadow; left: number; found: FewChanges };

const TOO_MUCH = Symbol('more than a walk by hand is for');

const namesOf = async (walk: Walk, oid: string | undefined): Promise<ReadonlyNames> => {
  if (oid === undefined) return new Map();
  walk.left -= 1;
  const names = walk.left < 0 ? undefined : await namesAtHand(walk.shadow, oid);
  if (!names) throw TOO_MUCH;
  return names;
};

const fileOf = (one: Entry | undefined): Entry | undefined => (one?.mode === FOLDER ? undefined : one);
const folderOf = (one: Entry | undefined): string | undefined => (one?.mode === FOLDER ? one.oid : undefined);

/** Where one of two folders has another entry than the other. */
const differing = (before: ReadonlyNames, after: ReadonlyNames): Set<Path> => {
  const found = new Set<Path>();
  for (const [name, { mode, oid }] of after) {
    const was = before.get(name);
    if (was?.oid !== oid || was.mode !== mode) found.add(name);
  }
  for (const name of before.keys()) if (!after.has(name)) found.add(name);
  return found;
};

const walkFolder = async (
  walk: Walk,
  folder: Path,
  from: string | undefined,
  to: string | undefined,
): Promise<void> => {
  const [before, after] = [await namesOf(walk, from), await namesOf(walk, to)];
  if (to !== undefined) walk.found.folders.push(to);
  for (const name of [...differing(before, after)].sort()) {
    const [was, is] = [before.get(name), after.get(name)];
    const path = folder === '' ? name : `${folder}/${name}`;
    const [oldFile, newFile] = [fileOf(was), fileOf(is)];
    if (oldFile || newFile) walk.found.changes.push({ path, before: oldFile, after: newFile });
    const [oldFolder, newFolder] = [folderOf(was), folderOf(is)];
    if (oldFolder !== newFolder) await walkFolder(walk, path, oldFolder, newFolder);
  }
};

/** Every path in which two trees differ; undefined where a git has to tell. */
export const fewChanges = async (
  shadow: Shadow,
  from: string,
  to: string,
): Promise<FewChanges | undefined> => {
  const walk: Walk = { shadow, left: MAX_FOLDERS, found: { changes: [], folders: [] } };
  try {
    await walkFolder(walk, '', from, to);
  } catch (thrown) {
    if (thrown === TOO_MUCH) return undefined;
    throw thrown;
  }
  return walk.found;
};
