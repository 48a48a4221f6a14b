import { createHash } from 'node:crypto';
import { existsSync } from 'node:fs';
import { homedir } from 'node:os';
import { resolve } from 'node:path';
import { formatZone, parseZone } from '../protocol/address.ts';
import type { Policy } from '../protocol/calls.ts';
import { KhloneError } from '../protocol/error.ts';
import type { App } from './app.ts';
import { type Binding, zoneIdOf } from './bindings.ts';
import { brainFiles } from './brain-files.ts';
import { type Caller, confirm } from './caller.ts';
import { readPause } from './git-folder.ts';
import { assertProtection } from './not-yet.ts';
import { isOwnWorktree } from './patches/zone.ts';
import { BUILT_IN_ROLES } from './roles.ts';
import { loadSiteConfig, type SiteConfig } from './site-config.ts';
import { agree, needsTrust } from './trust.ts';
import { readUserConfig } from './user-config.ts';
import { findWorktree, requireWorktree, type Worktree } from './worktree.ts';

/** Where a command applies: the caller's worktree, its configuration, and the zone it is bound to. */

export type Place = {
  worktree: Worktree;
  config: SiteConfig;
  binding: Binding;
  isNew: boolean;
  policy: Policy;
};

/** Flags that every command about a zone takes. */
export type PlaceFlags = { zone?: string | undefined };

/** Product default: `~/zones/{org}/{repo}/{branch}`, "/" in a branch becoming "--" so that it is one folder. */
const DEFAULT_REMOTE_PATH = '~/zones/{org}/{repo}/{branch}';

const remotePath = (template: string, worktree: Worktree): string =>
  template
    .replaceAll('{org}', worktree.org)
    .replaceAll('{repo}', worktree.repo)
    .replaceAll('{branch}', worktree.branch.replaceAll('/', '--'));

/**
 * Repositories without origin are named by their folder only: where another one of that name has a zone on the host
 * already, this one gets a place of its own, so that neither ever works on the other's code.
 */
const apart = (app: App, worktree: Worktree, host: string, path: string): string => {
  const taken = app.bindings
    .all()
    .some((b) => b.host === host && b.path === path && b.root !== worktree.root && existsSync(b.root));
  if (worktree.org !== 'local' || !taken) return path;
  return `${path}-${createHash('sha256').update(worktree.root).digest('hex').slice(0, 6)}`;
};

/** The worktree that `--zone` names among those bound on this machine; an ambiguous address lists its candidates. Throws `usage` for what is no address. */
const byAddress = (app: App, caller: Caller, address: string, here: Worktree | undefined): string => {
  const named = parseZone(address);
  if ('path' in named) {
    return resolve(caller.cwd, address.replace(/^~(?=\/|$)/, caller.env.HOME ?? '~'));
  }
  const { org = here?.org, repo = here?.repo, branch } = named;
  const whole = org === undefined || repo === undefined ? address : formatZone({ org, repo, branch });
  const exact = app.bindings.all().filter((b) => b.address === whole);
  // A branch alone is one of the repository here; only outside of one may it be any's.
  const isOfHere = named.repo === undefined && here !== undefined;
  const ending = named.repo === undefined ? address : `/${address}`;
  const alike = isOfHere ? [] : app.bindings.all().filter((b) => b.address.endsWith(ending));
  const found = exact.length > 0 ? exact : alike;
  const [only] = found;
  if (only && found.length === 1) return only.root;
  const known = found.length > 1 ? found : app.bindings.all();
  const list = known.map((b) => b.address).join(', ') || 'none yet';
  throw new KhloneError(
    'not-found',
    found.length > 1 ? `${address} names several zones` : `no zone ${address} on this machine`,
    `${found.length > 1 ? 'one of' : 'known'}: ${list}; khlone init in its worktree makes one`,
  );
};

export const worktreeOf = async (app: App, caller: Caller, flags: PlaceFlags): Promise<Worktree> => {
  const address = flags.zone ?? (caller.env.KHLONE_ZONE || undefined);
  if (address === undefined) return requireWorktree(caller.cwd);
  const here = await findWorktree(caller.cwd).catch(() => undefined);
  return requireWorktree(byAddress(app, caller, address, here));
};

const modeOf = (config: SiteConfig): Binding['mode'] => {
  if (config.zone.mode !== 'ec2') return config.zone.mode;
  throw new KhloneError(
    'config',
    'zones on EC2 are not in this version',
    'zone.mode: local or ssh in khlone.yml',
  );
};

/** The place of a second worktree on this machine. Throws `config` where the person's own one would hold it. */
const besideOf = ({ root }: Worktree, wished: string): string => {
  const path = resolve(wished.replace(/^~(?=\/)/u, homedir()));
  if (!`${path}/`.startsWith(`${root}/`) && !`${root}/`.startsWith(`${path}/`)) return path;
  throw new KhloneError(
    'config',
    `khlone.yml: zone.path ${path} and the worktree ${root} hold each other`,
    'a folder beside it, or none: then the zone is the worktree itself',
  );
};

