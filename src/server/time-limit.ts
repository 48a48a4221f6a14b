import { ENDED } from '../protocol/calls.ts';
import type { Store } from './store/store.ts';
import { type TaskRow, taskRow } from './store/tasks.ts';

/**
 * A task's own limit counts the time in which it is worked on, in milliseconds: not what it waits in the queue before
 * its first attempt, nor between two of them (a rate limit, an environment that nobody brought).
 */

type Time = { since_ms: number | null; ran_ms: number };

/** An attempt begins: within the transaction that says so. */
export const beginAttempt = (store: Store, task: string, nowMs: number): void =>
  store.run('UPDATE tasks SET since_ms = ? WHERE id = ?', nowMs, task);

/** When the running attempt of a task passes its limit, by the clock. */
export const limitAtMs = (store: Store, task: TaskRow): number | undefined => {
  if (task.limit_ms === null) return undefined;
  const time = store.get<Time>('SELECT since_ms, ran_ms FROM tasks WHERE id = ?', task.id);
  return (time?.since_ms ?? Date.now()) + task.limit_ms - (time?.ran_ms ?? 0);
};

/** The attempt is over, and the task is not: what it took is kept for the next one. */
export const endAttempt = async (store: Store, task: string, nowMs: number): Promise<void> => {
  const row = taskRow(store, task);
  if (!row || row.limit_ms === null || ENDED.has(row.state)) return;
  await store.write(() =>
    store.run(
      'UPDATE tasks SET ran_ms = ran_ms + max(0, ? - since_ms), since_ms = NULL WHERE id = ? AND since_ms IS NOT NULL',
      nowMs,
      task,
    ),
  );
};
