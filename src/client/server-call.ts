import type { App } from './app.ts';
import type { Binding } from './bindings.ts';
import type { Caller } from './caller.ts';
import { connectWithin } from './dispatch.ts';
import { environmentFor, pushEnvironment } from './environments.ts';
import type { Connected } from './link/link.ts';
import type { Place } from './place.ts';

/** How a command reaches the server of a zone: commands wait longer than a dispatch, because they cannot be queued. */

const WITHIN_MS = 10_000;

export const serverOf = async (app: App, caller: Caller, host: string): Promise<Connected> => {
  const link = app.link(host);
  return link.current() ?? (await connectWithin(link, caller, WITHIN_MS));
};

/** The server of a zone; in a local zone any command from the worktree also brings an environment that was forgotten. */
export const serverOfZone = async (app: App, caller: Caller, binding: Binding): Promise<Connected> => {
  const connected = await serverOf(app, caller, binding.host);
  if (!app.environments.has(binding.zone) && binding.mode === 'local' && !caller.handOver) {
    app.environments.set(binding.zone, ownEnvironment(caller));
    await pushEnvironment(app, connected.peer, binding.zone, false);
  }
  return connected;
};

const ownEnvironment = (caller: Caller): Record<string, string> =>
  Object.fromEntries(Object.entries(caller.env).filter(([name]) => !name.startsWith('KHLONE_')));

/** init refreshes what the clones of a zone get. */
export const refreshEnvironment = async (
  app: App,
  caller: Caller,
  place: Place,
  connected: Connected,
): Promise<void> => {
  await environmentFor(app, caller, place.binding, place.config, true);
  await pushEnvironment(app, connected.peer, place.binding.zone, true);
};
