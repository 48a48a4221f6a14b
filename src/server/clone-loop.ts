import { randomUUID } from 'node:crypto';
import { asKhloneError } from '../protocol/error.ts';
import { faultPoint } from '../protocol/fault-point.ts';
import { inheritRun, runOfTask } from './inherit.ts';
import { dueTask, type Job, type NextDeps, nextStep } from './next-task.ts';
import type { TakePlace } from './places.ts';
import { type PrepareDeps, prepare, type Ready } from './prepare.ts';
import { isRunning, type TaskEvent } from './queue.ts';
import { endRun, judge, type LiveRun, type RunDeps, repairInput, startRun, suits } from './run.ts';
import { writeInput } from './run-dir.ts';
import { noteInput } from './store/runs.ts';
import { advance, headTask, promptOf, type TaskRow, taskRow } from './store/tasks.ts';
import { endOfLines } from './tail.ts';
import { beginAttempt, endAttempt, limitOf } from './time-limit.ts';
import { followTurn, type TurnControl } from './turn.ts';
import { keepWitness, violationOf, witnessed } from './witness.ts';

/** The life of one clone: takes its head task, brings it to its brain, follows the turn, and begins again. */

export type LoopDeps = RunDeps &
  PrepareDeps &
  NextDeps & {
    takePlace: TakePlace;
    log(line: string): void;
  };

export type CloneLoop = {
  /** Something changed: look at the queue again, or at the running turn. */
  wake(): void;
  /**
   * Ends the loop. `keep`: the run goes on without us, for the next server to find. `gracefully`: a running turn may
   * take a moment to end by itself. `now`: a running turn is ended at once.
   */
  stop(how: 'keep' | 'gracefully' | 'now'): Promise<void>;
};

/** What the loop of one clone holds between its steps. */
type Worker = {
  deps: LoopDeps;
  id: number;
  run: LiveRun | undefined;
  stopped: boolean;
  /** Faults since something was dispatched. */
  faults: number;
  /** Aborts when the loop is to end: whatever waits for a place gives up. */
  stopping: AbortController;
  nudger: AbortController;
};

const RETRY_AFTER_FAULT_MS = 2_000;
/** A fault may pass at once (tmux died and comes back), or stay: each try after it waits twice as long, up to this. */
const HOLD_AFTER_FAULT_MS = { first: 500, most: 30_000 };

const wakeUp = (worker: Worker): void => {
  const before = worker.nudger;
  worker.nudger = new AbortController();
  // With a reason of ours: without one each abort makes an error with its stack.
  before.abort('woken');
};

const wait = (nudge: AbortSignal, ms: number): Promise<void> =>
  new Promise((resolve) => {
    if (nudge.aborted) return resolve();
    const done = (): void => {
      clearTimeout(timer);
      nudge.removeEventListener('abort', done);
      resolve();
    };
    const timer = setTimeout(done, Math.min(ms, 2 ** 31 - 1));
    timer.unref();
    nudge.addEventListener('abort', done);
  });

const move = ({ deps }: Worker, task: TaskRow, event: TaskEvent): Promise<TaskRow> =>
  deps.store.write((tx) => advance(deps.store, tx, task.id, event, Date.now()));

/** The clone's live run if it fits; else the old one is ended and a new one resumes the session. */
const runFor = async (worker: Worker, task: TaskRow, ready: Ready): Promise<LiveRun> => {
  const { deps } = worker;
  const wish = { ...ready, mode: task.kind, session: task.session };
  if (worker.run) {
    if (suits(deps, worker.run, wish)) return worker.run;
    await endRun(deps, worker.run, 'gracefully');
    worker.run = undefined;
  }
  worker.run = await startRun(deps, wish);
  return worker.run;
};

/** State and input are committed first, then the input is written: a crash in between repeats the same write. */
const dispatch = async (worker: Worker, task: TaskRow, ready: Ready): Promise<void> => {
  const { store } = worker.deps;
  // A script is not told what changed, so its worktree is not looked at; an ask without a view is held against it.
  const unguarded = task.kind === 'ask' && !ready.view;
  const looks = unguarded || ready.brain.name !== 'sh';
  const [run, before] = await Promise.all([
    runFor(worker, task, ready),
    looks ? witnessed(worker.deps, ready.zone) : undefined,
  ]);
  // What the process said since its last turn belongs to no task.
  run.row.out_offset = await endOfLines(run.dir, 'out.jsonl', run.row.out_offset);
  // A process passes over a turn that it has seen: one that ended there before (no login, too many calls) is a new one.
  const uuid = task.run === run.row.n ? randomUUID() : task.uuid;
  const bytes = run.brain.say({ uuid, text: promptOf(store, task.id), mode: task.kind });
  const offset = await store.write((tx) => {
    const moved = advance(store, tx, task.id, { type: 'dispatch' }, Date.now());
    // A cancel may have come first: then nothing may be said.
    if (moved.state !== 'dispatching') return undefined;
    store.run('UPDATE tasks SET run = ?, uuid = ? WHERE id = ?', run.row.n, uuid, task.id);
    beginAttempt(store, task.id, Date.now());
    if (before) keepWitness(store, task.id, before);
    store.run(
      'UPDATE runs SET out_offset = ? WHERE clone = ? AND n = ?',
      ...[run.row.out_offset, run.row.clone, run.row.n],
    );
    return noteInput(store, run.row, bytes);
  });
  if (offset === undefined) return;
  faultPoint('input-noted');
  writeInput(run.dir, offset, bytes);
  faultPoint('input-written');
  worker.faults = 0;
  const verify = unguarded && before ? () => violationOf(worker.deps, ready.zone, run, before) : undefined;
  await follow(worker, task, run, verify);
};

