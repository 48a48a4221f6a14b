import { foldersOf } from './groups.ts';
import { folded } from './letter-case.ts';
import type { Path } from './listing.ts';
import type { Entry, Wish } from './tree.ts';

/** In which order the paths of an application are changed. */

/** One path. `to`: a removal that waits until the file is at its new place, and does not happen where that failed. */
export type Step = { path: Path; before: Entry | undefined; after: Entry | undefined; to?: Path };

const byPath = (one: Wish, other: Wish): number => (one.path < other.path ? -1 : 1);

/**
 * What stands in the way goes first; then everything is written, what made room before the others, so that it can go
 * back where its new place fails; only then the rest goes, the deepest first, so that a moved file is at both places
 * for a moment rather than at none.
 */
export const inOrder = <T extends Wish & Pick<Step, 'to'>>(changes: readonly T[]): T[] => {
  const written = changes.filter(({ after }) => after !== undefined).sort(byPath);
  const removed = changes
    .filter(({ after }) => after === undefined)
    .sort(byPath)
    .reverse();
  if (removed.length === 0) return written;
  const names = new Set(written.flatMap(({ path }) => [path, ...foldersOf(path)]));
  const needed = new Set([...names].map(folded));
  const places = new Set(written.map(({ path }) => path));
  const isInTheWay = ({ path }: Wish): boolean =>
    needed.has(folded(path)) || foldersOf(path).some((folder) => places.has(folder));
  const first = removed.filter(isInTheWay);
  const moved = new Set(first.map(({ to }) => to));
  return [
    ...first,
    ...written.filter(({ path }) => moved.has(path)),
    ...written.filter(({ path }) => !moved.has(path)),
    ...removed.filter((change) => !isInTheWay(change)),
  ];
};
