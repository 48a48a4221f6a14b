import { join } from 'node:path';
import { exists } from './near-disk.ts';
import type { Plan } from './plan.ts';

/** What stops a whole step until a person says that it is meant. */

export type Halt = {
  why: 'operation' | 'branch' | 'deletion';
  /** For people. It may hold the name of a branch: sanitize before printing. */
  message: string;
};

const AT_WORK = 'index.lock';

/** Files of a git directory that say that git is in the middle of something. */
const OPERATIONS: readonly (readonly [string, string])[] = [
  ['MERGE_HEAD', 'a merge is not finished'],
  ['CHERRY_PICK_HEAD', 'a cherry-pick is not finished'],
  ['REVERT_HEAD', 'a revert is not finished'],
  ['rebase-merge', 'a rebase is not finished'],
  ['rebase-apply', 'a rebase or am is not finished'],
  ['BISECT_LOG', 'a bisect is not finished'],
  [AT_WORK, 'git is at work here (index.lock)'],
];

const haltsOf = async (gitDir: string, operations: typeof OPERATIONS): Promise<Halt[]> => {
  const found = operations.map(async ([name, message]) =>
    (await exists(join(gitDir, name))) ? [{ why: 'operation' as const, message }] : [],
  );
  return (await Promise.all(found)).flat();
};

/** What git is in the middle of, by the worktree's own git directory. */
export const operationHalts = (gitDir: string): Promise<Halt[]> => haltsOf(gitDir, OPERATIONS);

/** The same without what is over in a moment: a zone whose clones work has git at work all the time. */
export const unfinishedIn = async (gitDir: string): Promise<string[]> =>
  (
    await haltsOf(
      gitDir,
      OPERATIONS.filter(([name]) => name !== AT_WORK),
    )
  ).map(({ message }) => message);

/** What HEAD names: its branch (born or not), or nothing where it is detached. */
export type Branch = string | undefined;

/**
 * A worktree that left the branch of its zone would push another branch's files over the crew's work. A zone of a
 * detached HEAD has no branch to leave.
 */
export const branchHalts = (zone: Branch, here: Branch): Halt[] => {
  if (zone === undefined || zone === here) return [];
  const where = here === undefined ? 'HEAD is detached' : `the branch here is ${here}`;
  return [{ why: 'branch', message: `${where}, the zone's is ${zone}` }];
};

const FEW_FILES = 10;

/**
 * A step that deletes more than half of ten or more files, or all there are: rather an accident than work. Moved
 * files do not count. `files` is how many the receiving side has.
 */
export const deletionHalts = (plan: Plan, direction: 'toLocal' | 'toRemote', files: number): Halt[] => {
  const changes = plan[direction];
  const moved = new Set(plan.moves[direction].map(({ from }) => from));
  const added = changes.filter(({ before, after }) => !before && after).length;
  const deletions = changes.filter(({ after }) => after === undefined);
  const gone = deletions.filter(({ path }) => !moved.has(path)).length;
  const isEmptied = deletions.length > 0 && files - deletions.length + added <= 0;
  if (!isEmptied && (files < FEW_FILES || gone * 2 <= files)) return [];
  const side = direction === 'toLocal' ? 'here' : 'in the zone';
  return [{ why: 'deletion', message: `${gone} of ${files} files would be deleted ${side}` }];
};
