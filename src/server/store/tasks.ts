import { ENDED, type TaskView } from '../../protocol/calls.ts';
import { KhloneError } from '../../protocol/error.ts';
import { isRunning, reduce, type TaskCore, type TaskEvent } from '../queue.ts';
import type { Row, Store, Tx } from './store.ts';

/** Tasks as rows. `advance` is the only way a task's state changes, by the pure reducer, with its event in the journal. */

export type TaskRow = Row & {
  ord: number;
  id: string;
  hash: string;
  zone: string;
  clone: number;
  kind: 'ask' | 'act';
  prompt: string;
  title: string;
  session: string;
  prioritized: number;
  rank: number;
  limit_ms: number | null;
  uuid: string;
  state: TaskCore['state'];
  attempt: number;
  effect: number;
  repeatable: number;
  hold: string | null;
  wake_ms: number | null;
  error: string | null;
  message: string | null;
  hint: string | null;
  run: number | null;
  tree: string | null;
  answer: string | null;
  usage: string | null;
  retry_of: string | null;
  created_ms: number;
  started_ms: number | null;
  ended_ms: number | null;
  role: string;
  idx: number;
};

const SELECT = 'SELECT t.*, c.role, c.idx FROM tasks t JOIN clones c ON c.id = t.clone';
const LIVE = "t.state NOT IN ('done', 'failed', 'cancelled')";

export const taskRow = (store: Store, id: string): TaskRow | undefined =>
  store.get<TaskRow>(`${SELECT} WHERE t.id = ?`, id);

/** The task that a unique prefix names, with or without `task-`. */
export const taskByPrefix = (store: Store, prefix: string): TaskRow => {
  const stem = prefix.startsWith('task-') ? prefix : `task-${prefix}`;
  if (!/^task-[0-9a-z]{0,10}$/.test(stem))
    throw new KhloneError('not-found', `no task ${prefix}`, 'khlone queue');
  const found = store.all<TaskRow>(
    `${SELECT} WHERE t.id >= ? AND t.id < ? ORDER BY t.id LIMIT 6`,
    stem,
    `${stem}~`,
  );
  const [only] = found;
  if (!only)
    throw new KhloneError('not-found', `no task ${prefix}`, 'khlone list tasks shows the known ones');
  if (found.length > 1) {
    throw new KhloneError(
      'not-found',
      `${prefix} names several tasks`,
      `one of ${found.map((t) => t.id).join(', ')}`,
    );
  }
  return only;
};

/** The live tasks of a clone: the running one first, then in the order they will run. */
export const liveTasks = (store: Store, clone: number): TaskRow[] =>
  store
    .all<TaskRow>(`${SELECT} WHERE t.clone = ? AND ${LIVE} ORDER BY t.prioritized DESC, t.rank`, clone)
    .sort((a, b) => Number(isRunning(b.state)) - Number(isRunning(a.state)));

export const liveCount = (store: Store, clone: number): number =>
  store.get<{ n: number }>(`SELECT count(*) AS n FROM tasks t WHERE t.clone = ? AND ${LIVE}`, clone)?.n ?? 0;

export const tasksOf = (
  store: Store,
  filter: { zone?: string; clone?: number; ended: boolean; most: number },
): TaskRow[] =>
  store
    .all<TaskRow>(
      `${SELECT} WHERE (?1 IS NULL OR t.zone = ?1) AND (?2 IS NULL OR t.clone = ?2) AND (?3 OR ${LIVE}) ORDER BY t.ord DESC LIMIT ?4`,
      ...[filter.zone ?? null, filter.clone ?? null, filter.ended ? 1 : 0, filter.most],
    )
    .reverse();

export type NewTask = Pick<
  TaskRow,
  | 'id'
  | 'hash'
  | 'zone'
  | 'clone'
  | 'kind'
  | 'prompt'
  | 'title'
  | 'session'
  | 'limit_ms'
  | 'uuid'
  | 'retry_of'
> & { prioritized: boolean; repeatable: boolean };

