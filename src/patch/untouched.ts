import { enter } from './beneath.ts';
import { blobAt } from './blob-id.ts';
import { isSafePath } from './safe-path.ts';
import type { Change, Entry } from './tree.ts';

/**
 * Edits of files, and whether they meet those files as they were. What becomes of such a file is decided by it alone:
 * a merge would give the same, whatever else was changed, made, removed or renamed beside it.
 */

const isFile = (entry: Entry | undefined): boolean =>
  entry !== undefined && (entry.mode === '100644' || entry.mode === '100755');

/** Whether nothing is made, removed or turned into something else. */
export const areEdits = (changes: readonly Change[]): boolean =>
  changes.every(({ before, after }) => isFile(before) && isFile(after));

const isAsBefore = async (root: string, { path, before }: Change, idLength: number): Promise<boolean> => {
  if (!isSafePath(path)) return false;
  const names = path.split('/');
  const folder = await enter(root, names.slice(0, -1), false);
  if (!folder) return false;
  try {
    const found = await blobAt(folder.at(names.at(-1) ?? ''), idLength);
    return typeof found === 'object' && found.mode === before?.mode && found.oid === before.oid;
  } finally {
    await folder.close();
  }
};

/** Whether each file is as it was before its change. `idLength`: hexadecimal digits of an object id. */
export const areUntouched = async (
  root: string,
  changes: readonly Change[],
  idLength: number,
): Promise<boolean> => {
  for (const change of changes) if (!(await isAsBefore(root, change, idLength))) return false;
  return true;
};
