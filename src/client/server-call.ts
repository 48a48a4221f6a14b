import type { App } from './app.ts';
import type { Binding } from './bindings.ts';
import type { Caller } from './caller.ts';
import { connectWithin } from './dispatch.ts';
import { environmentFor, pushEnvironment, recallEnvironment } from './environments.ts';
import type { Connected } from './link/link.ts';
import type { Place } from './place.ts';

/** How a command reaches the server of a zone: commands wait longer than a dispatch, because they cannot be queued. */

const WITHIN_MS = 10_000;

export const serverOf = (app: App, caller: Caller, host: string, withinMs = WITHIN_MS): Promise<Connected> =>
  connectWithin(app.link(host), caller, withinMs);

/** The server of a zone; any command from its worktree also brings an environment that was forgotten. */
export const serverOfZone = async (
  app: App,
  caller: Caller,
  binding: Binding,
  withinMs = WITHIN_MS,
): Promise<Connected> => {
  const connected = await serverOf(app, caller, binding.host, withinMs);
  if (`${caller.cwd}/`.startsWith(`${binding.root}/`)) {
    await recallEnvironment(app, caller, binding, connected.peer);
  }
  return connected;
};

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