const bindingFor = (
  app: App,
  worktree: Worktree,
  config: SiteConfig,
): { binding: Binding; isNew: boolean } => {
  const known = app.bindings.byRoot(worktree.root);
  const mode = modeOf(config);
  if (mode === 'ssh' && !config.zone.host) {
    throw new KhloneError(
      'config',
      'khlone.yml: zone.mode is ssh and zone.host is missing',
      'zone: { mode: ssh, host: devbox }',
    );
  }
  const host = mode === 'local' ? 'local' : (config.zone.host ?? '');
  const template = config.zone.path ?? DEFAULT_REMOTE_PATH;
  const elsewhereNow = mode !== 'local' || config.zone.path !== undefined;
  const isElsewhere = known !== undefined && !isOwnWorktree(known);
  const same = known?.mode === mode && known.host === host && isElsewhere === elsewhereNow;
  if (elsewhereNow && same && known.branch !== worktree.branch) throw switched(known, worktree);
  const elsewhere = (): string => {
    const wished = remotePath(template, worktree);
    return apart(app, worktree, host, mode === 'local' ? besideOf(worktree, wished) : wished);
  };
  // A zone whose code never came may still be given another place: the first one may be taken.
  const isMade = same && app.known.get(known.zone)?.view.state !== 'preparing';
  const path = !elsewhereNow ? worktree.root : isMade ? known.path : elsewhere();
  const binding: Binding = {
    zone: zoneIdOf(host, path),
    root: worktree.root,
    gitDir: worktree.gitDir,
    address: worktree.address,
    branch: worktree.branch,
    mode,
    host,
    path,
    ...(known?.session && { session: known.session }),
    ...(mode === 'ssh' && config.zone.backend !== 'auto' && { backend: config.zone.backend }),
    ...(same && known.auto !== undefined && { auto: known.auto }),
    usedMs: Date.now(),
  };
  return { binding, isNew: !same };
};

/** In a rebase or a bisect HEAD is on no branch, and git refuses to switch to one: it has to be finished. */
const switched = (known: Binding, worktree: Worktree): KhloneError => {
  const pause = worktree.detached ? readPause(worktree.gitDir, known.branch) : undefined;
  const [what, next] = pause
    ? [`a ${pause.what} of ${known.branch} is not finished here`, `${pause.end} first`]
    : [
        `this worktree is on ${worktree.branch} now, its zone on ${known.host} is on ${known.branch}`,
        `git switch ${known.branch}, or khlone zone set --branch for a zone of ${worktree.branch}`,
      ];
  return new KhloneError('conflict', what, next);
};

/** Configured brains that are names; programs (acp, command) are not drivable in this version and are left out. */
const namedBrains = (config: SiteConfig): Record<string, string> =>
  Object.fromEntries(
    Object.entries(config.crew.brains).filter(
      (entry): entry is [string, string] => typeof entry[1] === 'string',
    ),
  );

const rolesOf = (config: SiteConfig): Record<string, string> => ({
  ...BUILT_IN_ROLES,
  ...Object.fromEntries(Object.keys(config.roles).map((role) => [role, BUILT_IN_ROLES[role] ?? ''])),
});

const policyFor = async (app: App, config: SiteConfig, trusted: boolean): Promise<Policy> => {
  const user = await readUserConfig(app.home.root);
  const defaultBrain = config.crew.defaults.brain ?? user['default-brain'];
  const heroRole = (config.crew.hero.role ?? 'mechanic').split('/').at(-1) ?? 'mechanic';
  return {
    heroRole,
    ...(config.crew.hero.brain && { heroBrain: config.crew.hero.brain }),
    ...(defaultBrain && { defaultBrain }),
    brains: namedBrains(config),
    roles: rolesOf(config),
    maxClones: config.crew.limits.maxClones,
    maxQueue: config.crew.limits.maxQueue,
    sandbox: config.crew.sandbox,
    trusted,
    retention: { transcriptsMs: config.retention.transcriptsMs, diskBytes: config.retention.diskBytes },
  };
};

/**
 * A repository is not trusted because it was cloned: what runs, reads or reaches out holds after a person's yes. False:
 * nothing of khlone.yml is in question, but the repository's files for AI CLIs are, and acts go on without those.
 */
const settleTrust = async (
  app: App,
  caller: Caller,
  worktree: Worktree,
  config: SiteConfig,
): Promise<boolean> => {
  const files = brainFiles(worktree.root);
  const question = await needsTrust(app.home, worktree, config);
  if (!question) return !(await needsTrust(app.home, worktree, config, files));
  if (caller.ask) {
    const whole = (await needsTrust(app.home, worktree, config, files)) ?? question;
    caller.err(`${whole.text}\n`);
    if (await confirm(caller, 'Agree to this?')) {
      await agree(app.home, worktree, config, files);
      return true;
    }
  }
  throw new KhloneError(
    'not-trusted',
    `khlone.yml wants what you have not agreed to: ${question.short}`,
    'khlone trust',
  );
};

/** Everything about the caller's place that dispatching needs. Throws no-repository, config, not-trusted, conflict. */
export const placeOf = async (app: App, caller: Caller, flags: PlaceFlags): Promise<Place> => {
  const worktree = await worktreeOf(app, caller, flags);
  const config = await loadSiteConfig(worktree.root);
  assertProtection(config);
  const trusted = await settleTrust(app, caller, worktree, config);
  const { binding, isNew } = bindingFor(app, worktree, config);
  return { worktree, config, binding, isNew, policy: await policyFor(app, config, trusted) };
};

/** The zone of the caller's place if it has one, without making any and without asking for trust. */
export const boundPlace = async (app: App, caller: Caller, flags: PlaceFlags): Promise<Binding> => {
  const worktree = await worktreeOf(app, caller, flags);
  const binding = app.bindings.byRoot(worktree.root);
  if (binding) return binding;
  throw new KhloneError(
    'not-found',
    `${worktree.address} has no zone yet`,
    'khlone init, or the first khlone act makes it',
  );
};
