import { randomUUID } from 'node:crypto';
import { findBrain } from '../../brains/registry.ts';
import type { TaskView } from '../../protocol/calls.ts';
import { KhloneError } from '../../protocol/error.ts';
import { CONTROL_FRAME_BYTES } from '../../protocol/limits.ts';
import type { Store } from '../store/store.ts';
import {
  advance,
  answerOf,
  insertTask,
  liveTasks,
  promptOf,
  type TaskRow,
  taskByPrefix,
  taskRow,
  tasksAhead,
  tasksOf,
  viewOf,
} from '../store/tasks.ts';
import { cloneRow, policyOf, zoneRow } from '../store/zones.ts';
import { changedSince } from '../witness.ts';
import { route } from './route.ts';
import { createAdd, type TaskDeps } from './task-add.ts';

export type { TaskDeps } from './task-add.ts';

/** Calls about tasks that are there: looking, cancelling, retrying, moving. */

const onCancel = async (deps: TaskDeps, prefix: string): Promise<TaskRow> => {
  const { store } = deps.hall;
  const { id, clone } = taskByPrefix(store, prefix);
  const row = await store.write((tx) => advance(store, tx, id, { type: 'cancel' }, Date.now()));
  deps.hall.wake(clone);
  return row;
};

const RETRYABLE = new Set(['failed', 'cancelled', 'unknown', 'done']);

type Retried = { row: TaskRow; repeated: boolean };

/** A retry under an id that is there: the same retry again, or somebody's reuse of the id. */
const knownRetry = (known: TaskRow, old: TaskRow): Retried => {
  if (known.retry_of === old.id) return { row: known, repeated: true };
  throw new KhloneError('id-reused', `${known.id} was sent before for something else`, 'use a new nonce');
};

/** Who would work on it has to be there still. */
const workerOf = (store: Store, old: TaskRow): { brain: string } => {
  const clone = cloneRow(store, old.clone);
  const zone = zoneRow(store, old.zone);
  if (clone && zone) return { brain: findBrain(clone.brain, policyOf(zone).brains).brain.name };
  throw new KhloneError(
    'conflict',
    `${old.role}.${old.idx}, which had ${old.id}, was deleted`,
    'khlone act hands it to another clone',
  );
};

/** A held task is let go again; an ended or unknown one is dispatched anew, in its session, as a task of its own. */
const onRetry = async (deps: TaskDeps, prefix: string, id: string): Promise<Retried> => {
  const { store } = deps.hall;
  const old = taskByPrefix(store, prefix);
  const zone = zoneRow(store, old.zone);
  const changes = zone && (await changedSince({ store, zonesDir: deps.zonesDir }, zone, old.id));
  const retried = await store.write((tx): Retried => {
    const now = Date.now();
    const known = taskRow(store, id);
    if (known) return knownRetry(known, old);
    const current = taskRow(store, old.id) ?? old;
    const { brain } = workerOf(store, current);
    if (current.state === 'held') {
      return { row: advance(store, tx, old.id, { type: 'wake' }, now), repeated: false };
    }
    if (!RETRYABLE.has(current.state)) {
      throw new KhloneError('conflict', `${old.id} is ${current.state}`, `khlone await ${old.id}`);
    }
    const note = noteFor(current);
    const task = {
      ...{ id, hash: old.hash, zone: old.zone, kind: old.kind, session: old.session, title: old.title },
      clone: { id: old.clone, role: old.role, idx: old.idx },
      prompt: withNote(promptOf(store, old.id), brain === 'sh' ? undefined : note, changes),
      ...{ limit_ms: old.limit_ms, uuid: randomUUID(), retry_of: old.id },
      ...{ prioritized: true, repeatable: old.repeatable === 1 },
    };
    const made = insertTask(store, tx, task, now);
    advance(store, tx, old.id, { type: 'retried', by: id }, now);
    return { row: made, repeated: false };
  });
  deps.hall.wake(retried.row.clone);
  return retried;
};

const LOOK_FIRST = 'First look at what is already done (git status, git diff), then finish what is missing.';
const NOTE_BEGINS = '[khlone] An earlier attempt at this task';

/** What a brain is told of the attempt before: nothing where it was finished, or had done nothing yet. */
const noteFor = ({ state, effect }: TaskRow): string | undefined => {
  if (state === 'unknown')
    return `${NOTE_BEGINS} ended in its middle, and its outcome is not known. ${LOOK_FIRST}`;
  if (state === 'done' || effect === 0) return undefined;
  return `${NOTE_BEGINS} ${state === 'failed' ? 'failed' : 'was cancelled'} after it had begun. ${LOOK_FIRST}`;
};

