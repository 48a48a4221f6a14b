import type { AnswerOf, CloneView, Params, ZoneView } from '../../protocol/calls.ts';
import { KhloneError } from '../../protocol/error.ts';
import { faultPoint } from '../../protocol/fault-point.ts';
import type { Hall } from '../hall.ts';
import { logoutNote } from '../logout.ts';
import { isRunning } from '../queue.ts';
import { paneOf } from '../run.ts';
import { forgetGitDirs } from '../store/git-dirs.ts';
import type { Store, Tx } from '../store/store.ts';
import { advance, glance, liveTasks, type TaskRow, tasksOf, viewOf, waitingTasks } from '../store/tasks.ts';
import {
  type CloneRow,
  cloneByName,
  cloneRow,
  crewRows,
  findOrMakeZone,
  type ZoneRow,
  zoneRow,
  zoneRows,
} from '../store/zones.ts';
import { route } from './route.ts';
import { cloneFor, type TaskDeps } from './task-add.ts';

/** Calls about zones and their crews. */

export type ZoneDeps = TaskDeps & {
  /** Removes what khlone made for a zone; the path of what was saved first, if anything was. */
  removeZone(zone: ZoneRow, force: boolean): Promise<string | undefined>;
  /** Takes away the window of a clone that is gone, in its own time. */
  forgetPane(clone: string): void;
};

const noteOf = (held: TaskRow | undefined, zone: ZoneRow): string | undefined => {
  if (zone.state === 'preparing') return 'preparing zone';
  if (zone.state === 'halted') return 'halted';
  if (zone.paused) return 'queue paused';
  return held ? (held.message ?? held.hold ?? 'held').slice(0, 2_000) : undefined;
};

export const cloneView = (store: Store, clone: CloneRow, zone: ZoneRow): CloneView => {
  const { head, held, count } = glance(store, clone);
  const running = head && isRunning(head.state) ? head : undefined;
  const note = noteOf(held, zone);
  return {
    name: `${clone.role}.${clone.idx}`,
    role: clone.role,
    brain: clone.brain,
    state: running ? 'active' : head?.state === 'held' ? 'waiting' : 'idle',
    ...(clone.hero === 1 && { hero: true }),
    ...(head && { task: head.id, title: head.title }),
    ...(running &&
      clone.plan_total !== null && { progress: { done: clone.plan_done ?? 0, total: clone.plan_total } }),
    queued: count - (running ? 1 : 0),
    ...(note && { note }),
  };
};

/** What waits for a person: tasks of unknown outcome, and those held for a login or a missing brain. */
const attentionOf = (store: Store, zone: string): TaskRow[] =>
  [
    ...waitingTasks(store, zone, 'unknown'),
    ...waitingTasks(store, zone, 'held').filter((t) => t.hold !== 'rate'),
  ].slice(0, 100);

export const zoneView = (store: Store, zone: ZoneRow): ZoneView => {
  const head = store.head(zone.id) ?? { epoch: zone.epoch, seq: zone.seq };
  return {
    id: zone.id,
    address: zone.address,
    branch: zone.branch,
    mode: zone.mode,
    path: zone.path,
    state: zone.state,
    epoch: head.epoch,
    seq: head.seq,
    paused: zone.paused === 1,
    crew: crewRows(store, zone.id).map((clone) => cloneView(store, clone, zone)),
    attention: attentionOf(store, zone.id).map((row) => viewOf(row)),
    costUsd: zone.cost_usd,
    tokens: zone.tokens,
  };
};

const needZone = (store: Store, id: string): ZoneRow => {
  const zone = zoneRow(store, id);
  if (!zone)
    throw new KhloneError('not-found', 'that zone is not known on its machine', 'khlone init makes it');
  return zone;
};

const wakeCrew = (hall: Hall, zone: string): void => {
  for (const clone of crewRows(hall.store, zone)) hall.wake(clone.id);
};

/** Lets every task go on that waited for one of these reasons. */
export const release = async (hall: Hall, zone: string, holds: readonly string[]): Promise<void> => {
  const { store } = hall;
  const held = waitingTasks(store, zone, 'held').filter((t) => holds.includes(t.hold ?? ''));
  if (held.length > 0) {
    await store.write((tx) => {
      for (const task of held) advance(store, tx, task.id, { type: 'wake' }, Date.now());
    });
  }
  wakeCrew(hall, zone);
};

