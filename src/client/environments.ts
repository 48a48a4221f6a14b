import { asKhloneError } from '../protocol/error.ts';
import type { Peer } from '../protocol/peer.ts';
import type { App } from './app.ts';
import type { Binding } from './bindings.ts';
import { call } from './call.ts';
import type { Caller } from './caller.ts';
import { resolveSecrets } from './secrets.ts';
import { loadSiteConfig, type SiteConfig } from './site-config.ts';
import { needsTrust } from './trust.ts';
import { findWorktree } from './worktree.ts';

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

export const pushEnvironment = async (
  app: App,
  peer: Peer,
  zone: string,
  refresh: boolean,
  timeoutMs?: number,
): Promise<void> => {
  const environment = app.environments.get(zone) as Record<string, string> | undefined;
  if (!environment) return;
  const options = timeoutMs === undefined ? {} : { timeoutMs };
  await call(peer, 'zone.environment', { zone, environment, refresh }, options);
};

/**
 * Brings an environment that was forgotten, as any command from the zone does, as far as nobody has to be asked for
 * it. A zone elsewhere gets its secrets only while the person's yes to khlone.yml holds; whatever is missing is told
 * by the tasks that wait for it.
 */
export const recallEnvironment = async (
  app: App,
  caller: Caller,
  binding: Binding,
  peer: Peer,
): Promise<void> => {
  if (app.environments.has(binding.zone)) return;
  const config = await agreedConfig(app, binding);
  if (!config) return;
  const { secrets } = config;
  // A shell's own path brings only some variables: a zone without secrets needs none, the others wait for more.
  if (caller.handOver) {
    if (binding.mode === 'local') return;
    if (Object.keys(secrets).length > 0) caller.handOver();
  }
  try {
    const values = await resolveSecrets(secrets, { env: caller.env, cwd: binding.root });
    app.environments.set(
      binding.zone,
      binding.mode === 'local' ? { ...withoutOurs(caller.env), ...values } : values,
    );
  } catch (thrown) {
    if (asKhloneError(thrown).code !== 'config') throw thrown;
    return;
  }
  await pushEnvironment(app, peer, binding.zone, false);
};

const agreedConfig = async (app: App, binding: Binding): Promise<SiteConfig | undefined> => {
  try {
    const worktree = await findWorktree(binding.root);
    const config = await loadSiteConfig(binding.root);
    return worktree && !(await needsTrust(app.home, worktree, config)) ? config : undefined;
  } catch {
    return undefined;
  }
};

/** After a connection is made: a server that was restarted has forgotten them all. */
export const pushEnvironments = async (app: App, host: string, peer: Peer): Promise<void> => {
  for (const binding of app.bindings.all()) {
    if (binding.host === host) await pushEnvironment(app, peer, binding.zone, false);
  }
};
