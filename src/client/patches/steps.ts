import { git } from '../../patch/git.ts';
import type { Held } from '../../patch/plan.ts';
import type { Repository } from '../../patch/shadow.ts';
import { KhloneError } from '../../protocol/error.ts';
import { type Done, pullInto, recoverExchange, syncTo } from './exchange.ts';
import type { Choice, Far, Look } from './far.ts';
import { type Ground, openGround, present, snapshotOf } from './ground.ts';
import { inTurn } from './lock.ts';
import { fetchRemote, type Meeting, meet } from './meet.ts';

/** A whole pull or sync: what was begun before is finished, both sides are looked at, and then one of them changes. */

export type StepPlace = { repository: Repository; zone: string; choice: Choice };

/** What may not move now, judged by what each side would get. */
export type Judge = (
  ground: Ground,
  trees: { base: string | undefined; local: string; remote: string },
) => Promise<Held[]>;

const QUESTION_DEADLINE_MS = 30_000;
const MAX_ANSWER_BYTES = 64 * 1024;
/** A worktree whose id was taken by a copy sends again under a new one: once is enough. */
const TRIES = 2;

/**
 * What both sides had before they ever met: the tree of the commit that both come from. Undefined where they share
 * none, or the zone's commit is not here: then what differs is for the person to decide.
 */
const firstBase = async ({ repository }: Ground, { head }: Look): Promise<string | undefined> => {
  if (head === undefined) return undefined;
  const options = { cwd: repository.worktree, deadlineMs: QUESTION_DEADLINE_MS, maxBytes: MAX_ANSWER_BYTES };
  const common = await git(['merge-base', 'HEAD', head], options);
  if (common.code !== 0) return undefined;
  const tree = await git(
    ['rev-parse', '--verify', '--quiet', `${common.stdout.toString('utf8').trim()}^{tree}`],
    options,
  );
  return tree.code === 0 ? tree.stdout.toString('utf8').trim() : undefined;
};

/** Both sides as they are now, and what would become of them. `localTree`: as it was when a sync was queued. */
const look = async (
  ground: Ground,
  far: Far,
  judge: Judge,
  localTree?: string,
): Promise<{ meeting: Meeting; seen: Look }> => {
  const [local, seen] = await Promise.all([
    localTree ?? snapshotOf(ground).then(({ tree }) => tree),
    fetchRemote(ground, far),
  ]);
  const base = (await present(ground, ground.state.base)) ?? (await firstBase(ground, seen));
  const trees = { base, local, remote: seen.tree };
  return { meeting: await meet(ground, { ...trees, held: await judge(ground, trees) }), seen };
};

const isClear = ({ plan }: Meeting, { refused }: Pick<Done, 'refused'>): boolean =>
  plan.blocked.size === 0 && refused.length === 0;

const withGround = <T>(place: StepPlace, far: Far, work: (ground: Ground) => Promise<T>): Promise<T> =>
  inTurn(place.repository.gitDir, async () => {
    const ground = await openGround(place.repository, place.zone, place.choice);
    await recoverExchange(ground, far);
    return work(ground);
  });

/** Brings the zone's changes here. What is in conflict or held stays on both sides as it is. */
export const pull = (place: StepPlace, far: Far, judge: Judge): Promise<Done & { seen: Look }> =>
  withGround(place, far, async (ground) => {
    const { meeting, seen } = await look(ground, far, judge);
    const done = await pullInto(ground, meeting);
    if (isClear(meeting, done)) await far.agree({ tree: meeting.remote });
    return { ...done, seen };
  });

/**
 * Brings this worktree's changes to the zone: its present state, or the one that was queued as `localTree`. Throws
 * `conflict` where two worktrees keep taking each other's id.
 */
export const sync = (
  place: StepPlace,
  far: Far,
  judge: Judge,
  localTree?: string,
): Promise<Done & { seen: Look }> =>
  withGround(place, far, async (ground) => {
    for (let n = 0; n < TRIES; n += 1) {
      const { meeting, seen } = await look(ground, far, judge, localTree);
      const done = await syncTo(ground, far, meeting);
      if (done === 'copied') continue;
      if (isClear(meeting, done) && meeting.plan.toLocal.length === 0 && ground.state.remote)
        await far.agree({ tree: ground.state.remote });
      return { ...done, seen };
    }
    throw new KhloneError('conflict', 'another copy of this worktree syncs at the same time', 'try again');
  });

/** What a pull and a sync would do now; nothing moves. */
export const compare = (
  place: StepPlace,
  far: Far,
  judge: Judge,
): Promise<{ meeting: Meeting; seen: Look }> => withGround(place, far, (ground) => look(ground, far, judge));
