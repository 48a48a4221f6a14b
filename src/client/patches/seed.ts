import { type Ground, keepState } from './ground.ts';

/** Notes that both sides have the same state: what was carried is the first thing they agree on. */
export const seedState = (ground: Ground, tree: string): Promise<void> =>
  keepState(ground, { ...ground.state, base: tree, remote: tree });