/** Finds or makes the zone; a halted one goes on. */
const onOpen = async (deps: ZoneDeps, params: Params<'zone.open'>): Promise<AnswerOf<'zone.open'>> => {
  const { store } = deps.hall;
  const spec = { ...params.zone, path: deps.expandPath(params.zone.path) };
  const { zone, made } = await store.write(() => {
    const found = findOrMakeZone(store, deps.zonesDir, spec, params.policy, Date.now());
    if (found.zone.state === 'halted') store.run("UPDATE zones SET state = 'ready' WHERE id = ?", spec.id);
    return found;
  });
  const known = deps.hall.environmentOf(zone.id) !== undefined;
  if (known) await release(deps.hall, zone.id, ['brain-missing', 'brain-auth', 'halted', 'environment']);
  return {
    zone: zoneView(store, zoneRow(store, zone.id) ?? zone),
    made,
    needsEnvironment: !known,
    needsCode: zone.state === 'preparing',
    notes: made ? await logoutNote(process.env) : [],
  };
};

const onEnvironment = async (deps: ZoneDeps, params: Params<'zone.environment'>) => {
  const known = deps.hall.environmentOf(params.zone) !== undefined;
  if (known && !params.refresh) return { taken: false };
  deps.hall.setEnvironment(params.zone, params.environment);
  if (zoneRow(deps.hall.store, params.zone)) {
    await release(deps.hall, params.zone, ['environment', 'brain-missing', 'brain-auth']);
  }
  return { taken: true };
};

/** Cancels what the clones have, within the caller's transaction. */
const cancelAll = (store: Store, tx: Tx, clones: readonly CloneRow[], running: boolean): void => {
  for (const clone of clones) {
    for (const task of liveTasks(store, clone.id)) {
      if (!running || isRunning(task.state)) advance(store, tx, task.id, { type: 'cancel' }, Date.now());
    }
  }
};

/** Clones that never ran have no window. */
const forgetPanes = (deps: ZoneDeps, clones: readonly CloneRow[]): void => {
  for (const clone of clones) if (clone.runs > 0) deps.forgetPane(paneOf(clone));
};

/** Ends loops and runs; then what was being cancelled is proved gone. */
const endRuns = async ({ hall }: ZoneDeps, clones: readonly CloneRow[], message: string): Promise<void> => {
  await Promise.all(clones.map((clone) => hall.dismiss(clone.id)));
  await hall.store.write((tx) => {
    for (const clone of clones) {
      for (const task of liveTasks(hall.store, clone.id)) {
        if (task.state !== 'cancelling') continue;
        advance(hall.store, tx, task.id, { type: 'died', how: 'killed', message }, Date.now());
      }
    }
  });
};

const onHalt = async (deps: ZoneDeps, id: string): Promise<{ ended: number }> => {
  const { store } = deps.hall;
  needZone(store, id);
  const crew = crewRows(store, id);
  await store.write((tx) => {
    store.run("UPDATE zones SET state = 'halted' WHERE id = ? AND state = 'ready'", id);
    cancelAll(store, tx, crew, true);
  });
  await endRuns(deps, crew, 'the zone was halted');
  return { ended: crew.length };
};

/** Nothing is dispatched any more while a zone is being deleted; where it cannot be, it goes on as it was. */
export const deleteZone = async (
  deps: ZoneDeps,
  id: string,
  force: boolean,
): Promise<AnswerOf<'zone.del'>> => {
  const { store } = deps.hall;
  const zone = zoneRow(store, id);
  if (!zone) return { deleted: false };
  await store.write((tx) => {
    const live = tasksOf(store, { zone: id, ended: false, most: 1000 });
    if (live.length > 0 && !force) {
      throw new KhloneError(
        'conflict',
        `${zone.address} has ${live.length} ${live.length === 1 ? 'task' : 'tasks'} that did not end`,
        'khlone queue, or khlone zone del --force',
      );
    }
    store.run("UPDATE zones SET state = 'halted' WHERE id = ?", id);
    cancelAll(store, tx, crewRows(store, id), false);
  });
  const setState = (state: ZoneRow['state']) =>
    store.write(() => store.run('UPDATE zones SET state = ? WHERE id = ?', state, id));
  let kept: string | undefined;
  try {
    faultPoint('zone-halted');
    await endRuns(deps, crewRows(store, id), 'the zone was deleted');
    kept = await deps.removeZone(zone, force);
  } catch (thrown) {
    await setState(zone.state);
    throw thrown;
  }
  faultPoint('zone-removed');
  const crew = crewRows(store, id);
  await store.write((tx) => {
    // What was queued while the zone went away goes with it.
    cancelAll(store, tx, crewRows(store, id), false);
    store.run('UPDATE clones SET gone_ms = ? WHERE zone = ? AND gone_ms IS NULL', Date.now(), id);
    store.run('UPDATE zones SET deleted_ms = ? WHERE id = ?', Date.now(), id);
    // Whoever watches it hears so, and watches nothing from here on.
    tx.emit(id, { atMs: Date.now(), event: { type: 'note', text: 'the zone was deleted' } });
    forgetGitDirs(store, id);
  });
  await endRuns(deps, crew, 'the zone was deleted');
  forgetPanes(deps, crew);
  deps.hall.forgetEnvironment(id);
  return { deleted: true, ...(kept && { kept }) };
};

