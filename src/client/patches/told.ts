import type { Path } from '../../patch/listing.ts';
import type { Stage } from '../../patch/merge-said.ts';
import { type Region, rangesOf } from '../../patch/ranges.ts';
import type { Shadow } from '../../patch/shadow.ts';

/** A conflict with the lines that it is about, for people. */
export type ToldConflict = {
  path: Path;
  /** All that wait together. */
  paths: readonly Path[];
  kind: string;
  message: string;
  ranges: readonly Region[] | undefined;
};

type Known = Omit<ToldConflict, 'path' | 'ranges'> & { contents: Iterable<readonly [Path, Stage]> };

/** Conflicts whose lines are looked up: a person reads no more at once. */
const MAX_WITH_LINES = 50;

export const tellConflicts = (shadow: Shadow, conflicts: readonly Known[]): Promise<ToldConflict[]> =>
  Promise.all(
    conflicts.map(async ({ kind, message, paths, contents }, n) => {
      const [first] = contents;
      const [called, stage] = first ?? ['', undefined];
      // Git calls a file that a folder stands in the way of "name~ID", which is nowhere.
      const path = paths.includes(called) ? called : (paths[0] ?? called);
      const ranges = stage && n < MAX_WITH_LINES ? await rangesOf(shadow, stage) : undefined;
      return { path, paths, kind, message, ranges };
    }),
  );
