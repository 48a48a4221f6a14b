import type { ZoneView } from '../protocol/calls.ts';
import { asKhloneError } from '../protocol/error.ts';
import type { App } from './app.ts';
import type { Binding } from './bindings.ts';
import { call } from './call.ts';
import type { Caller } from './caller.ts';
import type { ZoneStatus } from './render/status.ts';
import { serverOfZone } from './server-call.ts';

/** What is known of a zone: asked of its server, or as it was last seen, with its age. */

const LINK_WORDS = {
  online: 'connected',
  connecting: 'connecting',
  offline: 'offline',
  refused: 'refused',
  idle: 'not connected',
} as const;

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

export const queuedHere = (app: App, zone: string): number =>
  app.outbox.list().filter((q) => {
    const { call: waiting } = q.entry;
    return waiting.name === 'task.add' && waiting.params.zone.id === zone;
  }).length;

export const zoneStatus = async (app: App, caller: Caller, binding: Binding): Promise<ZoneStatus> => {
  let ageMs = 0;
  let view: ZoneView | undefined;
  try {
    const { peer } = await serverOfZone(app, caller, binding);
    view = (await call(peer, 'zone.get', { zone: binding.zone })).zone;
    if (view) app.known.put(view);
  } catch (thrown) {
    if (asKhloneError(thrown).code === 'interrupted') throw thrown;
  }
  if (!view) {
    const known = app.known.get(binding.zone);
    view = known?.view ?? emptyView(binding);
    ageMs = known ? Date.now() - known.atMs : 0;
  }
  const link = app.link(binding.host);
  const seen = link.lastSeenMs() ?? app.known.get(binding.zone)?.atMs;
  return {
    view,
    host: binding.host,
    link: LINK_WORDS[link.state()],
    ageMs,
    offlineMs: seen === undefined ? undefined : Date.now() - seen,
    queuedHere: queuedHere(app, binding.zone),
  };
};
