import { type Path, pathText } from './listing.ts';
import type { Entry } from './tree.ts';

/** In which order the paths of an application are changed. */

/** One path. `to`: a removal that waits until the file is at its new place, and does not happen where that failed. */
export type Step = { path: Path; before: Entry | undefined; after: Entry | undefined; to?: Path };

/** Names that one file system or another takes for the same. */
const folded = (path: Path): string => pathText(path).normalize('NFC').toLowerCase();

/** Each folder of a path, and the path itself. */
const upTo = (path: Path): string[] => path.split('/').map((_, n, names) => names.slice(0, n + 1).join('/'));

/**
 * What stands in the way goes first, the deepest first; then everything is written; then the rest goes. So a moved
 * file is at both places for a moment, rather than at none.
 */
export const inOrder = (changes: readonly Step[]): Step[] => {
  const depth = ({ path }: Step): number => path.split('/').length;
  const removals = changes.filter(({ after }) => !after).sort((a, b) => depth(b) - depth(a));
  const writes = changes.filter(({ after }) => after).sort((a, b) => (a.path < b.path ? -1 : 1));
  const places = new Set(writes.map(({ path }) => path));
  const needed = new Set(writes.flatMap(({ path }) => upTo(path).map(folded)));
  const isInTheWay = ({ path }: Step): boolean =>
    needed.has(folded(path)) || upTo(path).some((folder) => places.has(folder));
  return [...removals.filter(isInTheWay), ...writes, ...removals.filter((step) => !isInTheWay(step))];
};
