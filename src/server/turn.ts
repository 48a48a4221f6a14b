import type { BrainEvent, TurnEnd } from '../protocol/event.ts';
import { faultPoint } from '../protocol/fault-point.ts';
import { fitEvent } from './fit-event.ts';
import { LONGEST_HOLD_MS } from './next-task.ts';
import type { TaskEvent } from './queue.ts';
import { endRun, isFed, judge, type LiveRun, type RunDeps } from './run.ts';
import { errTail, signalRun, writeInput } from './run-dir.ts';
import { dropInputs, forgetBrainSession, keepBrainSession, noteInput } from './store/runs.ts';
import type { Store, Tx } from './store/store.ts';
import { advance, type TaskRow, taskRow } from './store/tasks.ts';
import { openTail, type Tail } from './tail.ts';

/**
 * One attempt of a task: the lines that a brain writes from the committed offset on become events, and events move the
 * task. Offset, events and state are committed together, so a server that dies here goes on where it was.
 */

/** What may come from outside while a turn runs. */
export type TurnControl = {
  cancelled(): boolean;
  stopped(): boolean;
  timeIsOver(): boolean;
  /** Looks at the worktree before a turn is told as done: what it answers takes the place of that end. */
  verify: (() => Promise<TaskEvent | undefined>) | undefined;
  /** A signal that aborts at the next change of the above: waits end at once. */
  nudge(): AbortSignal;
};

/** An answer over this is cut in the store; the run's own output keeps all. */
const ANSWER_MAX_CHARS = 4 * 1024 * 1024;
const INTERRUPT_GRACE_MS = 10_000;
const TERM_GRACE_MS = 5_000;
/** A brain that said nothing of its turn and whose input was cut off will not hear of it: it is ended after this. */
const DEAF_MS = 10_000;
/** What one turn may print: a brain that prints without end would fill the disk. */
const TURN_OUTPUT_MAX_BYTES = 512 * 1024 * 1024;

const TIME_PASSED: TaskEvent = {
  ...{ type: 'failed', error: 'timeout', message: 'the limit of the task passed', hint: 'khlone retry TASK' },
};
const OUTPUT_PASSED: TaskEvent = {
  ...{ type: 'failed', error: 'too-large', message: 'the brain printed more than 512 MB in one turn' },
  hint: 'khlone log --task TASK',
};

const FAULT_CODES = {
  auth: 'brain-auth',
  model: 'task-failed',
  rate: 'rate-limited',
  overload: 'task-failed',
  network: 'task-failed',
  session: 'task-failed',
  limit: 'timeout',
  other: 'task-failed',
} as const;

const faultHint = (kind: keyof typeof FAULT_CODES, brain: string): string => {
  if (kind === 'auth') return `khlone login ${brain}, then khlone retry TASK`;
  if (kind === 'model') return 'name another model in khlone.yml (crew.brains), then khlone retry TASK';
  return 'khlone retry TASK';
};

/** The end of a turn as an event of the task. An auth or rate fault before any effect lets the task wait instead. */
const eventOfEnd = (end: TurnEnd, task: TaskRow, run: LiveRun, limit: TaskEvent | undefined): TaskEvent => {
  if (limit && end.reason !== 'done') return limit;
  if (end.reason === 'done') {
    const refused = [...new Set(end.denials ?? [])].join(', ');
    return refused ? { type: 'done', message: `not permitted: ${refused}` } : { type: 'done' };
  }
  if (end.reason === 'interrupted') return { type: 'interrupted' };
  if (end.reason === 'killed') return { type: 'died', how: 'killed', message: 'the brain was killed' };
  if (end.reason === 'denied') {
    return {
      type: 'failed',
      error: 'denied',
      message: `not permitted: ${(end.denials ?? []).join(', ') || 'every tool it needed'}`,
      hint: task.kind === 'ask' ? 'an ask may not change anything: khlone act' : 'khlone retry TASK',
    };
  }
  const kind = end.fault?.kind ?? 'other';
  const message = end.fault?.message ?? 'the brain reported an error';
  const name = run.brain.name;
  if (kind === 'session') return { type: 'died', how: 'exit', message };
  if (kind === 'auth' && task.effect === 0) {
    return { type: 'hold', hold: 'brain-auth', message, hint: faultHint('auth', name) };
  }
  if (kind === 'rate' && task.effect === 0 && task.attempt < 3) {
    return { type: 'hold', hold: 'rate', message, wakeAtMs: Date.now() + LONGEST_HOLD_MS };
  }
  return { type: 'failed', error: FAULT_CODES[kind], message, hint: faultHint(kind, name) };
};

