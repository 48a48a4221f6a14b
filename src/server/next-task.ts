import type { Environment } from './prepare.ts';
import { isRunning } from './queue.ts';
import type { Store } from './store/store.ts';
import { headTask, type TaskRow } from './store/tasks.ts';
import { type CloneRow, cloneRow, type ZoneRow, zoneRow } from './store/zones.ts';

/** What a clone does next, read from the store: it holds whatever woke the loop. */

export type NextDeps = {
  store: Store;
  environmentOf(zone: ZoneRow): Environment | undefined;
  /** A process that waits for work is ended after this long and resumed on demand, in milliseconds. */
  idleMs: number;
};

export type Job = { task: TaskRow; zone: ZoneRow; clone: CloneRow };
export type Step = Job | { waitMs: number };

/** Nothing is held longer by itself. */
export const LONGEST_HOLD_MS = 60_000;

/**
 * When a held task may go on, in milliseconds of the clock. An environment may have come while the hold was being
 * committed: then nobody says so again, and it is looked for here.
 */
const dueMs = (deps: NextDeps, task: TaskRow, zone: ZoneRow): number => {
  if (task.hold === 'environment' && deps.environmentOf(zone) !== undefined) return 0;
  if (task.wake_ms === null) return Infinity;
  // One that lies further ahead was set before the clock was set back.
  return task.wake_ms - Date.now() > LONGEST_HOLD_MS ? 0 : task.wake_ms;
};

/** The task to work on, or how long to wait for a change. */
export const nextStep = (deps: NextDeps, id: number): Step => {
  const { store, idleMs } = deps;
  const clone = cloneRow(store, id);
  const zone = clone && zoneRow(store, clone.zone);
  if (!clone || !zone) return { waitMs: idleMs };
  // A task of unknown outcome waits for a person, not in the way of what was queued behind it.
  const task = headTask(store, id);
  if (!task) return { waitMs: idleMs };
  if (isRunning(task.state)) return { task, zone, clone };
  if (task.state === 'held') {
    const due = dueMs(deps, task, zone);
    return { waitMs: due === Infinity ? idleMs : Math.max(0, due - Date.now()) };
  }
  return zone.paused || zone.state !== 'ready' ? { waitMs: idleMs } : { task, zone, clone };
};

/** The held task at the head of a clone's queue, once it may go on. */
export const dueTask = (deps: NextDeps, id: number): TaskRow | undefined => {
  const head = headTask(deps.store, id);
  const zone = head && zoneRow(deps.store, head.zone);
  if (head?.state !== 'held' || !zone || dueMs(deps, head, zone) > Date.now()) return undefined;
  return head;
};
