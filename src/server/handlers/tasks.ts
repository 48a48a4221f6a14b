import { createHash, randomUUID } from 'node:crypto';
import { findBrain } from '../../brains/registry.ts';
import { parseWho } from '../../protocol/address.ts';
import type { AnswerOf, Params, Policy } from '../../protocol/calls.ts';
import { ENDED } from '../../protocol/calls.ts';
import { KhloneError } from '../../protocol/error.ts';
import { PROMPT_MAX_BYTES } from '../../protocol/limits.ts';
import { choose, cloneName } from '../crew.ts';
import type { Hall } from '../hall.ts';
import type { Store, Tx } from '../store/store.ts';
import {
  advance,
  insertTask,
  liveCount,
  liveTasks,
  type TaskRow,
  taskByPrefix,
  taskRow,
  tasksOf,
  viewOf,
} from '../store/tasks.ts';
import { type CloneRow, crewRows, enroll, findOrMakeZone, type ZoneRow, zoneRow } from '../store/zones.ts';
import { readBody, route } from './route.ts';

/** Calls about tasks. What a receipt promises is committed when these answer. */

export type TaskDeps = {
  hall: Hall;
  zonesDir: string;
  expandPath(path: string): string;
  /** One line on how acts and asks run on this host, told at a zone's first act. */
  viewNote(kind: 'ask' | 'act', policy: Policy): Promise<string | undefined>;
  /** Throws `disk-low` when nothing more may be accepted. */
  assertDisk(): void;
  /** The brain that an unnamed one means, looked for before any transaction: a probe takes its time. */
  fallbackBrain(zone: string, policy: Policy, who: string | undefined): Promise<string | undefined>;
};

const TITLE_CHARS = 200;

export const titleOf = (prompt: string): string => {
  const line = prompt.trim().split('\n')[0] ?? '';
  return line.length > TITLE_CHARS ? `${line.slice(0, TITLE_CHARS - 1)}…` : line;
};

const hashOf = (add: Params<'task.add'>, prompt: string): string =>
  createHash('sha256')
    .update(
      JSON.stringify([
        add.kind,
        prompt,
        add.zone.id,
        add.who ?? '',
        add.session,
        add.prioritize,
        add.limitMs ?? 0,
      ]),
    )
    .digest('hex');

type Member = CloneRow & { index: number; load: number };

/** The clone for a task: found or enrolled, within the zone's limits. */
export const cloneFor = (
  store: Store,
  zone: ZoneRow,
  policy: Policy,
  who: string | undefined,
  fallbackBrain: string | undefined,
): { clone: CloneRow; enrolled: boolean } => {
  const crew: Member[] = crewRows(store, zone.id).map((c) => ({
    ...c,
    index: c.idx,
    load: liveCount(store, c.id),
  }));
  const hero = crew.find((c) => c.hero === 1);
  const choice = choose(crew, hero, who === undefined ? undefined : parseWho(who), policy);
  if (choice.type === 'found') {
    const clone = crew.find((c) => c.role === choice.role && c.idx === choice.index);
    if (!clone) throw new KhloneError('internal', `no row for ${choice.role}.${choice.index}`);
    return { clone, enrolled: false };
  }
  if (crew.length >= policy.maxClones) {
    throw new KhloneError(
      'clone-limit',
      `this zone has ${crew.length} of at most ${policy.maxClones} clones`,
      'khlone crew del CLONE, or raise crew.limits.max_clones in khlone.yml',
    );
  }
  const brain = choice.brain ?? fallbackBrain;
  if (!brain) throw new KhloneError('brain-missing', 'no brain was named and none is ready', 'khlone doctor');
  findBrain(brain, policy.brains);
  const clone = enroll(
    store,
    { zone: zone.id, role: choice.role, brain, hero: !hero && isHeroWho(who) },
    Date.now(),
  );
  return { clone, enrolled: true };
};

/** The hero is who gets work when nobody is named; a clone that was named by its brain or role is not. */
const isHeroWho = (who: string | undefined): boolean => who === undefined || parseWho(who).role === 'clone';

