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

/** Where the first hint came from: what changed there is the first to travel. */
export type Whence = 'here' | 'there';

const overLink = async (
  app: App,
  zone: PatchZone,
  connected: Connected,
  whence: Whence,
): Promise<Exchanged> => {
  // What was queued before goes first, tasks too.
  await app.flush(zone.binding.host);
  const far = farSide(zone, connected);
  const wish = wishFor(zone, { yes: false, alone: true });
  const send = async (): Promise<string | undefined> => {
    const synced = await sync(zone.place, far, wish);
    return 'halts' in synced ? reasonOf(synced) : undefined;
  };
  const early = whence === 'here' ? await send() : undefined;
  const pulled = await pull(zone.place, far, wish);
  if ('halts' in pulled) return { paused: early ?? reasonOf(pulled), flags: [] };
  const { flags } = pulled;
  const paused = whence === 'here' ? early : await send();
  if (paused !== undefined) return { paused, flags };
  await settleStopped(app, zone);
  return { flags };
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
export const exchangeOnce = async (app: App, binding: Binding, whence: Whence): Promise<Exchanged> => {
  const zone = await patchZoneAt(app.home, binding);
  const connected = app.link(binding.host).current();
  if (!connected) return offLine(app, zone);
  try {
    return await overLink(app, zone, connected, whence);
  } catch (thrown) {
    if (!waitsFor(thrown)) throw thrown;
    return offLine(app, zone);
  }
};
