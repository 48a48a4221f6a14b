import type { Sides } from './groups.ts';
import type { Path } from './listing.ts';
import type { Note, Said, Stage } from './merge-said.ts';
import { type Entry, type Rename, sameEntry, type Wish } from './tree.ts';

/**
 * What git's merge (2.39 at least) loses without a word. A file that both sides have, where a folder was renamed onto the
 * one that holds it: it is put back. And a new file under an old name: one side moved a file and made another in its
 * place, the other moved it the same way, and git takes the new file for the moved one; that is a conflict.
 */

/** Git skips empty files when it looks for renames, since all of them are the same. */
export const EMPTY_BLOBS: ReadonlySet<string> = new Set([
  'e69de29bb2d1d6434b8b29ae775ad8c2e48c5391',
  '473a0f4c3be8a93681a267e3b1e9a7dcda1185436fe141f7749120a303721813',
]);

/** What a path that both sides have shall be; undefined where ids alone do not say. */
const agreedOf = ({ base, local, remote }: Sides, path: Path): Entry | undefined => {
  const [was, here, there] = [base.get(path), local.get(path), remote.get(path)];
  if (sameEntry(here, there) || sameEntry(there, was)) return here;
  return sameEntry(here, was) ? there : undefined;
};

/** The entries that both sides have and the merge has not, though nobody removed or renamed them. */
export const lostOf = (sides: Sides, { stages }: Said, aside: ReadonlySet<Path>): Wish[] =>
  [...sides.local.keys()].flatMap((path) => {
    if (!sides.remote.has(path) || sides.merged.has(path) || stages.has(path) || aside.has(path)) return [];
    const after = agreedOf(sides, path);
    return after ? [{ path, after }] : [];
  });

type Dropped = { path: Path; to: Path[]; stage: Stage; by: 'local' | 'remote' };

/** What one side wrote, and the merge has neither there, nor where the other side moved it, nor anywhere else. */
const droppedOf = (
  { base, merged, ...sides }: Sides,
  by: 'local' | 'remote',
  otherRenames: readonly Rename[],
): Dropped[] => {
  const side = sides[by];
  const isOurs = (path: Path): boolean => !sameEntry(side.get(path), base.get(path));
  const kept = new Set([...merged.values()].map(({ oid }) => oid));
  return [...side].flatMap(([path, entry]) => {
    if (merged.has(path) || !isOurs(path)) return [];
    if (kept.has(entry.oid) && !EMPTY_BLOBS.has(entry.oid)) return [];
    const to = otherRenames.filter(({ from }) => from === path).map((rename) => rename.to);
    // An edit went along to the new name, where only the other side has a file.
    if (to.some((name) => !isOurs(name))) return [];
    const was = base.get(path);
    return [{ path, to, by, stage: { ...(was && { base: was }), [by]: entry } }];
  });
};

const noteOf = ({ path, to, by }: Dropped): Note => {
  const other = by === 'local' ? 'remote' : 'local';
  const moved = to.length > 0 ? `moved to ${to.join(', ')} in ${other}` : `gone in ${other}`;
  return {
    paths: [path, ...to],
    type: 'CONFLICT (rename/delete)',
    text: `CONFLICT: ${path} is ${moved}, and ${by} has another file in its place.`,
  };
};

/**
 * What git said, and a conflict for each file that it drops without a word. `aside` are paths that git was not shown
 * as they are.
 */
export const withDropped = (
  said: Said,
  sides: Sides,
  renames: { local: readonly Rename[]; remote: readonly Rename[] },
  aside: ReadonlySet<Path>,
): Said => {
  const found = [
    ...droppedOf(sides, 'local', renames.remote),
    ...droppedOf(sides, 'remote', renames.local),
  ].filter(({ path }) => !said.stages.has(path) && !aside.has(path));
  if (found.length === 0) return said;
  const stages = new Map(said.stages);
  for (const { path, stage } of found) stages.set(path, stage);
  return { ...said, stages, notes: [...said.notes, ...found.map(noteOf)] };
};
