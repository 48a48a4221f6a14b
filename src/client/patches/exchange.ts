import { createReadStream } from 'node:fs';
import { rm } from 'node:fs/promises';
import { type Application, applyChanges, recoverApplications } from '../../patch/apply.ts';
import { sweepDisplaced } from '../../patch/displaced.ts';
import { sealEnvelope } from '../../patch/envelope.ts';
import type { Path } from '../../patch/listing.ts';
import { tidy } from '../../patch/pins.ts';
import { baseAfterPull, baseAfterSync } from '../../patch/plan.ts';
import { renewReplica } from '../../patch/replica.ts';
import { treeWith } from '../../patch/tree.ts';
import { asKhloneError } from '../../protocol/error.ts';
import type { Refusal } from '../../protocol/patch.ts';
import type { Far } from './far.ts';
import { applyPlaceOf, type Ground, keepState } from './ground.ts';
import { NOT_NAMED } from './judge.ts';
import { keptConflicts, type Meeting, meet, payloadIn } from './meet.ts';
import type { Pending, ZoneState } from './state.ts';

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
  await applied.settle();
  return { meeting, done, refused };
};

/** Brings what the zone has to the worktree. Nothing is told to the zone. */
export const pullInto = async (ground: Ground, meeting: Meeting): Promise<Done> => {
  await keepState(ground, { ...ground.state, pending: pendingOf('pull', meeting) });
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

const finishSync = async (
  ground: Ground,
  meeting: Meeting,
  result: string,
  refused: readonly Refusal[],
): Promise<Done> => {
  const failed = refused.map(({ path }) => path);
  const wishes = baseAfterSync(meeting.merge.sides, meeting.plan, failed);
  const base = await treeWith(ground.shadow, meeting.local, wishes);
  const remote = failed.length === 0 ? result : meeting.remote;
  await keepState(ground, { ...stateAfter(ground, meeting, base), remote, toSend: failed.length });
  const left = new Set(failed);
  const done = meeting.plan.toRemote.flatMap(({ path }) => (left.has(path) ? [] : [path]));
  return { meeting, done, refused: [...refused] };
};

async function* nothing(): AsyncGenerator<Uint8Array> {}

/**
 * Sends what the worktree has to the zone, which changes each path where it is still as it was told. `copied`: another
 * worktree uses this one's id, so it has a new one now, and asks the zone for its state anew.
 */
export const syncTo = async (ground: Ground, far: Far, meeting: Meeting): Promise<Done | 'copied'> => {
  const { shadow, dir } = ground;
  const { toRemote } = meeting.plan;
  // Where nothing waits, the merge itself is what the zone becomes.
  const isWhole = meeting.plan.blocked.size === 0;
  const result = isWhole ? meeting.merge.tree : await treeWith(shadow, meeting.remote, toRemote);
  if (toRemote.length === 0) return finishSync(ground, meeting, result, []);
  const file = payloadIn(dir);
  try {
    const envelope = await sealEnvelope(shadow, { base: meeting.remote, result }, file);
    const seq = ground.state.seq + 1;
    const pending = { ...pendingOf('sync', meeting), seq, envelope };
    await keepState(ground, { ...ground.state, seq, pending });
    const { replica } = ground;
    const { answer, refused } = await far.apply({ replica, seq, envelope }, createReadStream(file));
    if (!answer.copied) return await finishSync(ground, meeting, result, refused);
    await becomeAnother(ground);
    return 'copied';
  } finally {
    await rm(file, { force: true });
  }
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

/** Finishes a pull that was begun here; needs no link. */
export const recoverPull = async (ground: Ground): Promise<void> => {
  const { pending } = ground.state;
  const found = await recoverApplications(applyPlaceOf(ground), ground.shadow);
  for (const applied of found) {
    const { zone } = (applied.note ?? {}) as { zone?: unknown };
    const isOurs = zone === ground.zone && pending?.kind === 'pull';
    if (isOurs) await finishPull(ground, await again(ground, pending), applied);
    else await applied.settle();
  }
  if (found.length === 0 && pending?.kind === 'pull') await forgetPending(ground);
};

/** Finishes what was begun before this exchange. */
export const recoverExchange = async (ground: Ground, far: Far): Promise<void> => {
  await recoverPull(ground);
  const { pending } = ground.state;
  if (pending) await recoverSync(ground, far, pending);
};
