import { diffTrees } from '../../patch/tree.ts';
import type { App } from '../app.ts';
import type { Caller } from '../caller.ts';
import { soonest } from '../patience.ts';
import type { Place } from '../place.ts';
import { conflictLines, haltError } from '../render/patches.ts';
import { QUEUED_ELSE, serverOfZone } from '../server-call.ts';
import { knownCounts, lookSoon } from './counts.ts';
import { openGround, present, snapshotOf } from './ground.ts';
import { type Queued, queuedTree, queueSync, settleStopped, syncZone, waitsFor } from './queue.ts';
import { isOwnWorktree, type PatchZone, patchZoneOf, wishFor } from './zone.ts';

/** What a dispatch does about edits that its zone has not seen: sends them first, or says that they are not there. */

export type Sent = { kind: 'sent'; lines: string[] } | ({ kind: 'queued' } & Queued) | { kind: 'nothing' };

/**
 * Sends the person's edits, or queues them in order where the host does not answer. Throws `conflict` where something
 * stops the sync: a task that needs the edits is not dispatched without them.
 */
export const syncFirst = async (
  app: App,
  caller: Caller,
  place: Place,
  style: Parameters<typeof conflictLines>[1],
): Promise<Sent> => {
  const { binding } = place;
  // A zone that is made now gets the present state as its first code.
  if (isOwnWorktree(binding) || place.isNew) return { kind: 'nothing' };
  const zone = patchZoneOf(binding, place.worktree, place.config);
  try {
    const connected = await serverOfZone(app, caller, binding, QUEUED_ELSE);
    await app.flush(binding.host);
    const outcome = await syncZone(connected, zone, wishFor(zone, { yes: false }));
    if ('halts' in outcome) throw haltError(outcome.halts);
    if (!outcome.seen) lookSoon(app, binding);
    await settleStopped(app, zone);
    return { kind: 'sent', lines: conflictLines(outcome.conflicts, style) };
  } catch (thrown) {
    if (!waitsFor(thrown)) throw thrown;
    return { kind: 'queued', ...(await queueSync(app, zone, { yes: false, files: undefined })) };
  } finally {
    app.known.touch(binding.zone);
  }
};

/** What the last check of a zone found. */
type Checked = { files: number; atMs: number };
const checks = new WeakMap<App, Map<string, Checked>>();

/**
 * How many files of the worktree differ from what both sides agreed on, or from the state `queued` that goes before
 * anything that is given now; less those that wait for the person anyway. And the worktree's present state.
 */
export const unsentIn = async (
  { place: { repository, zone, choice } }: PatchZone,
  queued?: string,
): Promise<{ files: number; tree: string }> => {
  const ground = await openGround(repository, zone, choice);
  const base = (await present(ground, queued)) ?? (await present(ground, ground.state.base));
  const { tree } = await snapshotOf(ground);
  if (base === undefined) return { files: 0, tree };
  const waiting = new Set([
    ...ground.state.conflicts.flatMap(({ paths }) => paths),
    ...ground.state.held.map(({ path }) => path),
  ]);
  const changes = await diffTrees(ground.shadow, base, tree);
  return { files: changes.filter(({ path }) => !waiting.has(path)).length, tree };
};

/** Begins to look for edits that the zone has not seen; the answer is remembered for a caller that cannot wait. */
export const beginCheck = (app: App, place: Place): Promise<number> | undefined => {
  const { binding } = place;
  if (isOwnWorktree(binding) || place.isNew) return undefined;
  const zone = patchZoneOf(binding, place.worktree, place.config);
  const found = unsentIn(zone, queuedTree(app, binding.zone)).then(({ files }) => {
    const mine = checks.get(app) ?? new Map<string, Checked>();
    checks.set(app, mine.set(binding.zone, { files, atMs: Date.now() }));
    return files;
  });
  found.catch(() => {});
  return found;
};

/** A prompt comes back at once; the node command took longer to start than this. */
const PROMPT_WAIT_MS = 10;
const COMMAND_WAIT_MS = 150;
/** What was found earlier says little about edits now. */
const REMEMBER_MS = 60_000;

/** How many files are not synced, as far as it is known in the time that a receipt has. */
export const unsentFiles = async (
  app: App,
  caller: Caller,
  { binding }: Place,
  checking: Promise<number>,
): Promise<number> => {
  const waitMs = caller.handOver ? PROMPT_WAIT_MS : COMMAND_WAIT_MS;
  const found = await soonest(checking, waitMs, caller.signal).catch(() => undefined);
  if (found !== undefined) return found;
  const earlier = checks.get(app)?.get(binding.zone);
  const seenMs = knownCounts(binding)?.seenMs ?? 0;
  const holds = earlier && earlier.atMs > seenMs && Date.now() - earlier.atMs < REMEMBER_MS;
  return holds ? earlier.files : 0;
};
