import type { Path } from './listing.ts';
import type { Shadow } from './shadow.ts';
import { type Change, treeWith } from './tree.ts';

/**
 * What a zone has once it took `result` in, less what it refused. Both sides make it, each for itself: by its id the
 * zone knows at the next look what it was sent, whatever its rules say of those files.
 */
export const treeTaken = async (
  shadow: Shadow,
  result: string,
  changes: readonly Change[],
  refused: readonly Path[],
): Promise<string> => {
  if (refused.length === 0) return result;
  const left = new Set(refused);
  const back = changes.flatMap(({ path, before }) => (left.has(path) ? [{ path, after: before }] : []));
  return treeWith(shadow, result, back);
};