const deathMessage = (run: LiveRun, how: 'exit' | 'killed' | 'reboot', code?: number): string => {
  if (how === 'reboot') return 'the machine restarted in the middle of the turn';
  if (how === 'killed') return `${run.brain.name} was killed in the middle of the turn`;
  const said = errTail(run.dir, 600);
  return `${run.brain.name} ended with exit code ${code} in the middle of the turn${said ? `: ${said}` : ''}`;
};

type Applied = { ended: boolean };

/** Applies events in one transaction: journal, session, plan, usage and the task's state. */
const apply = (
  store: Store,
  tx: Tx,
  run: LiveRun,
  taskId: string,
  events: BrainEvent[],
  limit: TaskEvent | undefined,
  violation: TaskEvent | undefined,
): Applied => {
  const now = Date.now();
  let task = advance(store, tx, taskId, { type: 'started' }, now);
  let ended = false;
  for (const event of events) {
    if (ended && event.type !== 'usage') continue;
    const about = { task: task.id, clone: `${task.role}.${task.idx}`, session: task.session };
    for (const fitting of fitEvent(event)) tx.emit(task.zone, { atMs: now, ...about, event: fitting });
    if (event.type === 'session') keepBrainSession(store, task.session, task.clone, event.id);
    if (event.type === 'plan') {
      store.run(
        'UPDATE clones SET plan_done = ?, plan_total = ? WHERE id = ?',
        event.done,
        event.total,
        task.clone,
      );
    }
    if (event.type === 'tool.start' && task.effect === 0)
      task = advance(store, tx, taskId, { type: 'effect' }, now);
    if (event.type === 'usage') keepUsage(store, task, event.usage);
    if (event.type === 'turn.end') {
      ended = true;
      if (event.fault?.kind === 'session') forgetBrainSession(store, task.session, task.clone);
      store.run('UPDATE tasks SET answer = ? WHERE id = ?', event.text.slice(0, ANSWER_MAX_CHARS), task.id);
      task = advance(store, tx, taskId, violation ?? eventOfEnd(event, task, run, limit), now);
      store.run('UPDATE clones SET plan_done = NULL, plan_total = NULL WHERE id = ?', task.clone);
      dropInputs(store, run.row);
    }
  }
  return { ended };
};

const keepUsage = (
  store: Store,
  task: TaskRow,
  usage: Extract<BrainEvent, { type: 'usage' }>['usage'],
): void => {
  const before = store.get<{ usage: string | null }>('SELECT usage FROM tasks WHERE id = ?', task.id)?.usage;
  const old = before
    ? (JSON.parse(before) as typeof usage)
    : { input: 0, output: 0, cacheRead: 0, cacheWrite: 0 };
  const sum = {
    input: old.input + usage.input,
    output: old.output + usage.output,
    cacheRead: old.cacheRead + usage.cacheRead,
    cacheWrite: old.cacheWrite + usage.cacheWrite,
    ...((old.costUsd ?? usage.costUsd) !== undefined && {
      costUsd: (old.costUsd ?? 0) + (usage.costUsd ?? 0),
    }),
  };
  store.run('UPDATE tasks SET usage = ? WHERE id = ?', JSON.stringify(sum), task.id);
  store.run(
    'UPDATE zones SET cost_usd = cost_usd + ?, tokens = tokens + ? WHERE id = ?',
    ...[usage.costUsd ?? 0, usage.input + usage.output + usage.cacheRead + usage.cacheWrite, task.zone],
  );
};

/** Stops a turn step by step: the brain's own interrupt, TERM, KILL. Called at every look; each step is done once. */
const createInterrupter = (deps: RunDeps, run: LiveRun) => {
  let step = 0;
  let nextAt = 0;
  return async (): Promise<void> => {
    const now = performance.now();
    if (now < nextAt) return;
    step += 1;
    if (step === 1) {
      nextAt = now + INTERRUPT_GRACE_MS;
      const wish = run.brain.interrupt();
      if ('signal' in wish) signalRun(run.mark, wish.signal);
      else {
        const off = await deps.store.write(() => noteInput(deps.store, run.row, wish.bytes));
        faultPoint('interrupt-noted');
        writeInput(run.dir, off, wish.bytes);
      }
    } else {
      nextAt = now + TERM_GRACE_MS;
      signalRun(run.mark, step === 2 ? 'SIGTERM' : 'SIGKILL');
    }
  };
};

