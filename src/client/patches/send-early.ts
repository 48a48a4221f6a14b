import { type LeftOut, repositoriesIn } from '../../patch/left-out.ts';
import { areEdits } from '../../patch/untouched.ts';
import { type Done, syncTo } from './exchange.ts';
import type { Far, Look } from './far.ts';
import type { Ground } from './ground.ts';
import { judge, type Wish } from './judge.ts';
import { type Meeting, meet } from './meet.ts';
import type { Question } from './question.ts';

/**
 * Sends what a sync has before the zone has answered what it is like: most often nobody changed it meanwhile, and then
 * one round trip is enough for both. Edits of files are sent without a question: the zone takes them where it has these
 * files as they were, and what else happened in it has no say in them. Anything else it takes only where it has just
 * told that it is as it was told before. Otherwise nothing moves, and the sync goes on with what the zone tells.
 */

/** Zones that were as they had been before when they answered last, by worktree. Others are waited for. */
const calm = new Set<string>();
const MAX_CALM = 1_000;
/** More changed files than this wait for the answer: they are not sent in vain. */
const MAX_FILES = 32;

const keyOf = ({ repository, zone }: Ground): string => `${repository.gitDir}\0${zone}`;

/** Notes an answer, before it becomes what is known of the zone. */
export const noteCalm = (ground: Ground, { tree, leftOut, underway }: Look): void => {
  const key = keyOf(ground);
  calm.delete(key);
  if (tree !== ground.state.remote || leftOut.length > 0 || underway !== undefined) return;
  if (calm.size >= MAX_CALM) calm.clear();
  calm.add(key);
};

/** The zone's state as it most likely still is: all of it is agreed on, and nothing waits. */
export const expectedOf = (ground: Ground): string | undefined => {
  const { base, remote, conflicts, queued = [] } = ground.state;
  const isSettled = base !== undefined && base === remote && conflicts.length + queued.length === 0;
  return isSettled && calm.has(keyOf(ground)) ? remote : undefined;
};

export type Sent = { meeting: Meeting; done: Done };

type Early = Wish & { yes: boolean; question: Question };

/** What was sent; undefined where the zone has to be heard first, and nothing was changed. */
export const sendEarly = async (
  ground: Ground,
  far: Far,
  wish: Early,
  { tree: local, leftOut }: { tree: string; leftOut: readonly LeftOut[] },
): Promise<Sent | 'copied' | undefined> => {
  const remote = expectedOf(ground);
  if (remote === undefined || remote === local) return undefined;
  const held = repositoriesIn(leftOut, []);
  const met = await meet(ground, { base: remote, local, remote, held });
  const { meeting, halts } = await judge(ground, met, wish);
  const { toLocal, toRemote } = meeting.plan;
  const isPlain = toLocal.length === 0 && toRemote.length > 0 && toRemote.length <= MAX_FILES;
  if (!isPlain || (halts.length > 0 && !wish.yes)) return undefined;
  const how = areEdits(toRemote) ? 'edits' : 'unchanged';
  // What the zone takes by its answer alone is behind the question.
  if (how === 'unchanged') await wish.question.send();
  const done = await syncTo(ground, far, meeting, how);
  if (done === 'changed') return undefined;
  return done === 'copied' ? done : { meeting, done };
};
