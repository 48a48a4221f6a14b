import { setImmediate } from 'node:timers/promises';
import { patchAhead } from '../../patch/envelope.ts';
import type { Branch, Halt } from '../../patch/halt.ts';
import { changesIgnoreRules } from '../../patch/ignored.ts';
import { type LeftOut, repositoriesIn } from '../../patch/left-out.ts';
import { type Path, pathText } from '../../patch/listing.ts';
import type { Flag } from '../../patch/policy.ts';
import type { Repository } from '../../patch/shadow.ts';
import type { Snapshot } from '../../patch/snapshot.ts';
import { CHANGED } from '../../patch/swap.ts';
import { KhloneError } from '../../protocol/error.ts';
import { agreedBase } from './agreed-base.ts';
import { type Done, pullInto, recoverExchange, seenState, syncTo } from './exchange.ts';
import { agreeIfThere, type Choice, type Far, type Look } from './far.ts';
import { type Ground, holdFor, keepState, openGround, present, snapshotOf } from './ground.ts';
import { type Direction, flagsOf, forgetNamed, ignoredBefore, judge, type Wish } from './judge.ts';
import { inTurn } from './lock.ts';
import { askZone, type Meeting, meet, noteRemote } from './meet.ts';
import { createQuestion } from './question.ts';
import { expectedOf, noteCalm, sendEarly } from './send-early.ts';
import { type ToldConflict, tellConflicts } from './told.ts';

/** A whole pull or sync: what was begun before is finished, both sides are looked at, and then one of them changes. */

export type StepPlace = { repository: Repository; zone: string; choice: Choice };

export type StepWish = {
  /** Only these paths and what lies below them. */
  files?: readonly Path[];
  /** The person meant it: what would stop the step does not. */
  yes: boolean;
  /** Nobody typed it: it waits while git is in the middle of something in the zone. */
  alone?: boolean;
  /** The zone's branch; undefined where it follows none. */
  branch: Branch;
  /** Of a pull: called right before anything is written. Throws where whoever wished it has left: nothing is begun then. */
  begin?: () => void;
};

/** What stopped a step; nothing moved. */
export type Halted = { halts: Halt[]; meeting: Meeting };
export type Stepped = Done & {
  /** Undefined: nothing of it was asked for. */
  seen: Look | undefined;
  conflicts: ToldConflict[];
  /** What of the worktree does not travel; of a state that was queued it is not known any more. */
  leftOut: LeftOut[];
  /** Nothing waits: all that the step was to move has moved. */
  isClear: boolean;
};

/** A worktree whose id was taken by a copy sends again under a new one: once is enough. */
const TRIES = 2;

/** Begins what a sync sends: most often the zone is as it was seen last, and has not answered yet. */
const beginSync = (ground: Ground, local: string): void => {
  const { base, remote } = ground.state;
  if (remote === undefined || [base, remote].includes(local)) return;
  ground.ahead = patchAhead(ground.shadow, remote, local);
  // Where it fails, the step that asks for it again says so.
  holdFor(ground, { ...ground.state, pending: { kind: 'sync', base, local, remote, held: [] } }).catch(
    () => {},
  );
};

type Here = Pick<Snapshot, 'tree' | 'leftOut'>;
type Looked = { meeting: Meeting; seen: Look; leftOut: LeftOut[] };

/** What would become of both sides. `localTree`: this one as it was when a sync was queued. */
const meetBoth = async (
  ground: Ground,
  far: Far,
  { tree: local, leftOut }: Here,
  seen: Look,
  localTree?: string,
): Promise<Looked> => {
  noteCalm(ground, seen);
  await noteRemote(ground, seen);
  const then = ground.state.queued?.find(({ tree }) => tree === localTree)?.base;
  const base = (await present(ground, then)) ?? (await agreedBase(ground, far, seen.head));
  const held = repositoriesIn(leftOut, seen.leftOut);
  return { meeting: await meet(ground, { base, local, remote: seen.tree, held }), seen, leftOut };
};

/** Both sides as they are now. */
const look = async (ground: Ground, far: Far): Promise<Looked> => {
  const [here, seen] = await Promise.all([snapshotOf(ground), askZone(ground, far)]);
  return meetBoth(ground, far, here, seen);
};

const isClear = ({ plan }: Meeting, { refused }: Pick<Done, 'refused'>): boolean =>
  plan.blocked.size === 0 && refused.length === 0;

const withGround = <T>(place: StepPlace, far: Far, work: (ground: Ground) => Promise<T>): Promise<T> =>
  inTurn(place.repository.gitDir, async () => {
    const ground = await openGround(place.repository, place.zone, place.choice);
    try {
      await recoverExchange(ground, far);
      return await work(ground);
    } finally {
      await ground.holding;
    }
  });

const forgetQueued = async (ground: Ground, localTree: string | undefined): Promise<void> => {
  const { queued = [], ...rest } = ground.state;
  const left = queued.filter(({ tree }) => tree !== localTree);
  if (left.length < queued.length)
    await keepState(ground, { ...rest, ...(left.length > 0 && { queued: left }) });
};

const wishFor = (direction: Direction, { files, branch }: StepWish, isQueued = false): Wish => ({
  ...{ direction, files, branch, isQueued },
});

/**
 * Half of a rebase there takes the files of its later commits away, and a file that is sent into it stops it. Who types
 * a command may mean just that; an exchange by itself waits.
 */
