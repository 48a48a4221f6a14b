import { readdir, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { type Application, applyChanges } from '../patch/apply.ts';
import { asKnown, hiddenPaths } from '../patch/as-known.ts';
import { sweepDisplaced } from '../patch/displaced.ts';
import { openEnvelope, sealEnvelope } from '../patch/envelope.ts';
import { tellFull } from '../patch/full-disk.ts';
import { unfinishedIn } from '../patch/halt.ts';
import { branchOf } from '../patch/head.ts';
import { someOf } from '../patch/left-out.ts';
import type { Path } from '../patch/listing.ts';
import { readMadeBy, writeMadeBy } from '../patch/made-by.ts';
import { pinAll, pinned, tidy } from '../patch/pins.ts';
import { type Snapshot, snapshotTree } from '../patch/snapshot.ts';
import { type Change, diffTrees, diffWithRenames, isComplete } from '../patch/tree.ts';
import { treeTaken } from '../patch/tree-taken.ts';
import { areEdits, areUntouched } from '../patch/untouched.ts';
import { allOf } from '../protocol/all-of.ts';
import type { AnswerOf, Params } from '../protocol/calls.ts';
import { KhloneError } from '../protocol/error.ts';
import { faultPoint } from '../protocol/fault-point.ts';
import type { Refusal } from '../protocol/patch.ts';
import { noteTold, takeTold } from './last-told.ts';
import {
  applyPlaceOf,
  fresh,
  GIT_DEADLINE_MS,
  type Ground,
  groundOf,
  keepReceipt,
  type PatchPlace,
  recover,
} from './patch-ground.ts';
import { type Receipt, readReceipts } from './patch-receipts.ts';
import { holdFor, sentTo } from './sent-trees.ts';

/**
 * A zone's worktree as the people who share it see and change it. Nothing is merged here: the hub says what a path
 * shall become and what it must be until then.
 */

const MAX_LEFT_OUT = 200;
/** What an answer needs to leave this machine; the work behind it would hold it up for as long. */
const ANSWER_MS = 5;

const snapshotOf = async (
  { repository, shadow, place }: Ground,
  { choice }: Params<'patch.look'>,
  known: string | undefined,
): Promise<Snapshot> => {
  const take = (also: readonly Path[]): Promise<Snapshot> =>
    snapshotTree({
      ...repository,
      shadowDir: shadow.dir,
      deadlineMs: GIT_DEADLINE_MS,
      maxFileBytes: choice.maxFileBytes,
      choice,
      filtered: 'head',
      also,
    });
  const snapshot = await take([]);
  if (known === undefined || snapshot.tree === known) return snapshot;
  // What a person sent is work to them, whatever the rules here say of it: an edit of it goes back to them.
  const hidden = await hiddenPaths(shadow, place.path, snapshot, known);
  return asKnown(shadow, place.path, hidden.length > 0 ? await take(hidden) : snapshot, known);
};

/** What was carried here, as long as no clone took a part of it away. */
const carriedTree = async ({ place, shadow }: Ground): Promise<string | undefined> => {
  const tree = (await readMadeBy(place.path))?.tree;
  return tree !== undefined && (await isComplete(shadow, tree)) ? tree : undefined;
};

/** Two servers of one process, as in a test, may know a zone by one id. */
const placeName = ({ zone, zonesDir }: PatchPlace): string => join(zonesDir, zone);

export type Look = { answer: AnswerOf<'patch.look'>; body?: AsyncIterable<Uint8Array> };

const STALE_PAYLOAD_MS = 24 * 3600_000;

/** Payloads that nobody came to read. */
const sweepPayloads = async (dir: string): Promise<void> => {
  for (const name of await readdir(dir)) {
    if (!name.startsWith('payload-')) continue;
    const facts = await stat(join(dir, name)).catch(() => undefined);
    if (facts && Date.now() - facts.mtimeMs > STALE_PAYLOAD_MS) await rm(join(dir, name), { force: true });
  }
};

/** Nothing is half done where khlone's own files find no room: what was begun goes on when there is some. */
const orFull = <T>({ zone, zonesDir }: PatchPlace, work: Promise<T>): Promise<T> =>
  work.catch((thrown: unknown) => {
    throw tellFull(thrown, join(zonesDir, zone));
  });

/** The state of the worktree, and what leads there from a tree that the replica has. Throws `disk-low`. */
export const look = async (place: PatchPlace, params: Params<'patch.look'>): Promise<Look> => {
  const found = await orFull(place, lookAt(place, params));
  noteTold(placeName(place), params.replica, found.answer);
  return found;
};

const lookAt = async (place: PatchPlace, params: Params<'patch.look'>): Promise<Look> => {
  const ground = await groundOf(place);
  const { shadow, dir } = ground;
  await recover(ground);
  const [branch, underway, pins, receipts] = await Promise.all([
    branchOf(ground.repository),
    unfinishedIn(ground.repository.gitDir),
    pinned(shadow),
    readReceipts(dir),
  ]);
  const sent = sentTo(pins, params.replica);
  const hasCarried = sent.size === 0 && params.known.length > 0;
  const carried = hasCarried ? await carriedTree(ground) : undefined;
  const known = params.known.filter((one) => sent.has(one) || one === carried);
  const [base] = known;
  const { tree, head, leftOut } = await snapshotOf(ground, params, base);
  const receipt = receipts.find(({ replica }) => replica === params.replica);
  const answer: Look['answer'] = {
    tree,
    ...(head && { head }),
    ...(branch && { branch }),
    ...(underway.length > 0 && { underway }),
    ...(base && { changed: (await diffTrees(shadow, base, tree)).length }),
    leftOut: someOf(leftOut, MAX_LEFT_OUT),
    ...(receipt && { applied: { seq: receipt.seq, sha256: receipt.sha256 } }),
  };
  if (!params.payload) return { answer };
  await holdFor(shadow, pins, params.replica, new Set([...known, tree]));
  faultPoint('patch.told');
  if (known.includes(tree)) return { answer };
  await sweepPayloads(dir);
  const file = fresh(dir);
  const { envelope, payload } = await sealEnvelope(shadow, { base, result: tree }, file);
  return { answer: { ...answer, envelope }, body: payload };
};

/** A replica's earlier answer, where it asks again; `copied` where two worktrees use one id. */
const repeatOf = (
  receipt: Receipt | undefined,
  { seq, envelope }: Params<'patch.apply'>,
): 'copied' | Receipt | undefined => {
  if (!receipt || seq > receipt.seq) return undefined;
  return seq === receipt.seq && envelope.sha256 === receipt.sha256 ? receipt : 'copied';
};

/** Notes that the person has all of a tree that was told or sent. */
const settle = async (
  { place, shadow }: Ground,
  { tree, head }: Pick<Params<'patch.agree'>, 'tree' | 'head'>,
): Promise<void> => {
  const mark = await readMadeBy(place.path);
  if (mark?.zone !== place.zone) return;
  const pins = await pinned(shadow);
  if (![...pins].some(([name, held]) => name.startsWith('sent/') && held === tree)) return;
  await pinAll(shadow, pins, new Map([['agreed', tree]]));
  faultPoint('patch.agreed');
  if (mark.tree === tree && (head === undefined || mark.head === head)) return;
  await writeMadeBy(place.path, { ...mark, tree, ...(head && { head }) });
};

export type Taken = { answer: AnswerOf<'patch.apply'>; refused: Refusal[] };

const CHANGED: Taken = { answer: { done: 0, repeated: false, copied: false, changed: true }, refused: [] };

/** Whether a change may be made without a look at all of the zone. */
const needNotBeHeard = async (
  { place, repository, shadow }: Ground,
  changes: readonly Change[],
): Promise<boolean> =>
  areEdits(changes) &&
  (await unfinishedIn(repository.gitDir)).length === 0 &&
  areUntouched(place.path, changes, shadow.zeroId.length);

/**
 * Makes the change that an envelope brought, once its result is held; nothing where the zone has to be heard first: to
 * have held it is no harm then.
 */
const change = async (
  ground: Ground,
  { replica, seq, envelope, edits }: Params<'patch.apply'>,
  base: string,
  holding: Promise<void>,
): Promise<{ changes: readonly Change[]; applied: Application } | undefined> => {
  const { shadow } = ground;
  const held = holding.then(() => faultPoint('patch.held'));
  held.catch(() => {});
  try {
    const { changes, renames } = await diffWithRenames(shadow, base, envelope.result);
    if (edits && !(await needNotBeHeard(ground, changes))) return undefined;
    const note = { replica, seq, sha256: envelope.sha256 };
    const how = { note, moves: renames, held };
    return { changes, applied: await applyChanges(applyPlaceOf(ground), shadow, changes, how) };
  } finally {
    await held.catch(() => {});
  }
};

/**
 * Changes the worktree where it is still as the envelope's base says. `made` is told as soon as that is done: whatever
 * happens before the receipt is written, the journal still says that it is to be. Throws `conflict` for a base that was
 * not told, `disk-low`.
 */
export const take = (
  place: PatchPlace,
  params: Params<'patch.apply'>,
  body: AsyncIterable<Uint8Array>,
  made: (taken: Taken) => void = () => {},
): Promise<Taken> => orFull(place, takeIn(place, params, body, made));

const takeIn = async (
  place: PatchPlace,
  params: Params<'patch.apply'>,
  body: AsyncIterable<Uint8Array>,
  made: (taken: Taken) => void,
): Promise<Taken> => {
  const ground = await groundOf(place);
  const { shadow, dir } = ground;
  await recover(ground);
  const { replica, envelope } = params;
  const last = takeTold(placeName(place));
  const [receipts, pins] = await Promise.all([readReceipts(dir), pinned(shadow)]);
  const earlier = repeatOf(
    receipts.find((one) => one.replica === replica),
    params,
  );
  if (earlier === 'copied') return { answer: { done: 0, repeated: false, copied: true }, refused: [] };
  if (earlier)
    return { answer: { done: earlier.done, repeated: true, copied: false }, refused: earlier.refused };
  const sent = sentTo(pins, replica);
  const { base } = envelope;
  const isTold = last?.replica === replica && last.tree === base;
  if (params.unchanged && !isTold) return CHANGED;
  if (base === undefined || !sent.has(base)) {
    if (params.edits) return CHANGED;
    throw new KhloneError(
      'conflict',
      'the zone does not know the state that this patch begins with',
      'khlone pull',
    );
  }
  await openEnvelope(shadow, envelope, body, fresh(dir));
  faultPoint('patch.opened');
  const told = new Set([...sent, envelope.result]);
  const changed = await change(ground, params, base, holdFor(shadow, pins, replica, told));
  if (!changed) return CHANGED;
  const { changes, applied } = changed;
  const failed = applied.refused.map(({ path }) => path);
  const taken = await treeTaken(shadow, envelope.result, changes, failed);
  if (taken !== envelope.result)
    await holdFor(shadow, await pinned(shadow), replica, new Set([...told, taken]));
  const { done, refused } = applied;
  const result: Taken = { answer: { done: done.length, repeated: false, copied: false }, refused };
  made(result);
  // What brings the answer to the person runs on the same processors.
  await delay(ANSWER_MS);
  const isSettled = params.settles && refused.length === 0;
  await allOf(
    keepReceipt(ground, applied),
    isSettled ? settle(ground, { tree: envelope.result }) : undefined,
  );
  faultPoint('patch.settled');
  await Promise.all([sweepDisplaced(applyPlaceOf(ground), Date.now()), tidy(shadow)]);
  return result;
};

/** The person has all of `tree`: a removal counts only what differs from it as work that would be lost. */
export const agree = (place: PatchPlace, state: Params<'patch.agree'>): Promise<void> =>
  orFull(
    place,
    groundOf(place).then((ground) => settle(ground, state)),
  );
