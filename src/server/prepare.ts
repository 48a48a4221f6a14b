import { statSync } from 'node:fs';
import type { Brain, Probe } from '../brains/brain.ts';
import { findBrain } from '../brains/registry.ts';
import type { View } from '../brains/view.ts';
import type { Policy } from '../protocol/calls.ts';
import type { TaskEvent } from './queue.ts';
import type { TaskRow } from './store/tasks.ts';
import { type CloneRow, policyOf, type ZoneRow } from './store/zones.ts';

/** Everything a turn needs before its brain is spoken to, or the reason why its task waits or fails. */

export type Environment = Readonly<Record<string, string>>;

export type PrepareDeps = {
  environmentOf(zone: ZoneRow): Environment | undefined;
  probe(brain: Brain, environment: Environment): Promise<Probe>;
  /** Probed once; undefined where this host allows none. Rejects where it could not be tried. */
  view(): Promise<View | undefined>;
};

export type Ready = {
  zone: ZoneRow;
  clone: CloneRow;
  policy: Policy;
  brain: Brain;
  model: string | undefined;
  environment: Environment;
  view: View | undefined;
};

const NO_ENVIRONMENT: TaskEvent = {
  type: 'hold',
  hold: 'environment',
  message: 'needs its environment: hub and server restarted, and environments live in memory only',
  hint: 'any khlone command from a shell in the zone brings it',
};

const NO_VIEW: TaskEvent = {
  type: 'failed',
  error: 'no-view',
  message: 'this host allows no read-only view, so an ask by sh is refused',
  hint: 'khlone act, or khlone doctor for what is missing',
};

const NO_WORKTREE_RETRY_MS = 30_000;

/** It waits: the disk may only not be mounted yet, and a queue must not fail task by task meanwhile. */
const noWorktree = (path: string): TaskEvent => ({
  type: 'hold',
  hold: 'start',
  message: `the worktree ${path} is not there`,
  hint: 'bring it back, or khlone zone del',
  wakeAtMs: Date.now() + NO_WORKTREE_RETRY_MS,
});

const notReady = (brain: Brain, probe: Probe): TaskEvent | undefined => {
  const hint = probe.hint ? { hint: probe.hint } : {};
  if (!probe.found) {
    return {
      type: 'hold',
      hold: 'brain-missing',
      message: probe.why ?? `${brain.name} was not found`,
      ...hint,
    };
  }
  if (probe.auth !== 'missing' && probe.auth !== 'expired') return undefined;
  return {
    type: 'hold',
    hold: 'brain-auth',
    message: probe.why ?? `${brain.name} is not logged in`,
    hint: `khlone login ${brain.name}, then khlone retry TASK`,
  };
};

export const prepare = async (
  deps: PrepareDeps,
  task: TaskRow,
  zone: ZoneRow,
  clone: CloneRow,
): Promise<Ready | TaskEvent> => {
  const environment = deps.environmentOf(zone);
  if (!environment) return NO_ENVIRONMENT;
  if (!statSync(zone.path, { throwIfNoEntry: false })?.isDirectory()) return noWorktree(zone.path);
  const policy = policyOf(zone);
  const { brain, model } = findBrain(clone.brain, policy.brains);
  const missing = notReady(brain, await deps.probe(brain, environment));
  if (missing) return missing;
  const view = task.kind === 'act' && policy.sandbox === 'off' ? undefined : await deps.view();
  if (task.kind === 'ask' && !view && brain.name === 'sh') return NO_VIEW;
  return { zone, clone, policy, brain, model, environment, view };
};
