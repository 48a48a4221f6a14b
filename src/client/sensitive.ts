import { createHash } from 'node:crypto';
import { sanitize } from '../protocol/sanitize.ts';
import { DEFAULT_SITE_CONFIG, type SiteConfig } from './site-config.ts';

/** What of a repository's configuration holds only after a person has agreed to it: each thing in plain words. */

export type Sensitive = {
  /** Where it stands, e.g. `secrets.GH_TOKEN`; unique within a configuration. */
  key: string;
  kind: 'run' | 'read' | 'reach' | 'spend' | 'send' | 'loosen';
  /** One safe line for a person. */
  says: string;
  /** Its exact content in canonical form: what is agreed to. The words may change between versions, this may not. */
  value: string;
};

/** A program in a role's skills; its content counts, not only its name. */
export type ExecutableSkill = {
  name: string;
  path: string;
  sha256: string;
  /** What it does, where it is not a role's skill. */
  says?: string;
};

/** A longer text is cut with a note of how much is missing: nothing hides behind a silent "…". */
const MAX_SHOWN_CHARS = 2_000;

const shown = (text: string): string => {
  const quoted = /^[\w@%+=:,./~-]+$/u.test(text) ? text : JSON.stringify(text);
  const safe = sanitize(quoted).replace(/\s+/gu, ' ');
  const hidden = safe.length - MAX_SHOWN_CHARS;
  return hidden > 0 ? `${safe.slice(0, MAX_SHOWN_CHARS)} (and ${hidden} characters more)` : safe;
};
const words = (argv: readonly string[]): string => argv.map(shown).join(' ');

/** JSON with sorted keys, so that equal content has equal text. */
const canonical = (value: unknown): string =>
  JSON.stringify(value, (_key, inner: unknown) =>
    inner !== null && typeof inner === 'object' && !Array.isArray(inner)
      ? Object.fromEntries(Object.entries(inner).sort(([a], [b]) => (a < b ? -1 : 1)))
      : inner,
  );

const item = (key: string, kind: Sensitive['kind'], says: string, value: unknown): Sensitive => ({
  key,
  kind,
  says,
  value: canonical(value),
});

const hours = (ms: number | undefined): string =>
  ms === undefined ? 'never' : `${Math.round(ms / 36_000) / 100} h`;

const ofZone = ({ zone }: SiteConfig): Sensitive[] => {
  const { host, path, instance, constraints } = zone;
  const found: Sensitive[] = [];
  if (host !== undefined)
    found.push(item('zone.host', 'reach', `works on the host ${shown(host)} over ssh`, host));
  if (path !== undefined)
    found.push(item('zone.path', 'reach', `keeps the zone's files in ${shown(path)}`, path));
  if (instance) {
    const {
      type = 'default',
      region = 'default region',
      ami = 'the newest Ubuntu LTS',
      diskGb,
      market,
    } = instance;
    const says = `rents a machine: ${shown(type)}, ${shown(region)}, image ${shown(ami)}, ${diskGb} GB, ${market}`;
    found.push(item('zone.instance', 'spend', says, { ...instance, mode: zone.mode }));
  }
  if (zone.mode === 'ec2') {
    const limit =
      constraints.costLimitUsd === undefined ? 'no cost limit' : `cost limit $${constraints.costLimitUsd}`;
    const ends = `ends after ${hours(constraints.ttlMs)}, idle after ${hours(constraints.idleMs)}`;
    const says = `the machine ${ends} (${constraints.onEnd}), ${limit} (${constraints.onLimit})`;
    found.push(item('zone.constraints', 'spend', says, constraints));
  }
  return found;
};

const ofCode = ({ supplies, setup, repo }: SiteConfig): Sensitive[] => {
  const found = supplies.map((tool) =>
    item(`supplies.${tool}`, 'run', `installs ${shown(tool)} in the zone`, tool),
  );
  found.push(
    ...setup.map((argv, n) => item(`setup.${n}`, 'run', `runs in the zone at setup: ${words(argv)}`, argv)),
  );
  const { origin, deployKey } = repo;
  if (origin !== undefined)
    found.push(item('repo.origin', 'reach', `fetches the code from ${shown(origin)}`, origin));
  if (deployKey !== undefined) {
    found.push(item('repo.deploy_key', 'read', `gives the zone the key in ${shown(deployKey)}`, deployKey));
  }
  return found;
};

/** The built-in brain takes words for commands: a sentence of the person's would run as a script. */
const isShell = (brain: string): boolean => brain.split(':')[0] === 'sh';

