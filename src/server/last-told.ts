import type { AnswerOf } from '../protocol/calls.ts';

/**
 * What a zone told last, and to which worktree: who sends a change before the answer came counts on that and on nothing
 * else. Known until the next change, or the end of this server; then the change is sent again after the answer.
 */

export type Told = { replica: string; tree: string };

const told = new Map<string, Told>();
const MAX_ZONES = 1_000;

/** Notes an answer in which nothing is left out, and git is in the middle of nothing: nobody needs to be told more. */
export const noteTold = (
  zone: string,
  replica: string,
  { tree, leftOut, underway }: AnswerOf<'patch.look'>,
): void => {
  told.delete(zone);
  if (leftOut.length > 0 || underway !== undefined) return;
  if (told.size >= MAX_ZONES) told.clear();
  told.set(zone, { replica, tree });
};

/** What was told last, once: afterwards the zone may be another. */
export const takeTold = (zone: string): Told | undefined => {
  const last = told.get(zone);
  told.delete(zone);
  return last;
};
