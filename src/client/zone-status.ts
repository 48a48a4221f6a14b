import type { ZoneView } from '../protocol/calls.ts';
import { asKhloneError } from '../protocol/error.ts';
import type { App } from './app.ts';
import type { Binding } from './bindings.ts';
import { call } from './call.ts';
import type { Caller } from './caller.ts';
import type { Entry } from './outbox.ts';
import { knownCounts } from './patches/counts.ts';
import type { ZoneStatus } from './render/status.ts';
import { ASKED_ONCE, serverOfZone } from './server-call.ts';

/** What is known of a zone: asked of its server, or as it was last seen, with its age. */

const LINK_WORDS = {
  online: 'connected',
  connecting: 'connecting',
  suspect: 'silent',
  racing: 'silent',
  offline: 'offline',
  refused: 'refused',
  idle: 'not connected',
} as const;

/** A reading command answers from what is known rather than wait for a host that does not answer. */
const ANSWER_WITHIN_MS = 2_000;

const emptyView = (binding: Binding): ZoneView => ({
  id: binding.zone,
  address: binding.address,
  branch: binding.branch,
  mode: binding.mode,
  path: binding.path,
  state: 'preparing',
  epoch: '',
  seq: 0,
  paused: false,
  crew: [],
  attention: [],
  costUsd: 0,
  tokens: 0,
});

/** Only tasks are held for a person: what else waits can be sent twice. */
const heldTask = ({ call: waiting, held }: Entry): string[] =>
  held && waiting.name === 'task.add' ? [waiting.params.id] : [];

/** The tasks of a zone that wait here to be sent. */
const waitingHere = (app: App, zone: string): Entry[] =>
  app.outbox.list().flatMap(({ entry }) => {
    const { call: waiting, held } = entry;
    return !held && waiting.name === 'task.add' && waiting.params.zone.id === zone ? [entry] : [];
  });

/** The states of a zone's worktree that wait here to be sent, and of how many files the last one is. */
export const patchesHere = (app: App, zone: string): { count: number; files: number } => {
  const waiting = app.outbox.list().flatMap(({ entry: { call: one } }) => {
    return one.name === 'patch.sync' && one.params.zone === zone ? [one.params.files] : [];
  });
  return { count: waiting.length, files: waiting.at(-1) ?? 0 };
};

export const queuedHere = (app: App, zone: string): number => waitingHere(app, zone).length;

/** Cancels that wait for a host; they name no zone. */
const cancelsHere = (app: App, host: string): number =>
  app.outbox.list(host).filter(({ entry }) => entry.call.name === 'task.cancel').length;

/** For how long the oldest of them has waited, in ms. */
const queuedSinceMs = (app: App, zone: string): number | undefined => {
  const syncs = app.outbox.list().flatMap(({ entry }) => {
    return entry.call.name === 'patch.sync' && entry.call.params.zone === zone ? [entry] : [];
  });
  const [oldest] = [...waitingHere(app, zone), ...syncs].sort((a, b) => a.queuedMs - b.queuedMs);
  return oldest && Math.max(0, Date.now() - oldest.queuedMs);
};

/** How far both sides are apart, as of the last look at them. */
const syncOf = (binding: Binding): ZoneStatus['sync'] => {
  const known = knownCounts(binding);
  if (known?.seenMs === undefined) return undefined;
  const { toSend, toPull, conflicts, seenMs } = known;
  return { toSend, toPull, conflicts: conflicts.length, ageMs: Math.max(0, Date.now() - seenMs) };
};

/** The zone as it was last seen, without asking: what `view` and `ageMs` say of it where it was just asked for. */
export const knownStatus = (
  app: App,
  binding: Binding,
  asked?: { view: ZoneView; ageMs: number },
): ZoneStatus => {
  const link = app.link(binding.host);
  const known = app.known.get(binding.zone);
  const seen = link.lastSeenMs() ?? known?.atMs;
  // The hub takes the view of a zone anew whenever it changes, as long as the link holds.
  const ageMs = known && link.state() !== 'online' ? Date.now() - known.atMs : 0;
  return {
    ...(asked ?? { view: known?.view ?? emptyView(binding), ageMs }),
    host: binding.host,
    link: LINK_WORDS[link.state()],
    offlineMs: seen === undefined ? undefined : Date.now() - seen,
    nextTryMs: link.dialing() ? 0 : app.redial.nextTryMs(binding.host),
    trouble: link.state() === 'refused' ? link.trouble() : app.carrier.trouble(binding.zone),
    heldHere: app.outbox.list(binding.host).flatMap(({ entry }) => heldTask(entry)),
    queuedHere: queuedHere(app, binding.zone),
    cancelsHere: cancelsHere(app, binding.host),
    queuedSinceMs: queuedSinceMs(app, binding.zone),
    patchesHere: patchesHere(app, binding.zone),
    sync: syncOf(binding),
    auto: app.auto.told(binding.zone),
  };
};

export const zoneStatus = async (app: App, caller: Caller, binding: Binding): Promise<ZoneStatus> => {
  let view: ZoneView | undefined;
  let answered = false;
  try {
    const { peer } = await serverOfZone(app, caller, binding, ASKED_ONCE);
    const { zone } = await call(peer, 'zone.get', { zone: binding.zone }, { timeoutMs: ANSWER_WITHIN_MS });
    answered = true;
    // A zone whose first task waits here is not known there yet.
    if (zone?.id === binding.zone) view = zone;
    if (view) app.known.put(view);
    if (view?.state === 'preparing') app.carrier.resume(binding.zone);
  } catch (thrown) {
    if (asKhloneError(thrown).code === 'interrupted') throw thrown;
  }
  if (view) return knownStatus(app, binding, { view, ageMs: 0 });
  const known = app.known.get(binding.zone);
  const ageMs = known ? Date.now() - known.atMs : 0;
  const status = knownStatus(app, binding, { view: known?.view ?? emptyView(binding), ageMs });
  // It did not answer us, whatever the link thinks of it at this moment.
  return !answered && status.link === 'connected' ? { ...status, link: 'silent' } : status;
};