const ofCrew = ({ crew, zone, hooks }: SiteConfig): Sensitive[] => {
  const { limits, sandbox, brains, hero, defaults } = crew;
  const usual = DEFAULT_SITE_CONFIG.crew.limits;
  const found: Sensitive[] = [];
  if (limits.maxClones > usual.maxClones || limits.maxQueue > usual.maxQueue) {
    const says = `allows ${limits.maxClones} clones at once, and ${limits.maxQueue} tasks in a queue`;
    found.push(item('crew.limits', 'spend', says, limits));
  }
  if (sandbox === 'off' && zone.mode !== 'ec2') {
    found.push(item('crew.sandbox', 'loosen', 'lets clones write outside of the worktree', sandbox));
  }
  const named = { 'clone.0': hero.brain, defaults: defaults.brain };
  for (const [place, brain] of Object.entries(named)) {
    if (brain && isShell(brain)) {
      found.push(
        item(`crew.${place}.brain`, 'run', 'runs tasks for which no brain is named as shell scripts', brain),
      );
    }
  }
  for (const [name, choice] of Object.entries(brains)) {
    if (typeof choice === 'string') {
      const says = `runs tasks for the brain ${shown(name)} as shell scripts`;
      if (isShell(choice)) found.push(item(`crew.brains.${name}`, 'run', says, choice));
      continue;
    }
    const argv = 'acp' in choice ? choice.acp : choice.command;
    found.push(
      item(`crew.brains.${name}`, 'run', `runs as the brain ${shown(name)}: ${words(argv)}`, choice),
    );
  }
  for (const [n, hook] of hooks.onStop.entries()) {
    if (!('run' in hook)) continue;
    found.push(
      item(`hooks.onStop.${n}`, 'run', `runs in the zone after each task: ${words(hook.run)}`, hook.run),
    );
  }
  return found;
};

const ofSecrets = ({ secrets }: SiteConfig): Sensitive[] =>
  Object.entries(secrets).map(([name, source]) => {
    const rest = source.slice(4);
    return source.startsWith('cmd:')
      ? item(
          `secrets.${name}`,
          'run',
          `runs on this machine: ${sanitize(rest)}, and gives clones its output as ${name}`,
          source,
        )
      : item(
          `secrets.${name}`,
          'read',
          `reads ${rest} of your environment, and gives it to clones as ${name}`,
          source,
        );
  });

/**
 * All that sync.include does is let files travel whose names look like secrets. A pattern says little of what it takes
 * along (`.e*`, `conf` for a folder), so only names that are examples by their ending pass without a question.
 */
const HARMLESS = /[^/*?]\.(example|sample|template|dist)$/iu;

const megabytes = (bytes: number): number => Math.ceil(bytes / 1e5) / 10;

/** Whatever the file says of the zone: one that was made elsewhere stays there when a pulled file names none. */
const ofSync = ({ sync: { auto, include, maxFileBytes }, repo: { history } }: SiteConfig): Sensitive[] => {
  const patterns = include.filter((pattern) => !HARMLESS.test(pattern));
  const found = patterns.map((pattern) =>
    item(`sync.include.${pattern}`, 'send', `sends ${shown(pattern)} to the zone's machine`, pattern),
  );
  const says = 'sends your changes to the zone and brings its changes here, without a command';
  if (auto) found.unshift(item('sync.auto', 'send', says, auto));
  if (maxFileBytes > DEFAULT_SITE_CONFIG.sync.maxFileBytes) {
    const large = `sends files of up to ${megabytes(maxFileBytes)} MB to the zone's machine`;
    found.push(item('sync.max_file', 'send', large, maxFileBytes));
  }
  if (history === 'full') {
    const whole = "sends the branch's whole history to the zone's machine, not its latest commits";
    found.push(item('repo.history', 'send', whole, history));
  }
  return found;
};

const ofSkills = (skills: readonly ExecutableSkill[]): Sensitive[] =>
  skills.map(({ name, path, sha256, says }) =>
    item(
      `skills.${name}`,
      'run',
      says
        ? `${says} (${sha256.slice(0, 12)})`
        : `runs as the skill ${shown(name)}: ${shown(path)} (${sha256.slice(0, 12)})`,
      { path, sha256 },
    ),
  );

/**
 * Each thing in a configuration (and in the roles' executable skills) that would run a program, read the environment
 * or a key, name a host, send private files, spend money, or loosen a guard. Empty for a configuration that does none.
 */
export const sensitiveParts = (config: SiteConfig, skills: readonly ExecutableSkill[] = []): Sensitive[] => [
  ...ofZone(config),
  ...ofCode(config),
  ...ofCrew(config),
  ...ofSecrets(config),
  ...ofSync(config),
  ...ofSkills(skills),
];

/** One hash over all that is agreed to: independent of order and of the words shown. */
export const hashOf = (parts: readonly Sensitive[]): string => {
  const content = parts.map(({ key, value }) => canonical([key, value])).sort();
  return createHash('sha256').update(content.join('\n')).digest('hex');
};
