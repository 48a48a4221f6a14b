import type { Hold, TaskState } from '../protocol/calls.ts';
import { ENDED } from '../protocol/calls.ts';

/**
 * The life of a task as a pure function from (task, event) to task. The store keeps what this returns; nobody else
 * writes a task's state. An event that means nothing in a state returns the task unchanged: events arrive late.
 */

/** The part of a task that decides its life. `effect`: a tool began in the running attempt, so the turn may not be sent twice. */
export type TaskCore = {
  kind: 'ask' | 'act';
  state: TaskState;
  attempt: number;
  effect: boolean;
  /** The brain may repeat an ask whose first run is proved to have ended (a `sh` ask may not). */
  repeatable: boolean;
  hold?: Hold;
  wakeAtMs?: number;
  error?: string;
  message?: string;
  hint?: string;
};

export type TaskEvent =
  | { type: 'dispatch' }
  | { type: 'hold'; hold: Hold; message?: string; hint?: string; wakeAtMs?: number }
  | { type: 'wake' }
  | { type: 'started' }
  | { type: 'effect' }
  /** `message`: what is worth knowing of a turn that ended well, such as tools that were refused. */
  | { type: 'done'; message?: string }
  | { type: 'failed'; error: string; message: string; hint?: string }
  | { type: 'interrupted' }
  /** The run ended without the end of the turn; `how` is proof: its exit file, its vanished process, or another boot. */
  | { type: 'died'; how: 'exit' | 'killed' | 'reboot'; message: string }
  | { type: 'cancel' }
  | { type: 'disrupt' }
  | { type: 'resume' }
  | { type: 'retried'; by: string };

/** An effectless turn is sent again at most this often, an ask repeated: a brain that always dies must not loop. */
export const MAX_ATTEMPTS = 3;

const RUNNING: ReadonlySet<TaskState> = new Set(['dispatching', 'active']);
const WAITING: ReadonlySet<TaskState> = new Set(['queued', 'held', 'paused']);

const cleared = (task: TaskCore): TaskCore => {
  const { hold: _hold, wakeAtMs: _wakeAtMs, message: _message, hint: _hint, error: _error, ...rest } = task;
  return rest;
};

const ended = (task: TaskCore, state: TaskState, why: Partial<TaskCore> = {}): TaskCore => ({
  ...cleared(task),
  state,
  ...why,
});

/** Sending the turn again would repeat nothing: no tool began, or the brain may repeat an ask. */
const mayRepeat = (task: TaskCore): boolean => !task.effect || (task.kind === 'ask' && task.repeatable);

/** What follows when a run ended in the middle of a turn (facts first, then what is allowed). */
const afterDeath = (task: TaskCore, event: Extract<TaskEvent, { type: 'died' }>): TaskCore => {
  const unknown = ended(task, 'unknown', {
    error: 'unknown-outcome',
    message: event.message,
    hint: 'khlone retry TASK, or khlone cancel TASK',
  });
  // A boot in between: nothing tells whether the last lines of the output reached the disk, so an act is never sent again.
  if (task.kind === 'act' && event.how === 'reboot') return unknown;
  if (!mayRepeat(task)) return unknown;
  // It goes first again, with the same uuid.
  if (task.attempt < MAX_ATTEMPTS) return { ...cleared(task), state: 'queued', effect: false };
  return ended(task, 'failed', {
    error: 'task-failed',
    message: `${event.message} (${task.attempt} attempts)`,
    hint: 'khlone doctor, then khlone retry TASK',
  });
};

