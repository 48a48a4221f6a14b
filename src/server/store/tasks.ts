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
  usage: string | null;
  retry_of: string | null;
  created_ms: number;
  started_ms: number | null;
  ended_ms: number | null;
  role: string;
  idx: number;
};

/** Without prompt and answer, which may have megabytes each: a list of tasks must stay small. */
const COLUMNS =
  `ord, id, hash, zone, clone, kind, title, session, prioritized, rank, limit_ms, uuid, state, attempt,
  effect, repeatable, hold, wake_ms, error, message, hint, run, usage, retry_of, created_ms, started_ms, ended_ms`
    .split(',')
    .map((name) => `t.${name.trim()}`)
    .join(', ');
const SELECT = `SELECT ${COLUMNS}, c.role, c.idx FROM tasks t JOIN clones c ON c.id = t.clone`;
/** By the index of live tasks: a zone may have a hundred thousand ended ones. */
const SELECT_LIVE = SELECT.replace('tasks t', 'tasks t INDEXED BY tasks_live');
const LIVE = "t.state NOT IN ('done', 'failed', 'cancelled')";
const RUNNING = "t.state IN ('dispatching', 'active', 'pausing', 'cancelling')";
const ORDER = 'ORDER BY t.prioritized DESC, t.rank, t.ord';

// Statements are found by their text: those of every enqueue and wake-up are put together once.
const BY_ID = `${SELECT} WHERE t.id = ?`;
const RUNNING_OF = `${SELECT} WHERE t.clone = ? AND ${RUNNING} LIMIT 1`;
const FIRST_OF = `${SELECT} WHERE t.clone = ? AND ${LIVE} AND t.state IN ('queued', 'held') ${ORDER} LIMIT 1`;
const HEAD_OF = `${SELECT} WHERE t.clone = ? AND ${LIVE} AND t.state <> 'unknown' ${ORDER} LIMIT 1`;
/** By the index of tasks that wait for somebody. */
const WAITING = "WHERE t.state IN ('held', 'unknown')";
const SELECT_WAITING = `${SELECT.replace('tasks t', 'tasks t INDEXED BY tasks_waiting')} ${WAITING}`;
const HELD_OF = `${SELECT_WAITING} AND t.zone = ? AND t.state = 'held' AND t.clone = ? ${ORDER} LIMIT 1`;
const UNKNOWN_OF = `SELECT count(*) AS n FROM tasks t INDEXED BY tasks_waiting ${WAITING} AND t.zone = ?
  AND t.state = 'unknown' AND t.clone = ?`;

export const taskRow = (store: Store, id: string): TaskRow | undefined => store.get<TaskRow>(BY_ID, id);

export const promptOf = (store: Store, id: string): string =>
  store.get<{ prompt: string }>('SELECT prompt FROM tasks WHERE id = ?', id)?.prompt ?? '';

export const answerOf = (store: Store, id: string): string | null =>
  store.get<{ answer: string | null }>('SELECT answer FROM tasks WHERE id = ?', id)?.answer ?? null;

/** What its worktree was when its turn began, as it was kept; null where nobody looked. */
export const keptTreeOf = (store: Store, id: string): string | null =>
  store.get<{ tree: string | null }>('SELECT tree FROM tasks WHERE id = ?', id)?.tree ?? null;

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
      'usage',
      `${prefix} names several tasks`,
      `one of ${found.map((t) => t.id).join(', ')}`,
    );
  }
  return only;
};

/** The live tasks of a clone: the running one first, then in the order they will run. */
export const liveTasks = (store: Store, clone: number): TaskRow[] =>
  store
    .all<TaskRow>(`${SELECT} WHERE t.clone = ? AND ${LIVE} ${ORDER}`, clone)
    .sort((a, b) => Number(isRunning(b.state)) - Number(isRunning(a.state)));

/** What a clone has to do now: its running task, else the first that is neither unknown nor paused. */
export const headTask = (store: Store, clone: number): TaskRow | undefined =>
  store.get<TaskRow>(RUNNING_OF, clone) ?? store.get<TaskRow>(FIRST_OF, clone);

/** How many tasks of its clone come before a live one, itself not counted. */
export const tasksAhead = (store: Store, task: TaskRow): number => {
  if (ENDED.has(task.state) || isRunning(task.state)) return 0;
  const sql = `SELECT count(*) AS n FROM tasks t WHERE t.clone = ? AND ${LIVE} AND t.state <> 'unknown' AND (${RUNNING}
    OR (t.prioritized, -t.rank, -t.ord) > (?, ?, ?))`;
  const place = [task.prioritized, -task.rank, -task.ord];
  return store.get<{ n: number }>(sql, task.clone, ...place)?.n ?? 0;
};

export type TaskFilter = { zone?: string; clone?: number; ended: boolean; most: number };

/** The latest tasks, oldest first. */
export const tasksOf = (store: Store, { zone, clone, ended, most }: TaskFilter): TaskRow[] => {
  const wheres = [
    ...(ended ? [] : [LIVE]),
    ...(zone === undefined ? [] : ['t.zone = ?']),
    ...(clone === undefined ? [] : ['t.clone = ?']),
  ];
  const sql = `${ended ? SELECT : SELECT_LIVE} WHERE ${wheres.join(' AND ') || '1'} ORDER BY t.ord DESC LIMIT ?`;
  const values = [zone, clone, most].filter((value) => value !== undefined);
  return store.all<TaskRow>(sql, ...values).reverse();
};

