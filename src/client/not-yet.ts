import { KhloneError } from '../protocol/error.ts';
import type { SiteConfig } from './site-config.ts';

/** Keys of khlone.yml that this version reads and does not act on: told, because silence would look like consent. */
export const notYet = (config: SiteConfig): string[] => [
  ...(config.setup.length > 0 ? ['setup'] : []),
  ...(config.supplies.length > 0 ? ['supplies'] : []),
  ...(config.hooks.onStop.length > 0 ? ['hooks'] : []),
  ...(config.crew.isolation === 'worktree' ? ['crew.isolation'] : []),
  ...(config.zone.constraints.ttlMs || config.zone.constraints.idleMs || config.zone.constraints.costLimitUsd
    ? ['zone.constraints']
    : []),
  ...(Object.values(config.crew.brains).some((brain) => typeof brain !== 'string')
    ? ['crew.brains with programs']
    : []),
];

/** A key that promises protection may not be passed over: the command ends instead. */
export const assertProtection = (config: SiteConfig): void => {
  if (config.crew.permissions === 'free') return;
  throw new KhloneError(
    'config',
    'crew.permissions: ask is not in this version, and clones would not ask',
    'crew.permissions: free in khlone.yml, with crew.sandbox: zone',
  );
};