const zoneHalts = ({ underway = [] }: Look, { alone }: StepWish): Halt[] =>
  alone ? underway.map((what) => ({ why: 'operation', message: `in the zone ${what}` })) : [];

/** What does not travel from here is never as the zone knew it: that is told instead of an edit that nobody made. */
const tellLeftOut = (refused: Done['refused'], leftOut: readonly LeftOut[]): Done['refused'] => {
  const whys = new Map(leftOut.map(({ path, why }) => [path, why]));
  return refused.map((one) => {
    const why = one.why === CHANGED ? whys.get(pathText(one.path)) : undefined;
    return why === undefined ? one : { ...one, why: `another file is here, which does not travel (${why})` };
  });
};

/** Brings the zone's changes here. What is in conflict or held stays on both sides as it is. */
export const pull = (
  place: StepPlace,
  far: Far,
  wish: StepWish,
): Promise<(Stepped & { seen: Look; flags: Flag[] }) | Halted> =>
  withGround(place, far, async (ground) => {
    const { meeting: met, seen, leftOut } = await look(ground, far);
    const { meeting, halts: here } = await judge(ground, met, wishFor('toLocal', wish));
    const halts = [...here, ...zoneHalts(seen, wish)];
    if (halts.length > 0 && !wish.yes) return { halts, meeting };
    wish.begin?.();
    if (changesIgnoreRules(meeting.plan.toLocal))
      await keepState(ground, { ...ground.state, ignoredOnce: await ignoredBefore(ground) });
    const done = await pullInto(ground, meeting);
    const clear = isClear(meeting, done);
    if (clear) await agreeIfThere(far, { tree: meeting.remote });
    const conflicts = await tellConflicts(ground.shadow, meeting.merge.conflicts);
    const flags = await flagsOf(ground, done.done, meeting);
    const refused = tellLeftOut(done.refused, leftOut);
    return { ...done, refused, seen, leftOut, conflicts, isClear: clear, flags };
  });

type SyncWish = StepWish & { localTree?: string };

/** What is over: the rest of what is known of it, written down and told. */
const synced = async (
  ground: Ground,
  far: Far,
  wish: SyncWish,
  { meeting, done, seen, leftOut }: Omit<Looked, 'seen'> & Pick<Stepped, 'seen'> & { done: Done },
): Promise<Stepped> => {
  await forgetQueued(ground, wish.localTree);
  await forgetNamed(ground, wish.files);
  const clear = isClear(meeting, done);
  const { toLocal, toRemote } = meeting.plan;
  // What is sent settles it by itself.
  if (clear && toLocal.length + toRemote.length === 0) await far.agree({ tree: meeting.remote });
  const conflicts = await tellConflicts(ground.shadow, meeting.merge.conflicts);
  return { ...done, seen, leftOut, conflicts, isClear: clear };
};

const syncOnce = async (ground: Ground, far: Far, wish: SyncWish): Promise<Stepped | Halted | 'copied'> => {
  const { localTree } = wish;
  const question = createQuestion(ground, far);
  // To start a git holds up this process: the question is on its way first, and both sides look at once.
  if (localTree || expectedOf(ground) === undefined) await question.send();
  await setImmediate();
  const here: Here = localTree ? { tree: localTree, leftOut: [] } : await snapshotOf(ground);
  beginSync(ground, here.tree);
  const judging = wishFor('toRemote', wish, localTree !== undefined);
  const early = localTree
    ? undefined
    : await sendEarly(ground, far, { ...judging, yes: wish.yes, question }, here);
  if (early === 'copied') return early;
  if (early) {
    const seen = await question.asked();
    if (seen && seen.head !== ground.state.head)
      await noteRemote(ground, { ...seen, tree: ground.state.remote ?? seen.tree });
    return synced(ground, far, wish, { ...early, seen, leftOut: here.leftOut });
  }
  const seen = await question.answer();
  const looked = await meetBoth(ground, far, here, seen, localTree);
  const { meeting, halts: found } = await judge(ground, looked.meeting, judging);
  const halts = [...found, ...zoneHalts(seen, wish)];
  if (halts.length > 0 && !wish.yes) return { halts, meeting };
  const done = await syncTo(ground, far, meeting);
  if (done === 'changed')
    throw new KhloneError('conflict', 'the zone refuses the state that it told', 'try again');
  return done === 'copied' ? done : synced(ground, far, wish, { ...looked, meeting, done });
};

/**
 * Brings this worktree's changes to the zone: its present state, or the one that was queued as `localTree`. Throws
 * `conflict` where two worktrees keep taking each other's id.
 */
export const sync = (place: StepPlace, far: Far, wish: SyncWish): Promise<Stepped | Halted> =>
  withGround(place, far, async (ground) => {
    for (let n = 0; n < TRIES; n += 1) {
      const stepped = await syncOnce(ground, far, wish);
      if (stepped !== 'copied') return stepped;
    }
    throw new KhloneError('conflict', 'another copy of this worktree syncs at the same time', 'try again');
  });

/** What a pull and a sync would do now; nothing moves. */
export const compare = (place: StepPlace, far: Far): Promise<{ meeting: Meeting; seen: Look }> =>
  withGround(place, far, async (ground) => {
    const { meeting, seen } = await look(ground, far);
    await keepState(ground, seenState(ground, meeting));
    return { meeting, seen };
  });
