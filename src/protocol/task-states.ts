/** What a task is, where it stands, and why it waits: the words that both sides say. */

export const KINDS = ['ask', 'act'] as const;
export const TASK_STATES = [
  'queued',
  'held',
  'dispatching',
  'active',
  'pausing',
  'paused',
  'cancelling',
  'done',
  'failed',
  'cancelled',
  'unknown',
] as const;
export type TaskState = (typeof TASK_STATES)[number];
export const ENDED: ReadonlySet<TaskState> = new Set(['done', 'failed', 'cancelled']);

/** Why a task waits: the word is stable, the sentence is for people. */
export const HOLDS = [
  'environment',
  'code',
  'brain-auth',
  'brain-missing',
  'rate',
  'tmux',
  'limit',
  'halted',
  'paused',
  'disk',
  'start',
] as const;
export type Hold = (typeof HOLDS)[number];
