import type { Cursor } from '../../protocol/calls.ts';
import type { App } from '../app.ts';
import type { Binding } from '../bindings.ts';
import { call } from '../call.ts';
import type { Connected } from '../link/link.ts';
import { HEARTBEAT_SECONDS } from '../shell-state.ts';

/**
 * Keeps what prompts read true: the hub listens to the journals of the zones in use, and takes their view anew when a
 * task changed. A prompt itself asks nobody.
 */

export type ZoneWatch = {
  /** Watches the zones of a host from now on, over this connection. */
  follow(host: string, connected: Connected): void;
  /** Watches a zone that was just made. */
  include(binding: Binding): void;
  stop(): void;
};

/** Zones that nobody used for this long are not watched: their lines grow old, and shells show that. */
const IN_USE_MS = 7 * 24 * 3600_000;
/** Events come in bursts; the view is taken once per burst. */
const SETTLE_MS = 150;
const MAX_WATCHED = 64;

/** What a view of a zone depends on. The words of its clones stay where they are: nobody here shows them. */
const TYPES = ['task', 'plan'] as const;

type Watched = { stop: AbortController; timer: NodeJS.Timeout | undefined };

export const createZoneWatch = (appOf: () => App): ZoneWatch => {
  const watched = new Map<string, Watched>();

  /** Takes the view of a zone, and answers how far its journal was then. */
  const refresh = async (binding: Binding, connected: Connected): Promise<Cursor | undefined> => {
    const { zone } = await call(connected.peer, 'zone.get', { zone: binding.zone });
    // A server that answers with another zone would overwrite what is known of that one.
    if (zone?.id !== binding.zone) return undefined;
    appOf().known.put(zone);
    // Its code is not there: the hub that carried it died, or its connection did.
    if (zone.state === 'preparing') appOf().carrier.resume(zone.id);
    return { epoch: zone.epoch, seq: zone.seq };
  };

  const soon = (entry: Watched, binding: Binding, connected: Connected): void => {
    if (entry.timer) return;
    entry.timer = setTimeout(() => {
      entry.timer = undefined;
      refresh(binding, connected).catch(() => {});
    }, SETTLE_MS);
  };

  /** From the view on: what happened since it was taken may be the last that does for hours. */
  const listen = async (
    entry: Watched,
    binding: Binding,
    connected: Connected,
    from: Cursor | undefined,
  ): Promise<void> => {
    if (!from) return;
    const sub = { zone: binding.zone, types: TYPES, from, until: 'never' };
    for await (const _ of connected.peer.subscribe(sub, entry.stop.signal)) soon(entry, binding, connected);
  };

  const watch = (binding: Binding, connected: Connected): void => {
    if (watched.has(binding.zone) || watched.size >= MAX_WATCHED) return;
    const entry: Watched = { stop: new AbortController(), timer: undefined };
    watched.set(binding.zone, entry);
    refresh(binding, connected)
      .then((from) => listen(entry, binding, connected, from))
      .catch(() => {})
      .finally(() => {
        if (watched.get(binding.zone) === entry) watched.delete(binding.zone);
      });
  };

  const beat = setInterval(() => {
    const app = appOf();
    for (const zone of watched.keys()) app.known.touch(zone);
  }, HEARTBEAT_SECONDS * 1000);
  beat.unref();

  return {
    follow: (host, connected) => {
      const recent = Date.now() - IN_USE_MS;
      for (const binding of appOf().bindings.all()) {
        if (binding.host !== host || binding.usedMs < recent) continue;
        watched.get(binding.zone)?.stop.abort();
        watched.delete(binding.zone);
        watch(binding, connected);
      }
    },
    include: (binding) => {
      const connected = appOf().link(binding.host).current();
      if (connected) watch(binding, connected);
    },
    stop: () => {
      clearInterval(beat);
      for (const entry of watched.values()) entry.stop.abort();
    },
  };
};