/** The oldest tasks of a zone that somebody has to do something about. */
export const waitingTasks = (store: Store, zone: string, state: 'held' | 'unknown'): TaskRow[] =>
  store.all<TaskRow>(
    `${SELECT_WAITING} AND t.zone = ? AND t.state = ? ORDER BY t.ord LIMIT 1000`,
    zone,
    state,
  );

/** The queue of a clone at a glance: its head, its first held task, and how many there are; unknown ones are apart. */
export type Glance = { head: TaskRow | undefined; held: TaskRow | undefined; count: number };

/** Costs the same for a long queue as for a short one, because each view of a zone asks for it. */
export const glance = (store: Store, clone: { id: number; zone: string; live: number }): Glance => {
  const head = store.get<TaskRow>(RUNNING_OF, clone.id) ?? store.get<TaskRow>(HEAD_OF, clone.id);
  const held = store.get<TaskRow>(HELD_OF, clone.zone, clone.id);
  const { n } = store.get<{ n: number }>(UNKNOWN_OF, clone.zone, clone.id) ?? { n: 0 };
  return { head, held, count: clone.live - n };
};

export type NewTask = Pick<
  TaskRow,
  'id' | 'hash' | 'zone' | 'kind' | 'title' | 'session' | 'limit_ms' | 'uuid' | 'retry_of'
> & {
  prompt: string;
  clone: { id: number; role: string; idx: number };
  prioritized: boolean;
  repeatable: boolean;
};

const INSERT = `INSERT INTO tasks (id, hash, zone, clone, kind, prompt, title, session, prioritized, rank, limit_ms, uuid,
     state, repeatable, retry_of, created_ms)
   VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, (SELECT coalesce(max(ord), 0) + 1 FROM tasks), ?, ?, 'queued', ?, ?, ?)
   RETURNING ord, rank`;

const UNTOUCHED = {
  ...{ attempt: 0, effect: 0, hold: null, wake_ms: null, error: null, message: null, hint: null, run: null },
  ...{ usage: null, started_ms: null, ended_ms: null },
};

export const insertTask = (store: Store, tx: Tx, task: NewTask, nowMs: number): TaskRow => {
  const { prompt, clone, ...rest } = task;
  const flags = { prioritized: task.prioritized ? 1 : 0, repeatable: task.repeatable ? 1 : 0 };
  const made = store.get<{ ord: number; rank: number }>(
    INSERT,
    ...[task.id, task.hash, task.zone, clone.id, task.kind, prompt, task.title, task.session],
    ...[flags.prioritized, task.limit_ms, task.uuid, flags.repeatable, task.retry_of, nowMs],
  );
  if (!made) throw new Error('the task that was just written is not there');
  store.run('UPDATE clones SET live = live + 1 WHERE id = ?', clone.id);
  const place = { clone: clone.id, role: clone.role, idx: clone.idx, created_ms: nowMs };
  const row: TaskRow = { ...UNTOUCHED, ...rest, ...flags, ...made, ...place, state: 'queued' };
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
      ...(row.hold && { hold: row.hold as NonNullable<TaskCore['hold']> }),
      ...(row.message && { message: row.message }),
      ...(row.hint && { hint: row.hint }),
      ...(row.error && { error: row.error }),
    },
  });

/** A brain's error may be a whole page: events and views carry its beginning, the run's own output all of it. */
const MESSAGE_CHARS = 8_000;
const HINT_CHARS = 2_000;

/** Moves a task by an event. Returns the row as it is afterwards; nothing is written when nothing changed. */
export const advance = (store: Store, tx: Tx, id: string, event: TaskEvent, nowMs: number): TaskRow => {
  const row = taskRow(store, id);
  if (!row) throw new KhloneError('not-found', `no task ${id}`);
  const before = coreOf(row);
  const after = reduce(before, event);
  if (after === before) return row;
  const endedMs = ENDED.has(after.state) ? nowMs : null;
  const startedMs = row.started_ms ?? (after.state === 'dispatching' ? nowMs : null);
  const hint = after.hint?.replaceAll('TASK', row.id).slice(0, HINT_CHARS) ?? null;
  store.run(
    `UPDATE tasks SET state = ?, attempt = ?, effect = ?, hold = ?, wake_ms = ?, error = ?, message = ?, hint = ?,
       started_ms = ?, ended_ms = ? WHERE id = ?`,
    ...[after.state, after.attempt, after.effect ? 1 : 0, after.hold ?? null, after.wakeAtMs ?? null],
    ...[after.error ?? null, after.message?.slice(0, MESSAGE_CHARS) ?? null, hint, startedMs, endedMs, id],
  );
  if (endedMs !== null) store.run('UPDATE clones SET live = live - 1 WHERE id = ?', row.clone);
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
  ...(row.hold && { hold: row.hold as NonNullable<TaskCore['hold']> }),
  ...(row.message && { message: row.message.slice(0, 8192) }),
  ...(row.hint && { hint: row.hint.slice(0, 2048) }),
  ...(row.error && { error: row.error }),
  attempt: row.attempt,
  ...(row.usage && { usage: JSON.parse(row.usage) }),
  createdMs: row.created_ms,
  ...(row.started_ms !== null && { startedMs: row.started_ms }),
  ...(row.ended_ms !== null && { endedMs: row.ended_ms }),
});
