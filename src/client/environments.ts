import type { Peer } from '../protocol/peer.ts';
import type { App } from './app.ts';
import type { Binding } from './bindings.ts';
import { call } from './call.ts';
import type { Caller } from './caller.ts';
import { resolveSecrets } from './secrets.ts';
import type { SiteConfig } from './site-config.ts';

/**
 * What the clones of a zone get as environment: in a local zone that of the shell that dispatched first (refreshed by
 * init), elsewhere the secrets of khlone.yml. It lives in the memory of hub and server and nowhere else.
 */

/** The environment of a zone as it is kept, made from this caller when there is none. */
export const environmentFor = async (
  app: App,
  caller: Caller,
  binding: Binding,
  config: SiteConfig,
  refresh: boolean,
): Promise<Record<string, string>> => {
  const known = app.environments.get(binding.zone) as Record<string, string> | undefined;
  if (known && !refresh) return known;
  caller.handOver?.();
  const secrets = await resolveSecrets(config.secrets, { env: caller.env, cwd: binding.root });
  const made = binding.mode === 'local' ? { ...withoutOurs(caller.env), ...secrets } : secrets;
  app.environments.set(binding.zone, made);
  return made;
};

const withoutOurs = (env: Record<string, string>): Record<string, string> =>
  Object.fromEntries(Object.entries(env).filter(([name]) => !name.startsWith('KHLONE_')));

export const pushEnvironment = (app: App, peer: Peer, zone: string, refresh: boolean): Promise<unknown> => {
  const environment = app.environments.get(zone) as Record<string, string> | undefined;
  return environment ? call(peer, 'zone.environment', { zone, environment, refresh }) : Promise.resolve();
};

/** After a connection is made: a server that was restarted has forgotten them all. */
export const pushEnvironments = async (app: App, host: string, peer: Peer): Promise<void> => {
  for (const binding of app.bindings.all()) {
    if (binding.host === host) await pushEnvironment(app, peer, binding.zone, false);
  }
};
