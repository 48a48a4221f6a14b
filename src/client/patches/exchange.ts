import * as z from 'zod';
import { type Application, applyChanges, recoverApplications } from '../../patch/apply.ts';
import { sweepDisplaced } from '../../patch/displaced.ts';
import { sealEnvelope } from '../../patch/envelope.ts';
import type { Path } from '../../patch/listing.ts';
import { untilReady } from '../../patch/payload.ts';
import { tidy } from '../../patch/pins.ts';
import { baseAfterPull, baseAfterSync } from '../../patch/plan.ts';
import { renewReplica } from '../../patch/replica.ts';
import { type Change, diffTrees, entriesOf, sameEntry, treeWith } from '../../patch/tree.ts';
import { treeTaken } from '../../patch/tree-taken.ts';
import { allOf } from '../../protocol/all-of.ts';
import { asKhloneError, KhloneError } from '../../protocol/error.ts';
import { faultPoint } from '../../protocol/fault-point.ts';
import type { Refusal } from '../../protocol/patch.ts';
import type { Far } from './far.ts';
import { applyPlaceOf, type Ground, holdFor, keepState, noteState, present } from './ground.ts';
import { NOT_NAMED } from './judge.ts';
import { keptConflicts, type Meeting, meet, payloadIn } from './meet.ts';
import { type Pending, readState, type ZoneState } from './state.ts';

/**
 * The two steps of an exchange. Each is written down before it begins and again when it is over; what dies in between
 * is finished from that note. The base moves last: until then a repeated step finds the same difference.
 */

export type Done = {
  meeting: Meeting;
  /** Paths that moved. */
  done: Path[];
  /** Paths that were changed meanwhile by somebody else: the next exchange looks at them again. */
  refused: Refusal[];
};

const pendingOf = (kind: Pending['kind'], { base, local, remote, held }: Meeting): Pending => ({
  ...{ kind, local, remote, held: [...held] },
  ...(base && { base }),
});

/** What is known of both sides after they were compared. */
export const seenState = (ground: Ground, meeting: Meeting): ZoneState => {
  const { toLocal, toRemote, held } = meeting.plan;
  return {
    ...ground.state,
    conflicts: keptConflicts(ground, meeting),
    held: held.filter(({ why }) => why !== NOT_NAMED),
    seenMs: Date.now(),
    toSend: toRemote.length,
    toPull: toLocal.length,
  };
};

/** The state once a step is over. */
const stateAfter = (ground: Ground, meeting: Meeting, base: string): ZoneState => {
  const { pending: _, ...rest } = seenState(ground, meeting);
  return { ...rest, base };
};

const finishPull = async (ground: Ground, meeting: Meeting, applied: Application): Promise<Done> => {
  const { done, refused } = applied;
  const failed = refused.map(({ path }) => path);
  const wishes = baseAfterPull(meeting.merge.sides, meeting.plan, failed);
  const base = await treeWith(ground.shadow, meeting.remote, wishes);
  await keepState(ground, { ...stateAfter(ground, meeting, base), toPull: failed.length });
  faultPoint('patch.pulled');
  await applied.settle();
  return { meeting, done, refused };
};

/** Brings what the zone has to the worktree. Nothing is told to the zone. */
export const pullInto = async (ground: Ground, meeting: Meeting): Promise<Done> => {
  await keepState(ground, { ...ground.state, pending: pendingOf('pull', meeting) });
  faultPoint('patch.pending-pull');
  const { toLocal, moves } = meeting.plan;
  const application = await applyChanges(applyPlaceOf(ground), ground.shadow, toLocal, {
    note: { zone: ground.zone },
    moves: moves.toLocal,
  });
  const done = await finishPull(ground, meeting, application);
  await sweepDisplaced(applyPlaceOf(ground), Date.now());
  await tidy(ground.shadow);
  return done;
};

/** A sync that is over. `base`: what both sides had when its state was taken, with what of that moved since. */
type Sent = { meeting: Meeting; failed: readonly Path[]; base: string };

/** A tree that was agreed on since the state was taken, with what moved: each path where it is as it was then. */
const movedOn = async (
  { shadow }: Ground,
  tree: string,
  { meeting, failed, base }: Sent,
): Promise<string> => {
  if (meeting.base === undefined) return tree;
  const { merge, plan } = meeting;
  const left = new Set(failed);
  // What a pull brought since is in the worktree together with what was sent.
  const isPulled = ({ path, before }: Change): boolean =>
    !left.has(path) && !sameEntry(before, merge.sides.base.get(path));
  const changes = [...(await diffTrees(shadow, meeting.base, base)), ...plan.toRemote.filter(isPulled)];
  const now = await entriesOf(
    shadow,
    tree,
    changes.map(({ path }) => path),
  );
  return treeWith(
    shadow,
    tree,
    changes.filter(({ path, before }) => sameEntry(now.get(path), before)),
  );
};