const follow = async (
  worker: Worker,
  task: TaskRow,
  run: LiveRun,
  verify?: TurnControl['verify'],
): Promise<void> => {
  const { deps } = worker;
  const current = taskRow(deps.store, task.id) ?? task;
  const result = await followTurn(deps, run, current, {
    cancelled: () => taskRow(deps.store, task.id)?.state === 'cancelling',
    stopped: () => worker.stopped,
    timeIsOver: limitOf(deps.store, current),
    verify,
    nudge: () => worker.nudger.signal,
  });
  if (result === 'stopped') return;
  await endAttempt(deps.store, task.id, Date.now());
  if (result === 'ended' && judge(deps, run).type === 'alive') return;
  if (result === 'ended') await endRun(deps, run, 'now');
  worker.run = undefined;
};

/** A task that was running when the last server ended: its run is judged by proof, and followed to its end. */
const takeUp = async (worker: Worker, { task, clone, zone }: Job): Promise<void> => {
  const { deps } = worker;
  const found = await runOfTask(deps, task, clone, zone);
  if ('type' in found) {
    worker.run = undefined;
    await move(worker, task, found);
    return;
  }
  if (worker.run?.row.n !== found.row.n) worker.run = found;
  if (judge(deps, worker.run).type !== 'ended') repairInput(deps, worker.run);
  await follow(worker, task, worker.run);
};

/** One task from its beginning to its end. The queue is looked at again once there is a place: that may take long. */
const perform = async (worker: Worker, job: Job): Promise<void> => {
  if (isRunning(job.task.state)) return takeUp(worker, job);
  const giveBack = await worker.deps.takePlace(worker.stopping.signal);
  if (!giveBack) return;
  try {
    const step = nextStep(worker.deps, worker.id);
    if (worker.stopped || !('task' in step) || isRunning(step.task.state)) return;
    const ready = await prepare(worker.deps, step.task, step.zone, step.clone);
    if ('type' in ready) await move(worker, step.task, ready);
    else if (!worker.stopped) await dispatch(worker, step.task, ready);
  } finally {
    giveBack();
  }
};

const wakeHeld = async (worker: Worker): Promise<void> => {
  const held = dueTask(worker.deps, worker.id);
  if (held) await move(worker, held, { type: 'wake' });
};

const live = async (worker: Worker): Promise<void> => {
  worker.run ??= await inheritRun(worker.deps, worker.id);
  while (!worker.stopped) {
    const nudge = worker.nudger.signal;
    const step = nextStep(worker.deps, worker.id);
    if ('task' in step) {
      await perform(worker, step);
      continue;
    }
    await wait(nudge, step.waitMs);
    await wakeHeld(worker);
    if (nudge.aborted || worker.stopped || !worker.run || step.waitMs !== worker.deps.idleMs) continue;
    await endRun(worker.deps, worker.run, 'gracefully');
    worker.run = undefined;
  }
};

/** The head task waits with the reason of a fault, and is tried again later: it is neither lost nor spun on. */
const holdHead = async (worker: Worker, thrown: unknown): Promise<void> => {
  const error = asKhloneError(thrown);
  worker.deps.log(`clone ${worker.id}: ${error.code} ${error.message}`);
  const head = headTask(worker.deps.store, worker.id);
  if (head?.state !== 'queued') return;
  await move(worker, head, {
    type: 'hold',
    hold: error.code === 'tmux-failed' ? 'tmux' : 'start',
    message: error.message,
    hint: error.hint ?? 'khlone doctor',
    wakeAtMs: Date.now() + Math.min(HOLD_AFTER_FAULT_MS.most, HOLD_AFTER_FAULT_MS.first * 2 ** worker.faults),
  });
};

const guarded = async (worker: Worker): Promise<void> => {
  while (!worker.stopped) {
    try {
      await live(worker);
    } catch (thrown) {
      worker.faults += 1;
      await holdHead(worker, thrown).catch(() =>
        worker.deps.log(`clone ${worker.id}: its task could not be held`),
      );
      await wait(worker.nudger.signal, RETRY_AFTER_FAULT_MS);
    }
  }
};

export const startCloneLoop = (deps: LoopDeps, id: number): CloneLoop => {
  const stopping = new AbortController();
  const worker: Worker = {
    ...{ deps, id, run: undefined, stopped: false, faults: 0, stopping, nudger: new AbortController() },
  };
  const running = guarded(worker);
  return {
    wake: () => wakeUp(worker),
    stop: async (how) => {
      worker.stopped = true;
      stopping.abort();
      wakeUp(worker);
      await running;
      if (how === 'keep' || !worker.run) return;
      const head = headTask(deps.store, id);
      const busy = head !== undefined && isRunning(head.state);
      await endRun(deps, worker.run, how === 'now' && busy ? 'now' : 'gracefully');
    },
  };
};