/** The note comes first, once, however often a task is tried. A script is not told anything: it could not read it. */
const withNote = (prompt: string, note: string | undefined, changes: string | undefined): string => {
  const task = prompt.startsWith(NOTE_BEGINS) ? prompt.slice(prompt.indexOf('\n\n') + 2) : prompt;
  return note === undefined ? task : `${note}${changes ? ` ${changes}` : ''}\n\n${task}`;
};

/** Puts a queued task at a place among those that wait: between its new neighbours, in their class. */
const onMove = async (deps: TaskDeps, prefix: string, position: number): Promise<TaskRow> => {
  const { store } = deps.hall;
  const { id } = taskByPrefix(store, prefix);
  const moved = await store.write(() => {
    const task = taskRow(store, id);
    if (!task || !(task.state === 'queued' || task.state === 'held')) {
      throw new KhloneError(
        'conflict',
        `${id} is ${task?.state ?? 'gone'} and cannot be moved`,
        'khlone queue',
      );
    }
    const others = liveTasks(store, task.clone).filter(
      (t) => t.id !== id && (t.state === 'queued' || t.state === 'held'),
    );
    const before = others[Math.min(position - 1, others.length) - 1];
    const after = others[Math.min(position - 1, others.length)];
    const prioritized = (after ?? before)?.prioritized ?? task.prioritized;
    const rank =
      before && after && before.prioritized === after.prioritized
        ? (before.rank + after.rank) / 2
        : after
          ? after.rank - 1
          : (before?.rank ?? 0) + 1;
    store.run('UPDATE tasks SET rank = ?, prioritized = ? WHERE id = ?', rank, prioritized, id);
    return taskRow(store, id) ?? task;
  });
  // Another task may be the first one now.
  deps.hall.wake(moved.clone);
  return moved;
};

/** Bytes of the tasks in one list: it is one message. What goes around them takes far less than the rest. */
const LIST_BYTES = CONTROL_FRAME_BYTES - 1024;

/** The latest of these, as many as one message holds: titles, and the reasons of failed ones, may be long. */
const latestThatFit = (tasks: TaskView[]): TaskView[] => {
  let left = LIST_BYTES;
  const over = tasks.findLastIndex((task) => {
    left -= Buffer.byteLength(JSON.stringify(task)) + 1;
    return left < 0;
  });
  return tasks.slice(over + 1);
};

async function* bytesOf(text: string): AsyncGenerator<Uint8Array> {
  yield Buffer.from(text);
}

export const taskRoutes = (deps: TaskDeps) => {
  const { store } = deps.hall;
  const add = createAdd(deps);
  return [
    route('task.add', ({ params, body }) => add(params, body)),
    route('task.get', ({ params }) => {
      const row = taskByPrefix(store, params.task);
      const answer = { task: viewOf(row, tasksAhead(store, row)) };
      const text = params.brief ? null : answerOf(store, row.id);
      return text === null ? answer : { answer, body: bytesOf(text) };
    }),
    route('task.list', ({ params }) => {
      const clone = params.clone ? cloneNamed(store, params.zone, params.clone) : undefined;
      const rows = tasksOf(store, {
        ...(params.zone && { zone: params.zone }),
        ...(clone !== undefined && { clone }),
        ended: params.ended,
        most: params.most,
      });
      return { tasks: latestThatFit(rows.map((row) => viewOf(row, tasksAhead(store, row)))) };
    }),
    route('task.cancel', async ({ params }) => ({ task: viewOf(await onCancel(deps, params.task)) })),
    route('task.retry', async ({ params }) => {
      const { row, repeated: again } = await onRetry(deps, params.task, params.id);
      return { task: viewOf(row, tasksAhead(store, row)), repeated: again };
    }),
    route('queue.move', async ({ params }) => {
      const row = await onMove(deps, params.task, params.position);
      return { task: viewOf(row, tasksAhead(store, row)) };
    }),
  ];
};

const cloneNamed = (store: Store, zone: string | undefined, name: string): number => {
  const [role = '', index = ''] = name.split('.');
  const row = store.get<{ id: number }>(
    'SELECT id FROM clones WHERE zone = ? AND role = ? AND idx = ?',
    ...[zone ?? '', role, Number(index)],
  );
  if (!row) throw new KhloneError('not-found', `no clone ${name} in this zone`, 'khlone crew');
  return row.id;
};