/** A clone leaves the crew in the commit that cancels its tasks: what is sent meanwhile goes to another one. */
const onCrewDelete = async (deps: ZoneDeps, params: Params<'crew.del'>): Promise<{ deleted: string[] }> => {
  const { store } = deps.hall;
  const leave = (tx: Tx): CloneRow[] => {
    const clones = params.clones.map((name) => cloneToDelete(store, params.zone, name, params.force));
    cancelAll(store, tx, clones, false);
    for (const { id } of clones) store.run('UPDATE clones SET gone_ms = ? WHERE id = ?', Date.now(), id);
    return clones;
  };
  const clones = await store.write(leave);
  faultPoint('clone-left');
  await endRuns(deps, clones, 'its clone was deleted');
  forgetPanes(deps, clones);
  return { deleted: clones.map((c) => `${c.role}.${c.idx}`) };
};

const cloneToDelete = (store: Store, zone: string, name: string, force: boolean): CloneRow => {
  const [role = '', index = ''] = name.split('.');
  const row = cloneByName(store, zone, role, Number(index));
  if (!row) throw new KhloneError('not-found', `no clone ${name} in this zone`, 'khlone crew');
  if (row.live > 0 && !force) {
    throw new KhloneError(
      'conflict',
      `${name} has ${row.live} ${row.live === 1 ? 'task' : 'tasks'}`,
      `khlone crew del ${name} --force cancels them`,
    );
  }
  return row;
};

const onCrewAdd = async (deps: ZoneDeps, params: Params<'crew.add'>): Promise<AnswerOf<'crew.add'>> => {
  const { store } = deps.hall;
  const { policy } = params;
  const who = `${params.role}${params.brain ? `@${params.brain}` : ''}++`;
  const spec = { ...params.zone, path: deps.expandPath(params.zone.path) };
  const fallback = await deps.fallbackBrain(params.zone.id, policy, who);
  const { zone, clone } = await store.write(() => {
    const found = findOrMakeZone(store, deps.zonesDir, spec, policy, Date.now());
    const { id } = cloneFor(store, found.zone, policy, who, fallback).clone;
    const row = cloneRow(store, id);
    if (!row) throw new KhloneError('internal', `no row for clone ${id}`);
    return { ...found, clone: row };
  });
  return { clone: cloneView(store, clone, zone) };
};

export const zoneRoutes = (deps: ZoneDeps) => {
  const { store } = deps.hall;
  return [
    route('zone.open', ({ params }) => onOpen(deps, params)),
    route('zone.environment', ({ params }) => onEnvironment(deps, params)),
    route('zone.list', () => ({ zones: zoneRows(store).map((zone) => zoneView(store, zone)) })),
    route('zone.get', ({ params }) => {
      const zone = zoneRow(store, params.zone);
      return zone ? { zone: zoneView(store, zone) } : {};
    }),
    route('zone.halt', ({ params }) => onHalt(deps, params.zone)),
    route('zone.del', ({ params }) => deleteZone(deps, params.zone, params.force)),
    route('queue.pause', async ({ params }) => {
      needZone(store, params.zone);
      await store.write(() =>
        store.run('UPDATE zones SET paused = ? WHERE id = ?', params.paused ? 1 : 0, params.zone),
      );
      wakeCrew(deps.hall, params.zone);
      return { paused: params.paused };
    }),
    route('crew.add', ({ params }) => onCrewAdd(deps, params)),
    route('crew.del', ({ params }) => onCrewDelete(deps, params)),
  ];
};