/**
 * What both sides have after a sync. A state that was queued may be older than a pull or a decision in between: it
 * does not know what that brought, so only what it changed itself is taken over.
 */
const baseAfter = async (ground: Ground, sent: Sent): Promise<string> => {
  const { base } = ground.state;
  const isOlder = sent.meeting.base !== base && (await present(ground, base)) !== undefined;
  return isOlder && base !== undefined ? movedOn(ground, base, sent) : sent.base;
};

/**
 * States that were queued behind one that is sent now come from that one: it is what both sides have had, as far as
 * it moved, and a file that it brought was not made by both. Each keeps what was agreed on before it was queued.
 */
const queuedAfter = async (ground: Ground, sent: Sent): Promise<Pick<ZoneState, 'queued'>> => {
  const { queued = [] } = ground.state;
  const { local, base } = sent.meeting;
  const isSent = (one: { tree: string; base: string }): boolean => one.tree === local && one.base === base;
  if (!queued.some(isSent)) return {};
  const behind: typeof queued = [];
  for (const one of queued)
    behind.push(isSent(one) ? one : { tree: one.tree, base: await movedOn(ground, one.base, sent) });
  return { queued: behind };
};

const finishSync = async (
  ground: Ground,
  meeting: Meeting,
  result: string,
  told: readonly Refusal[],
  isHeard = true,
): Promise<Done> => {
  // The zone may say what it likes: only what was sent to it can have failed there, and each path once.
  const sent = new Set(meeting.plan.toRemote.map(({ path }) => path));
  const whys = new Map(told.map(({ path, why }) => [path, why]));
  const refused = [...sent].flatMap((path) => (whys.has(path) ? [{ path, why: whys.get(path) ?? '' }] : []));
  const failed = refused.map(({ path }) => path);
  const wishes = baseAfterSync(meeting.merge.sides, meeting.plan, failed);
  const after = { meeting, failed, base: await treeWith(ground.shadow, meeting.local, wishes) };
  const base = await baseAfter(ground, after);
  const remote = await treeTaken(ground.shadow, result, meeting.plan.toRemote, failed);
  const behind = await queuedAfter(ground, after);
  await keepState(ground, {
    ...stateAfter(ground, meeting, base),
    ...(!isHeard && { seenMs: ground.state.seenMs, toPull: ground.state.toPull }),
    ...behind,
    remote,
    toSend: failed.length,
  });
  const left = new Set(failed);
  const done = meeting.plan.toRemote.flatMap(({ path }) => (left.has(path) ? [] : [path]));
  return { meeting, done, refused };
};

async function* nothing(): AsyncGenerator<Uint8Array> {}

/**
 * Sends what the worktree has to the zone, which changes each path where it is still as it was told. `copied`: another
 * worktree uses this one's id, so it has a new one now, and asks the zone for its state anew. `early`: before the
 * zone has answered, or without asking; where it must be heard first nothing has moved, and it is `changed`.
 */
export const syncTo = async (
  ground: Ground,
  far: Far,
  meeting: Meeting,
  early?: 'unchanged' | 'edits',
): Promise<Done | 'copied' | 'changed'> => {
  const { shadow, dir } = ground;
  const { toRemote } = meeting.plan;
  // Where nothing waits, the merge itself is what the zone becomes.
  const isWhole = meeting.plan.blocked.size === 0;
  const result = isWhole ? meeting.merge.tree : await treeWith(shadow, meeting.remote, toRemote);
  if (toRemote.length === 0) return finishSync(ground, meeting, result, []);
  const begun = pendingOf('sync', meeting);
  const held = holdFor(ground, { ...ground.state, pending: begun });
  held.catch(() => {});
  const { envelope, payload } = await sealEnvelope(
    shadow,
    { base: meeting.remote, result },
    payloadIn(dir),
    ground.ahead,
  );
  faultPoint('patch.sealed');
  const seq = ground.state.seq + 1;
  const pending = { ...begun, seq, envelope };
  // The zone changes nothing before both are on the disk, so their order says nothing.
  const noted = noteState(ground, { ...ground.state, seq, pending });
  const ready = allOf(held, noted).then(() => faultPoint('patch.pending-sync'));
  const { replica } = ground;
  const settles = isWhole && meeting.plan.toLocal.length === 0;
  const change = { replica, seq, envelope, settles, ...(early && { [early]: true }) };
  const sent = far.apply(change, untilReady(ready, payload)).catch((thrown: unknown) => {
    // An older server does not know the word.
    if (!early || asKhloneError(thrown).code !== 'invalid-params') throw thrown;
    return { answer: { done: 0, repeated: false, copied: false, changed: true }, refused: [] };
  });
  sent.catch(() => {});
  await ready;
  const { answer, refused } = await sent;
  faultPoint('patch.answered');
  if (answer.changed) {
    await forgetPending(ground);
    return 'changed';
  }
  if (!answer.copied) return finishSync(ground, meeting, result, refused, early !== 'edits');
  await becomeAnother(ground);
  return 'copied';
};