const assertRoom = (store: Store, clone: CloneRow, policy: Policy): number => {
  const waiting = liveCount(store, clone.id);
  if (waiting < policy.maxQueue) return waiting;
  throw new KhloneError(
    'queue-full',
    `${cloneName({ role: clone.role, index: clone.idx })} has ${waiting} of at most ${policy.maxQueue} tasks`,
    'khlone queue, or raise crew.limits.max_queue in khlone.yml',
  );
};

/** The same id with the same body is the same task, however often it arrives; another body is refused. */
const repeated = (store: Store, add: Params<'task.add'>, hash: string): TaskRow | undefined => {
  const known = taskRow(store, add.id);
  if (known && known.hash !== hash) {
    throw new KhloneError('id-reused', `${add.id} was sent before with another body`, 'use a new nonce');
  }
  return known;
};

type Added = {
  row: TaskRow;
  zone: ZoneRow;
  enrolled: boolean;
  made: boolean;
  repeated: boolean;
  ahead: number;
};

const addTask = (
  deps: TaskDeps,
  tx: Tx,
  add: Params<'task.add'>,
  prompt: string,
  hash: string,
  brain: string | undefined,
): Added => {
  const { store } = deps.hall;
  const old = repeated(store, add, hash);
  const oldZone = old && zoneRow(store, old.zone);
  if (old && oldZone)
    return { row: old, zone: oldZone, enrolled: false, made: false, repeated: true, ahead: 0 };
  const now = Date.now();
  const spec = { ...add.zone, path: deps.expandPath(add.zone.path) };
  const { zone, made } = findOrMakeZone(store, deps.zonesDir, spec, add.policy, now);
  const { clone, enrolled } = cloneFor(store, zone, add.policy, add.who, brain);
  const ahead = assertRoom(store, clone, add.policy);
  const row = insertTask(
    store,
    tx,
    {
      id: add.id,
      hash,
      zone: zone.id,
      clone: clone.id,
      kind: add.kind,
      prompt,
      title: titleOf(prompt),
      session: add.session,
      prioritized: add.prioritize,
      limit_ms: add.limitMs ?? null,
      uuid: randomUUID(),
      repeatable: findBrain(clone.brain, add.policy.brains).brain.capabilities.replaysAsk,
      retry_of: null,
    },
    now,
  );
  return { row, zone, enrolled, made, repeated: false, ahead };
};

const onAdd = async (
  deps: TaskDeps,
  add: Params<'task.add'>,
  body: AsyncIterable<Uint8Array> | undefined,
): Promise<AnswerOf<'task.add'>> => {
  const { store } = deps.hall;
  const prompt = add.prompt ?? (body ? (await readBody(body, PROMPT_MAX_BYTES)).toString('utf8') : '');
  if (prompt.trim() === '') throw new KhloneError('usage', 'the task is empty', 'khlone act "what to do"');
  const hash = hashOf(add, prompt);
  if (!taskRow(store, add.id)) deps.assertDisk();
  const brain = await deps.fallbackBrain(add.zone.id, add.policy, add.who);
  const firstAct =
    store.get('SELECT 1 FROM tasks WHERE zone = ? AND kind = ? LIMIT 1', add.zone.id, add.kind) === undefined;
  const note = firstAct ? await deps.viewNote(add.kind, add.policy) : undefined;
  const added = await store.write((tx) => addTask(deps, tx, add, prompt, hash, brain));
  deps.hall.wake(added.row.clone);
  return {
    task: viewOf(added.row, added.ahead),
    enrolled: added.enrolled,
    zoneMade: added.made,
    repeated: added.repeated,
    needsEnvironment: deps.hall.environmentOf(added.zone.id) === undefined,
    needsCode: added.zone.state === 'preparing',
    notes: note && !added.repeated ? [note] : [],
  };
};

