import { existsSync } from 'node:fs';
import { join } from 'node:path';
import type { Brain } from '../brains/brain.ts';
import { findBrain } from '../brains/registry.ts';
import { faultPoint } from '../protocol/fault-point.ts';
import { isRunning, type TaskEvent } from './queue.ts';
import { endRun, judge, type LiveRun, liveRunOf, placeOf, type RunDeps } from './run.ts';
import { liveRuns, type RunRow, runRow } from './store/runs.ts';
import { advance, headTask, liveTasks, type TaskRow } from './store/tasks.ts';
import { anyClone, type CloneRow, policyOf, type ZoneRow, zoneRow } from './store/zones.ts';

/** What an earlier server left of a clone. Each run is judged by proof, and none is left that nobody follows. */

/** Undefined where the configuration no longer knows it. */
const brainOf = (clone: CloneRow, zone: ZoneRow): Brain | undefined => {
  try {
    return findBrain(clone.brain, policyOf(zone).brains).brain;
  } catch {
    return undefined;
  }
};

/** What a deleted clone left when the server died before it had ended everything. */
const bury = async (deps: RunDeps, clone: CloneRow): Promise<void> => {
  for (const row of liveRuns(deps.store, clone.id)) await endRun(deps, placeOf(deps, clone, row), 'now');
  await deps.store.write((tx) => {
    for (const task of liveTasks(deps.store, clone.id)) {
      advance(deps.store, tx, task.id, { type: 'cancel' }, Date.now());
      advance(deps.store, tx, task.id, { type: 'died', how: 'killed', message: 'cancelled' }, Date.now());
    }
  });
};

/** The run whose end a task waits for, else one that lives; every other one is ended for good. */
export const inheritRun = async (deps: RunDeps, id: number): Promise<LiveRun | undefined> => {
  faultPoint('recovering');
  const clone = anyClone(deps.store, id);
  const zone = clone && zoneRow(deps.store, clone.zone);
  if (!clone) return undefined;
  if (clone.gone_ms !== null || !zone) {
    await bury(deps, clone);
    return undefined;
  }
  const rows = liveRuns(deps.store, id);
  const head = headTask(deps.store, id);
  const isAwaited = (row: RunRow): boolean => !!head && isRunning(head.state) && head.run === row.n;
  const isAlive = (row: RunRow): boolean => judge(deps, placeOf(deps, clone, row)).type === 'alive';
  const kept = rows.find(isAwaited) ?? rows.find(isAlive);
  for (const row of rows) if (row !== kept) await endRun(deps, placeOf(deps, clone, row), 'now');
  faultPoint('adopted');
  const brain = brainOf(clone, zone);
  return kept && brain && liveRunOf(deps, clone, kept, brain);
};

/** The run of a task that was running, or what became of it where its output cannot be read any more. */
export const runOfTask = async (
  deps: RunDeps,
  task: TaskRow,
  clone: CloneRow,
  zone: ZoneRow,
): Promise<LiveRun | TaskEvent> => {
  const row = task.run === null ? undefined : runRow(deps.store, clone.id, task.run);
  if (!row) return { type: 'died', how: 'exit', message: 'the run was never started' };
  const place = placeOf(deps, clone, row);
  const brain = brainOf(clone, zone);
  const isWhole = ['in.jsonl', 'out.jsonl'].every((name) => existsSync(join(place.dir, name)));
  if (brain && isWhole) return liveRunOf(deps, clone, row, brain);
  await endRun(deps, place, 'now');
  const message = brain ? 'the files of its run are gone' : `${clone.brain} is no brain that is known here`;
  // As after a reboot: nothing tells what it did.
  return { type: 'died', how: 'reboot', message };
};