/** Two worktrees use one id, a copy and its original: this one takes a new one. */
const becomeAnother = async (ground: Ground): Promise<void> => {
  ground.replica = await renewReplica(ground.repository.gitDir);
  const { pending: _, ...rest } = ground.state;
  await keepState(ground, { ...rest, seq: 0 });
};

const forgetPending = async (ground: Ground): Promise<void> => {
  const { pending: _, ...rest } = ground.state;
  await keepState(ground, rest);
};

const again = (ground: Ground, { base, local, remote, held }: Pending): Promise<Meeting> =>
  meet(ground, { base, local, remote, held });

/** Whether a sync that was begun reached the zone; asking is the same call again, with nothing to apply. */
const recoverSync = async (ground: Ground, far: Far, pending: Pending): Promise<void> => {
  const { seq, envelope } = pending;
  if (seq === undefined || envelope === undefined) return forgetPending(ground);
  try {
    const { replica } = ground;
    const { answer, refused } = await far.apply({ replica, seq, envelope }, nothing());
    if (!answer.repeated) return await forgetPending(ground);
    await finishSync(ground, await again(ground, pending), envelope.result, refused);
  } catch (thrown) {
    // The zone has not taken it in, and refuses an empty payload: nothing moved there.
    if (!['conflict', 'invalid-params', 'not-found'].includes(asKhloneError(thrown).code)) throw thrown;
    await forgetPending(ground);
  }
};

/** The ground as another zone of this worktree sees it. */
const groundOf = async (ground: Ground, zone: string): Promise<Ground> =>
  zone === ground.zone ? ground : { ...ground, zone, state: await readState(ground.repository.gitDir, zone) };

const Note = z.object({ zone: z.string(), conflict: z.string().optional() });

/** Finishes what a process that died had begun to write here, whichever zone it was for; needs no link. */
export const recoverPull = async (ground: Ground): Promise<void> => {
  const found = await recoverApplications(applyPlaceOf(ground), ground.shadow);
  for (const applied of found) {
    const note = Note.safeParse(applied.note).data;
    const theirs = note && (await groundOf(ground, note.zone));
    const pending = theirs?.state.pending;
    if (theirs && note.conflict !== undefined) await finishDecision(theirs, note.conflict, applied);
    else if (theirs && pending?.kind === 'pull')
      await finishPull(theirs, await again(theirs, pending), applied);
    else await applied.settle();
  }
  if (ground.state.pending?.kind === 'pull') await forgetPending(ground);
};

/**
 * A conflict whose outcome is in the worktree is over: the base takes the zone's version of its paths, so that what is
 * here from now on is an edit of that. It stays where somebody changed one of the paths meanwhile.
 */
export const finishDecision = async (
  ground: Ground,
  id: string,
  applied: Pick<Application, 'refused' | 'settle'>,
): Promise<void> => {
  const { shadow, state } = ground;
  const decided = state.conflicts.find((one) => one.id === id);
  if (decided && applied.refused.length === 0) {
    if (state.base === undefined)
      throw new KhloneError('conflict', 'both sides were never compared', 'khlone pull');
    const wishes = decided.stages.map(([path, { remote }]) => ({ path, after: remote }));
    const base = await treeWith(shadow, state.base, wishes);
    await keepState(ground, { ...state, base, conflicts: state.conflicts.filter((one) => one.id !== id) });
  }
  await applied.settle();
};

/** Finishes what was begun before this exchange. */
export const recoverExchange = async (ground: Ground, far: Far): Promise<void> => {
  await recoverPull(ground);
  const { pending } = ground.state;
  if (pending) await recoverSync(ground, far, pending);
};
