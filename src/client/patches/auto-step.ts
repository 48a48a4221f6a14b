import type { Flag } from '../../patch/policy.ts';
import type { App } from '../app.ts';
import type { Binding } from '../bindings.ts';
import type { Connected } from '../link/link.ts';
import { queueSync, settleStopped, waitsFor } from './queue.ts';
import { type Halted, pull, sync } from './steps.ts';
import { unsentIn } from './unsent.ts';
import { farSide, type PatchZone, patchZoneAt, wishFor } from './zone.ts';

/** One whole exchange that nobody asked for: a pull, then a sync, or a queued state where the host is away. */

export type Exchanged = { paused?: string; flags: Flag[] };

const reasonOf = ({ halts }: Halted): string => halts.map(({ message }) => message).join('; ');

const overLink = async (app: App, zone: PatchZone, connected: Connected): Promise<Exchanged> => {
  // What was queued before goes first, tasks too.
  await app.flush(zone.binding.host);
  const far = farSide(zone, connected);
  const pulled = await pull(zone.place, far, wishFor(zone, { yes: false }));
  if ('halts' in pulled) return { paused: reasonOf(pulled), flags: [] };
  const synced = await sync(zone.place, far, wishFor(zone, { yes: false }));
  if ('halts' in synced) return { paused: reasonOf(synced), flags: pulled.flags };
  await settleStopped(app, zone);
  return { flags: pulled.flags };
};

/** Off line the present state waits in order with the tasks, once. */
const offLine = async (app: App, zone: PatchZone): Promise<Exchanged> => {
  const { files, tree } = await unsentIn(zone);
  const waiting = app.outbox.list().some(({ entry: { call } }) => {
    return call.name === 'patch.sync' && call.params.zone === zone.binding.zone && call.params.tree === tree;
  });
  if (files > 0 && !waiting) await queueSync(app, zone, { yes: false, files: undefined });
  return { flags: [] };
};

/** Brings both sides together as far as nobody has to be asked. Throws what a command would. */
export const exchangeOnce = async (app: App, binding: Binding): Promise<Exchanged> => {
  const zone = await patchZoneAt(app.home, binding);
  const connected = app.link(binding.host).current();
  if (!connected) return offLine(app, zone);
  try {
    return await overLink(app, zone, connected);
  } catch (thrown) {
    if (!waitsFor(thrown)) throw thrown;
    return offLine(app, zone);
  }
};
