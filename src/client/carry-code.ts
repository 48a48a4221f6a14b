import type { Peer } from '../protocol/peer.ts';
import type { App } from './app.ts';
import type { Binding } from './bindings.ts';
import type { SiteConfig } from './site-config.ts';
import type { Worktree } from './worktree.ts';

export type Carried = { leftOut: { path: string; why: string }[] };

/** Placeholder signature for callers (dispatch.ts, commands/zone.ts): the author of src/patch/carry.ts fills this in. */
export const carryCode = async (
  _app: App,
  _peer: Peer,
  _place: { worktree: Worktree; config: SiteConfig; binding: Binding },
): Promise<Carried> => ({ leftOut: [] });