/** Whether a turn will not be heard of: nothing was, and its input is cut off. One that was heard of goes on without it. */
const createEar = (run: LiveRun): (() => boolean) => {
  const begun = run.row.out_offset;
  let fedMs = performance.now();
  return () => {
    if (run.row.out_offset > begun || isFed(run)) fedMs = performance.now();
    return performance.now() - fedMs > DEAF_MS;
  };
};

/** Reads to the end of a turn, or to the proved end of the run. The task has left its running state afterwards. */
export const followTurn = async (
  deps: RunDeps,
  run: LiveRun,
  task: TaskRow,
  control: TurnControl,
): Promise<'ended' | 'died' | 'stopped'> => {
  const { store } = deps;
  const tail = await openTail(run.dir, 'out.jsonl', run.row.out_offset);
  const read = run.brain.reader(task.uuid);
  const interrupt = createInterrupter(deps, run);
  const begun = run.row.out_offset;
  const isDeaf = createEar(run);
  const passed = (): TaskEvent | undefined => {
    if (control.timeIsOver()) return TIME_PASSED;
    return run.row.out_offset - begun > TURN_OUTPUT_MAX_BYTES ? OUTPUT_PASSED : undefined;
  };

  /** Undefined where the turn was cancelled or ran out of time and its processes are not proved gone yet. */
  const tryToTake = (
    events: BrainEvent[],
    end: number,
    swept: boolean,
    violation: TaskEvent | undefined,
  ): Promise<Applied | undefined> =>
    store.write((tx) => {
      const ends = !swept && events.some((event) => event.type === 'turn.end');
      if (ends && (passed() || taskRow(store, task.id)?.state === 'cancelling')) return undefined;
      store.run(
        'UPDATE runs SET out_offset = ? WHERE clone = ? AND n = ?',
        ...[end, run.row.clone, run.row.n],
      );
      return apply(store, tx, run, task.id, events, passed(), violation);
    });

  const take = async (chunk: { lines: string[]; end: number }): Promise<Applied> => {
    const events = chunk.lines.flatMap((line) => (line ? read(line) : []));
    const done = events.some((event) => event.type === 'turn.end' && event.reason === 'done');
    const violation = done ? await control.verify?.() : undefined;
    const begins = events.some((event) => event.type === 'tool.start');
    const ends = events.some((event) => event.type === 'turn.end');
    if (begins) faultPoint('effect-read');
    if (ends) faultPoint('end-read');
    let applied = await tryToTake(events, chunk.end, false, violation);
    if (begins) faultPoint('effect-committed');
    if (ends) faultPoint('end-committed');
    if (!applied) {
      await endRun(deps, run, 'now');
      applied = await tryToTake(events, chunk.end, true, violation);
    }
    // Only now: after a failed commit the same lines are read again.
    run.row.out_offset = chunk.end;
    return applied ?? { ended: false };
  };

  try {
    for (;;) {
      // Before the next lines are read: a brain that never falls silent is stopped all the same.
      const nudge = control.nudge();
      if (control.stopped()) return 'stopped';
      if (control.cancelled() || passed()) await interrupt();
      const chunk = await tail.read();
      if (chunk) {
        if ((await take(chunk)).ended) return 'ended';
        continue;
      }
      const verdict = judge(deps, run);
      if (verdict.type === 'ended') return await buryTurn(deps, run, task, tail, take, verdict, passed());
      if (isDeaf()) await endRun(deps, run, 'now');
      else await tail.changed(nudge);
    }
  } finally {
    await tail.close();
  }
};

/** The run ended: its leftovers are swept, its last lines read, and if they hold no end, the turn died. */
const buryTurn = async (
  deps: RunDeps,
  run: LiveRun,
  task: TaskRow,
  tail: Tail,
  take: (chunk: { lines: string[]; end: number }) => Promise<Applied>,
  verdict: { how: 'exit' | 'killed' | 'reboot'; code?: number },
  limit: TaskEvent | undefined,
): Promise<'ended' | 'died'> => {
  await endRun(deps, run, 'now');
  for (let chunk = await tail.read(); chunk; chunk = await tail.read()) {
    if ((await take(chunk)).ended) return 'ended';
  }
  const rest = await tail.rest();
  if (rest && (await take(rest)).ended) return 'ended';
  const message = deathMessage(run, verdict.how, verdict.code);
  faultPoint('turn-buried');
  const event: TaskEvent = limit ?? { type: 'died', how: verdict.how, message };
  await deps.store.write((tx) => advance(deps.store, tx, task.id, event, Date.now()));
  return 'died';
};
