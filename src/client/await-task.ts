import { ENDED, Gap, Item, type TaskView } from '../protocol/calls.ts';
import { asKhloneError, ERRORS, type ErrorCode, KhloneError } from '../protocol/error.ts';
import type { App } from './app.ts';
import type { Binding } from './bindings.ts';
import { callServer } from './call.ts';
import { type Caller, interrupted, styleOf } from './caller.ts';
import { lenderOf } from './dispatch.ts';
import type { Connected } from './link/link.ts';
import { createProgress } from './render/progress.ts';
import { mark } from './render/receipt.ts';
import { oneLine, sanitize } from './terminal/sanitize.ts';

/** Waiting for a task from its journal: a drop only pauses it, Ctrl-C only ends the waiting. */

export type AwaitWish = {
  task: string;
  /** The answer on stdout. */
  answer: boolean;
  /** Every event as a line on stderr. */
  progress: boolean;
  timeoutMs: number | undefined;
  json: boolean;
  quiet: boolean;
  clone?: string;
};

const RETRY_MS = 1_000;
const ANSWER_MAX_BYTES = 16 * 1024 * 1024;

type End = { task: TaskView; text: string };

/** A task that waits for a person's login or brain would hold a script for ever: it is told instead, and stays queued. */
const needsPerson = (task: TaskView): boolean =>
  task.state === 'unknown' ||
  (task.state === 'held' && (task.hold === 'brain-auth' || task.hold === 'brain-missing'));

export const fetchTask = async (connected: Connected, task: string): Promise<End> => {
  const { answer, body } = await callServer(connected.peer, 'task.get', { task });
  const pieces: Uint8Array[] = [];
  let size = 0;
  for await (const piece of body ?? []) {
    size += piece.length;
    if (size > ANSWER_MAX_BYTES)
      throw new KhloneError('too-large', 'the answer is longer than 16 MB', 'khlone log');
    pieces.push(piece);
  }
  return { task: answer.task, text: Buffer.concat(pieces).toString('utf8') };
};

const exitOf = (task: TaskView): number => {
  if (task.state === 'done') return 0;
  if (task.state === 'cancelled') return 1;
  if (task.state === 'unknown') return 3;
  const code = task.hold ?? task.error ?? 'task-failed';
  return Object.hasOwn(ERRORS, code) ? ERRORS[code as ErrorCode].exit : 1;
};

const tokensOf = (task: TaskView): string => {
  if (!task.usage) return '';
  const { input, output, cacheRead, cacheWrite, costUsd } = task.usage;
  const tokens = (input + output + cacheRead + cacheWrite).toLocaleString('en-US');
  return ` (tokens: ${tokens}${costUsd === undefined ? '' : `, $${costUsd.toFixed(2)}`})`;
};

const follow = async (
  app: App,
  caller: Caller,
  binding: Binding,
  wish: AwaitWish,
  signal: AbortSignal,
  say: (line: string) => void,
): Promise<End> => {
  const progress = createProgress(caller, wish);
  let seen: { epoch: string; seq: number } | 'start' = 'start';
  let told = false;
  for (;;) {
    try {
      const link = app.link(binding.host);
      const connected = link.current() ?? (await link.connect(lenderOf(caller)));
      if (told) say(`reconnected to ${binding.host}`);
      told = false;
      const first = await fetchTask(connected, wish.task);
      if (seen === 'start' && !wish.progress && (ENDED.has(first.task.state) || needsPerson(first.task)))
        return first;
      const sub = { zone: first.task.zone, task: first.task.id, from: seen, until: 'task' };
      for await (const raw of connected.peer.subscribe(sub, signal)) {
        const item = Item.safeParse(raw);
        if (!item.success) {
          if (Gap.safeParse(raw).success) say('some events are gone: they were pruned');
          continue;
        }
        seen = { epoch: item.data.epoch, seq: item.data.seq };
        progress(item.data);
        const { event } = item.data;
        if (event.type === 'task' && event.state === 'held') {
          const now = await fetchTask(connected, wish.task);
          if (needsPerson(now.task)) return now;
        }
      }
      const last = await fetchTask(connected, wish.task);
      if (ENDED.has(last.task.state) || needsPerson(last.task)) return last;
    } catch (thrown) {
      if (signal.aborted) throw thrown;
      const error = asKhloneError(thrown);
      if (error.code === 'not-found' && isWaiting(app, wish.task)) {
        // Still in the outbox: it reaches the server later.
      } else if (!['unreachable', 'timeout', 'shutting-down'].includes(error.code)) throw error;
      if (!told) say(`reconnecting to ${binding.host}: the task goes on there`);
      told = true;
      await pause(RETRY_MS, signal);
    }
  }
};

