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

/**
 * Whether the running attempt of a task has passed its limit, from now on. Not by the clock, which is set, and runs on
 * while a laptop sleeps: that only tells what an attempt took under a server that is gone.
 */
export const limitOf = (store: Store, task: TaskRow): (() => boolean) => {
  if (task.limit_ms === null) return () => false;
  const time = store.get<Time>('SELECT since_ms, ran_ms FROM tasks WHERE id = ?', task.id);
  const now = Date.now();
  const leftMs = task.limit_ms - (time?.ran_ms ?? 0) - Math.max(0, now - (time?.since_ms ?? now));
  const end = performance.now() + leftMs;
  return () => performance.now() >= end;
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