const onCancel = async (deps: TaskDeps, prefix: string): Promise<TaskRow> => {
  const { store } = deps.hall;
  const { id, clone } = taskByPrefix(store, prefix);
  const row = await store.write((tx) => advance(store, tx, id, { type: 'cancel' }, Date.now()));
  deps.hall.wake(clone);
  return row;
};

const RETRYABLE = new Set(['failed', 'cancelled', 'unknown', 'done']);

/** A held task is let go again; an ended or unknown one is dispatched anew, in its session, as a task of its own. */
const onRetry = async (
  deps: TaskDeps,
  prefix: string,
  id: string,
): Promise<{ row: TaskRow; repeated: boolean }> => {
  const { store } = deps.hall;
  const known = taskRow(store, id);
  if (known) return { row: known, repeated: true };
  const old = taskByPrefix(store, prefix);
  const row = await store.write((tx) => {
    const now = Date.now();
    const current = taskRow(store, old.id) ?? old;
    if (current.state === 'held') return advance(store, tx, old.id, { type: 'wake' }, now);
    if (!RETRYABLE.has(current.state)) {
      throw new KhloneError('conflict', `${old.id} is ${current.state}`, `khlone await ${old.id}`);
    }
    const unsure = current.state === 'unknown' || current.effect === 1;
    const prompt = unsure ? `${RESUME_NOTE}\n\n${current.prompt}` : current.prompt;
    const made = insertTask(
      store,
      tx,
      {
        ...{ id, hash: old.hash, zone: old.zone, clone: old.clone, kind: old.kind, session: old.session },
        ...{ prompt, title: old.title, limit_ms: old.limit_ms },
        ...{ uuid: randomUUID(), retry_of: old.id, prioritized: true, repeatable: old.repeatable === 1 },
      },
      now,
    );
    advance(store, tx, old.id, { type: 'retried', by: id }, now);
    return made;
  });
  deps.hall.wake(row.clone);
  return { row, repeated: false };
};

const RESUME_NOTE =
  '[khlone] An earlier attempt at this task ended in its middle, and its outcome is not known. First look at what is already done (git status, git diff), then finish what is missing.';

/** Puts a queued task at a place among those that wait: between its new neighbours, in their class. */
const onMove = async (deps: TaskDeps, prefix: string, position: number): Promise<TaskRow> => {
  const { store } = deps.hall;
  const { id } = taskByPrefix(store, prefix);
  return store.write(() => {
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
};

const positionOf = (store: Store, task: TaskRow): number =>
  ENDED.has(task.state)
    ? 0
    : Math.max(
        0,
        liveTasks(store, task.clone).findIndex((t) => t.id === task.id),
      );

async function* bytesOf(text: string): AsyncGenerator<Uint8Array> {
  yield Buffer.from(text);
}

export const taskRoutes = (deps: TaskDeps) => {
  const { store } = deps.hall;
  return [
    route('task.add', ({ params, body }) => onAdd(deps, params, body)),
    route('task.get', ({ params }) => {
      const row = taskByPrefix(store, params.task);
      const answer = { task: viewOf(row, positionOf(store, row)) };
      return row.answer === null ? answer : { answer, body: bytesOf(row.answer) };
    }),
    route('task.list', ({ params }) => {
      const clone = params.clone ? cloneNamed(store, params.zone, params.clone) : undefined;
      const rows = tasksOf(store, {
        ...(params.zone && { zone: params.zone }),
        ...(clone !== undefined && { clone }),
        ended: params.ended,
        most: params.most,
      });
      return { tasks: rows.map((row) => viewOf(row, positionOf(store, row))) };
    }),
    route('task.cancel', async ({ params }) => ({ task: viewOf(await onCancel(deps, params.task)) })),
    route('task.retry', async ({ params }) => {
      const { row, repeated: again } = await onRetry(deps, params.task, params.id);
      return { task: viewOf(row, positionOf(store, row)), repeated: again };
    }),
    route('queue.move', async ({ params }) => {
      const row = await onMove(deps, params.task, params.position);
      return { task: viewOf(row, positionOf(store, row)) };
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