const isWaiting = (app: App, task: string): boolean => {
  const refused = app.outbox.refused().find((r) => r.id === task);
  if (refused) throw new KhloneError(codeOf(refused.code), refused.message, refused.hint);
  return app.outbox.list().some((q) => 'id' in q.entry.call.params && q.entry.call.params.id === task);
};

const codeOf = (code: string): ErrorCode =>
  Object.hasOwn(ERRORS, code) ? (code as ErrorCode) : 'task-failed';

const pause = (ms: number, signal: AbortSignal): Promise<void> =>
  new Promise((resolve, reject) => {
    const onAbort = (): void => {
      clearTimeout(timer);
      reject(interrupted());
    };
    const timer = setTimeout(() => {
      signal.removeEventListener('abort', onAbort);
      resolve();
    }, ms);
    signal.addEventListener('abort', onAbort);
    if (signal.aborted) onAbort();
  });

/** Waits, prints the answer on stdout where it was asked for, and answers the exit code of the table. */
export const awaitTask = async (
  app: App,
  caller: Caller,
  binding: Binding,
  wish: AwaitWish,
): Promise<number> => {
  const late = new AbortController();
  const timer = wish.timeoutMs === undefined ? undefined : setTimeout(() => late.abort(), wish.timeoutMs);
  const signal = AbortSignal.any([caller.signal, late.signal]);
  const name = (): string => (wish.clone ? oneLine(wish.clone, 60) : 'task');
  const say = (line: string): void => {
    if (!wish.quiet && !wish.json) caller.err(`[await] ${name()}: ${line}\n`);
  };
  try {
    if (!wish.progress) say('active…');
    const end = await follow(app, caller, binding, wish, signal, say);
    wish.clone = end.task.clone;
    return finish(caller, wish, end, say);
  } catch (thrown) {
    if (!late.signal.aborted) throw thrown;
    throw new KhloneError('timeout', `${wish.task} is not done yet; it goes on`, `khlone await ${wish.task}`);
  } finally {
    clearTimeout(timer);
  }
};

const finish = (
  caller: Caller,
  wish: AwaitWish,
  { task, text }: End,
  say: (line: string) => void,
): number => {
  const exit = exitOf(task);
  if (wish.json) {
    caller.out(`${JSON.stringify({ ...task, answer: text })}\n`);
    return exit;
  }
  // An answer for a person is made harmless; a pipe gets it too, because it ends in a terminal more often than not.
  if (wish.answer && text !== '') caller.out(text.endsWith('\n') ? sanitize(text) : `${sanitize(text)}\n`);
  if (exit === 0) {
    say(`done${tokensOf(task)}`);
    return 0;
  }
  const style = styleOf(caller, 'stderr');
  const what =
    task.state === 'unknown' ? `${mark(style, 'attention')} outcome unknown` : mark(style, 'failed');
  caller.err(`${what} ${oneLine(task.message ?? task.state, 2000)}\n`);
  if (task.hint) caller.err(`  ↳ ${oneLine(task.hint, 500)}\n`);
  return exit;
};
