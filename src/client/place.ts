import { isAbsolute, resolve } from 'node:path';
import { formatZone, parseZone } from '../protocol/address.ts';
import type { Policy } from '../protocol/calls.ts';
import { KhloneError } from '../protocol/error.ts';
import type { App } from './app.ts';
import { type Binding, zoneIdOf } from './bindings.ts';
import type { Caller } from './caller.ts';
import { BUILT_IN_ROLES } from './roles.ts';
import { loadSiteConfig, type SiteConfig } from './site-config.ts';
import { requireTrust } from './trust.ts';
import { readUserConfig } from './user-config.ts';
import { findWorktree, type Worktree } from './worktree.ts';

/** Where a command applies: the caller's worktree, its configuration, and the zone it is bound to. */

export type Place = {
  worktree: Worktree;
  config: SiteConfig;
  binding: Binding;
  bound: boolean;
  policy: Policy;
};

const noRepository = (cwd: string): KhloneError =>
  new KhloneError(
    'no-repository',
    `${cwd} is not in a git repository`,
    'cd into one, or git init && git commit --allow-empty -m "first"',
  );