export const insertTask = (store: Store, tx: Tx, task: NewTask, nowMs: number): TaskRow => {
  store.run(
    `INSERT INTO tasks (id, hash, zone, clone, kind, prompt, title, session, prioritized, rank, limit_ms, uuid, state,
       repeatable, retry_of, created_ms)
     VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, (SELECT coalesce(max(ord), 0) + 1 FROM tasks), ?, ?, 'queued', ?, ?, ?)`,
    ...[task.id, task.hash, task.zone, task.clone, task.kind, task.prompt, task.title, task.session],
    ...[task.prioritized ? 1 : 0, task.limit_ms, task.uuid, task.repeatable ? 1 : 0, task.retry_of, nowMs],
  );
  const row = taskRow(store, task.id);
  if (!row) throw new Error('the task that was just written is not there');
  emitState(tx, row, nowMs);
  return row;
};

const coreOf = (row: TaskRow): TaskCore => ({
  kind: row.kind,
  state: row.state,
  attempt: row.attempt,
  effect: row.effect === 1,
  repeatable: row.repeatable === 1,
  ...(row.hold && { hold: row.hold as NonNullable<TaskCore['hold']> }),
  ...(row.wake_ms !== null && { wakeAtMs: row.wake_ms }),
  ...(row.error && { error: row.error }),
  ...(row.message && { message: row.message }),
  ...(row.hint && { hint: row.hint }),
});

const emitState = (tx: Tx, row: TaskRow, nowMs: number): void =>
  tx.emit(row.zone, {
    atMs: nowMs,
    task: row.id,
    clone: `${row.role}.${row.idx}`,
    session: row.session,
    event: {
      type: 'task',
      state: row.state,
      kind: row.kind,
      ...(row.state === 'queued' && { title: row.title }),
      ...(row.hold && { hold: row.hold }),
      ...(row.message && { message: row.message }),
      ...(row.hint && { hint: row.hint }),
      ...(row.error && { error: row.error }),
    },
  });

/** Moves a task by an event. Returns the row as it is afterwards; nothing is written when nothing changed. */
export const advance = (store: Store, tx: Tx, id: string, event: TaskEvent, nowMs: number): TaskRow => {
  const row = taskRow(store, id);
  if (!row) throw new KhloneError('not-found', `no task ${id}`);
  const before = coreOf(row);
  const after = reduce(before, event);
  if (after === before) return row;
  const endedMs = ENDED.has(after.state) ? nowMs : null;
  const startedMs = row.started_ms ?? (after.state === 'dispatching' ? nowMs : null);
  const hint = after.hint?.replaceAll('TASK', row.id) ?? null;
  store.run(
    `UPDATE tasks SET state = ?, attempt = ?, effect = ?, hold = ?, wake_ms = ?, error = ?, message = ?, hint = ?,
       started_ms = ?, ended_ms = ? WHERE id = ?`,
    ...[after.state, after.attempt, after.effect ? 1 : 0, after.hold ?? null, after.wakeAtMs ?? null],
    ...[after.error ?? null, after.message ?? null, hint, startedMs, endedMs, id],
  );
  const next = taskRow(store, id) ?? row;
  if (next.state !== row.state || next.hold !== row.hold) emitState(tx, next, nowMs);
  return next;
};

export const viewOf = (row: TaskRow, position?: number): TaskView => ({
  id: row.id,
  zone: row.zone,
  clone: `${row.role}.${row.idx}`,
  kind: row.kind,
  title: row.title,
  session: row.session,
  state: row.state,
  prioritized: row.prioritized === 1,
  ...(position !== undefined && { position }),
  ...(row.hold && { hold: row.hold }),
  ...(row.message && { message: row.message.slice(0, 8192) }),
  ...(row.hint && { hint: row.hint.slice(0, 2048) }),
  ...(row.error && { error: row.error }),
  attempt: row.attempt,
  ...(row.usage && { usage: JSON.parse(row.usage) }),
  createdMs: row.created_ms,
  ...(row.started_ms !== null && { startedMs: row.started_ms }),
  ...(row.ended_ms !== null && { endedMs: row.ended_ms }),
});