const whileRunning = (task: TaskCore, event: TaskEvent): TaskCore => {
  switch (event.type) {
    case 'started':
      return task.state === 'dispatching' ? { ...task, state: 'active' } : task;
    case 'effect':
      return { ...task, state: 'active', effect: true };
    case 'done':
      return ended(task, 'done', event.message ? { message: event.message } : {});
    case 'failed':
      return ended(task, 'failed', {
        error: event.error,
        message: event.message,
        ...(event.hint && { hint: event.hint }),
      });
    case 'interrupted':
      return ended(task, 'failed', { error: 'interrupted', message: 'the turn was interrupted' });
    case 'died':
      return afterDeath(task, event);
    case 'hold':
      return mayRepeat(task) ? holdOf(task, event) : failedInsteadOfHeld(task, event);
    case 'cancel':
      return { ...task, state: 'cancelling' };
    case 'disrupt':
      return { ...task, state: 'pausing' };
    default:
      return task;
  }
};

const holdOf = (task: TaskCore, event: Extract<TaskEvent, { type: 'hold' }>): TaskCore => ({
  ...cleared(task),
  state: 'held',
  hold: event.hold,
  ...(event.message && { message: event.message }),
  ...(event.hint && { hint: event.hint }),
  ...(event.wakeAtMs !== undefined && { wakeAtMs: event.wakeAtMs }),
});

/** A held task is sent again later, which one that had an effect may not be: it ends with the reason, for a person. */
const failedInsteadOfHeld = (task: TaskCore, event: Extract<TaskEvent, { type: 'hold' }>): TaskCore =>
  ended(task, 'failed', {
    error: 'task-failed',
    message: event.message ?? event.hold,
    hint: 'khlone retry TASK',
  });

const whileWaiting = (task: TaskCore, event: TaskEvent): TaskCore => {
  switch (event.type) {
    case 'dispatch':
      return task.state === 'held'
        ? task
        : { ...cleared(task), state: 'dispatching', attempt: task.attempt + 1, effect: false };
    case 'hold':
      return task.state === 'paused' ? task : holdOf(task, event);
    case 'wake':
      return task.state === 'held' ? { ...cleared(task), state: 'queued' } : task;
    case 'resume':
      return task.state === 'paused' ? { ...cleared(task), state: 'queued' } : task;
    case 'cancel':
      return ended(task, 'cancelled');
    case 'failed':
      return ended(task, 'failed', {
        error: event.error,
        message: event.message,
        ...(event.hint && { hint: event.hint }),
      });
    default:
      return task;
  }
};

/** The result came first: a cancel of a finished turn answers "already done". */
const whileCancelling = (task: TaskCore, event: TaskEvent): TaskCore => {
  switch (event.type) {
    case 'effect':
      return { ...task, effect: true };
    case 'done':
      return ended(task, 'done', event.message ? { message: event.message } : {});
    case 'failed':
    case 'hold':
    case 'interrupted':
    case 'died':
      return ended(task, 'cancelled');
    default:
      return task;
  }
};

const whilePausing = (task: TaskCore, event: TaskEvent): TaskCore => {
  switch (event.type) {
    case 'effect':
      return { ...task, effect: true };
    case 'interrupted':
      return { ...cleared(task), state: 'paused' };
    case 'cancel':
      return { ...task, state: 'cancelling' };
    case 'done':
    case 'failed':
    case 'hold':
    case 'died':
      return whileRunning({ ...task, state: 'active' }, event);
    default:
      return task;
  }
};

const whileUnknown = (task: TaskCore, event: TaskEvent): TaskCore => {
  if (event.type === 'cancel') return ended(task, 'cancelled');
  if (event.type === 'retried') return ended(task, 'cancelled', { message: `retried as ${event.by}` });
  return task;
};

/** The next state. Pure; ended tasks never change again. */
export const reduce = (task: TaskCore, event: TaskEvent): TaskCore => {
  if (ENDED.has(task.state)) return task;
  if (WAITING.has(task.state)) return whileWaiting(task, event);
  if (RUNNING.has(task.state)) return whileRunning(task, event);
  if (task.state === 'cancelling') return whileCancelling(task, event);
  if (task.state === 'pausing') return whilePausing(task, event);
  return whileUnknown(task, event);
};

/** A task that a clone works on right now: at most one per clone. */
export const isRunning = (state: TaskState): boolean =>
  RUNNING.has(state) || state === 'cancelling' || state === 'pausing';
