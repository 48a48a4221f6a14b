import { ENDED, Gap, Item, type TaskView } from '../protocol/calls.ts';
import { asKhloneError, ERRORS, type ErrorCode, KhloneError } from '../protocol/error.ts';
import { jsonLine, oneLine, sanitize } from '../protocol/sanitize.ts';
import type { App } from './app.ts';
import type { Binding } from './bindings.ts';
import { type Bookmark, readBookmark, writeBookmark } from './bookmark.ts';
import { callServer } from './call.ts';
import { type Caller, interrupted, type Style, styleOf } from './caller.ts';
import { lenderOf } from './dispatch.ts';
import { refusalOf } from './find-task.ts';
import { awaitConnection, waitMs } from './follow-journal.ts';
import type { Connected, Link } from './link/link.ts';
import { soonest } from './patience.ts';
import { dollars } from './render/money.ts';
import { createProgress } from './render/progress.ts';
import { mark } from './render/receipt.ts';
import { readUserConfig } from './user-config.ts';

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
  /** This command dispatched the task, and may find it done at its first look. */
  dispatched?: true;
  clone?: string;
};

const RETRY_MS = 1_000;
/** How long a dial may take before it is told that the host does not answer. */
const PATIENCE_MS = 500;
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
  return ` (tokens: ${tokens}${costUsd === undefined ? '' : `, ${dollars(costUsd)}`})`;
};

/** Says on stderr how it stands with the task, each state once: waiting is never passed off as work. */
const createNarrator = (say: (line: string) => void, last = '') => {
  const tell = (line: string): void => {
    if (line !== last) say(line);
    last = line;
  };
  return {
    tell,
    ofTask: (task: TaskView): void => {
      if (task.state === 'queued' && task.position) tell(`queued, ${task.position} before it…`);
      if (task.state === 'held') tell(`waits: ${oneLine(task.message ?? task.hold ?? 'held', 300)}`);
    },
    ofItem: ({ event }: Item): void => {
      if (event.type === 'task' && event.state === 'active') tell('active…');
    },
  };
};

type Wait = {
  app: App;
  caller: Caller;
  binding: Binding;
  wish: AwaitWish;
  signal: AbortSignal;
  narrator: ReturnType<typeof createNarrator>;
  progress: (item: Item) => void;
  /** The last item that was seen: where the next subscription begins. */
  seen: Bookmark['after'];
  /** The host went away, and this was told. */
  isLost: boolean;
};

const isOver = ({ task }: End): boolean => ENDED.has(task.state) || needsPerson(task);

/** Follows the task over one connection. Undefined: the stream ended before the task did. */
const followOnce = async (wait: Wait, connected: Connected): Promise<End | undefined> => {
  const { wish, narrator } = wait;
  const first = await fetchTask(connected, wish.task);
  wish.clone = first.task.clone;
  if (wait.seen === 'start' && !wish.progress && isOver(first)) {
    if (wish.dispatched) narrator.tell('active…');
    return first;
  }
  if (!wish.progress) narrator.ofTask(first.task);
  // The end of a task that is over may have been seen already: waiting for it would wait for ever.
  const until = isOver(first) ? 'now' : 'task';
  // Whoever waits only for the end needs none of the words before it.
  const types = wish.progress ? {} : { types: ['task'] };
  const sub = { zone: first.task.zone, task: first.task.id, ...types, from: wait.seen, until };
  for await (const raw of connected.peer.subscribe(sub, wait.signal)) {
    const item = Item.safeParse(raw);
    if (!item.success) {
      if (Gap.safeParse(raw).success) narrator.tell('some events are gone: they were pruned');
      continue;
    }
    wait.seen = { epoch: item.data.epoch, seq: item.data.seq };
    wait.progress(item.data);
    if (!wish.progress) narrator.ofItem(item.data);
    if (item.data.event.type !== 'task' || item.data.event.state !== 'held') continue;
    const now = await fetchTask(connected, wish.task);
    if (needsPerson(now.task)) return now;
    if (!wish.progress) narrator.ofTask(now.task);
  }
  const last = await fetchTask(connected, wish.task);
  return isOver(last) ? last : undefined;
};

/** What a waiting command says of a fault that time mends. Throws the others. */
const troubleOf = ({ app, binding, wish }: Wait, thrown: unknown): string => {
  const error = asKhloneError(thrown);
  const host = oneLine(binding.host, 100);
  if (isWaiting(app, wish.task)) return `queued here: it is sent when ${host} answers`;
  if (!['unreachable', 'timeout', 'shutting-down', 'start-failed'].includes(error.code)) throw error;
  // Of a task that was not seen there, nobody can say so.
  return `reconnecting to ${host}${wish.clone ? ': the task goes on there' : ''}`;
};

const tellLost = (wait: Wait, thrown: unknown): void => {
  wait.narrator.tell(troubleOf(wait, thrown));
  wait.isLost = true;
};

/** A dial takes as long as a login that does not begin: who waits hears of it before it failed. */
const reach = async (wait: Wait, link: Link): Promise<Connected> => {
  const { caller, signal } = wait;
  const here = link.current();
  if (here) return here;
  const dialing = link.connect(lenderOf(caller));
  const made = await soonest(dialing, PATIENCE_MS, signal);
  if (made) return made;
  if (!link.busyWith()) tellLost(wait, new KhloneError('unreachable', 'no answer yet'));
  return dialing;
};

const follow = async (wait: Wait): Promise<End> => {
  const { app, binding, signal, narrator } = wait;
  const link = app.link(binding.host);
  for (let tries = 0; ; ) {
    try {
      const connected = await reach(wait, link);
      if (wait.isLost) narrator.tell(`reconnected to ${oneLine(binding.host, 100)}`);
      [wait.isLost, tries] = [false, 0];
      const { seen } = wait;
      const end = await followOnce(wait, connected);
      if (end) return end;
      // The stream ended and brought nothing: asked again at once it may do so for ever.
      if (wait.seen === seen) await pause(RETRY_MS, signal);
    } catch (thrown) {
      if (signal.aborted) throw thrown;
      tellLost(wait, thrown);
      // The link brings itself back; dialling in step with it would only knock at the host twice as often.
      await awaitConnection(link, waitMs(link, tries), signal);
      tries += 1;
    }
  }
};

const isWaiting = (app: App, task: string): boolean => {
  const refused = app.outbox.refused().find((r) => r.id === task);
  if (refused) throw refusalOf(refused);
  return app.outbox.list().some((q) => 'id' in q.entry.call.params && q.entry.call.params.id === task);
};

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

/** Throws when the caller leaves, or has waited long enough. */
const leaving = (signal: AbortSignal): Promise<never> =>
  new Promise((_resolve, reject) => {
    signal.addEventListener('abort', () => reject(interrupted()), { once: true });
    if (signal.aborted) reject(interrupted());
  });

/** Waits, prints the answer on stdout where it was asked for, and answers the exit code of the table. */
export const awaitTask = async (
  app: App,
  caller: Caller,
  binding: Binding,
  wish: AwaitWish,
): Promise<number> => {
  // Another hub told the end and died before its last word.
  if (caller.marks.ended !== undefined) return Number(caller.marks.ended);
  const { verbosity = 'normal' } = await readUserConfig(app.home.root);
  const late = new AbortController();
  const timer = wish.timeoutMs === undefined ? undefined : setTimeout(() => late.abort(), wish.timeoutMs);
  const signal = AbortSignal.any([caller.signal, late.signal]);
  const name = (): string => (wish.clone ? oneLine(wish.clone, 60) : 'task');
  const say = (line: string): void => {
    if (wish.quiet || wish.json) return;
    // Progress marks its own place.
    const at = wish.progress ? {} : { at: writeBookmark({ after: wait.seen, lines: 0 }) };
    caller.err(`[await] ${name()}: ${line}\n`, { said: line, ...at });
  };
  const start = readBookmark(caller.marks.at, 'start');
  const narrator = createNarrator(say, caller.marks.said);
  const progress = createProgress(caller, { ...wish, verbosity }, start);
  const wait: Wait = {
    app,
    caller,
    binding,
    wish,
    signal,
    narrator,
    progress,
    seen: start.after,
    isLost: false,
  };
  try {
    // A dial or a call that is under way has a longer patience than who waits.
    return finish(caller, wish, await Promise.race([follow(wait), leaving(signal)]), name());
  } catch (thrown) {
    if (!late.signal.aborted) throw thrown;
    throw new KhloneError('timeout', `${wish.task} is not done yet; it goes on`, `khlone await ${wish.task}`);
  } finally {
    clearTimeout(timer);
  }
};

const finish = (caller: Caller, wish: AwaitWish, { task, text }: End, name: string): number => {
  const exit = exitOf(task);
  if (wish.json) {
    caller.out(`${jsonLine({ ...task, answer: text })}\n`);
    return exit;
  }
  // An answer for a person is made harmless; a pipe gets it too, because it ends in a terminal more often than not.
  if (wish.answer && text !== '') caller.out(text.endsWith('\n') ? sanitize(text) : `${sanitize(text)}\n`);
  const lines = exit === 0 ? endLines(wish, task, name) : faultLines(task, styleOf(caller, 'stderr'));
  caller.err(lines.map((line) => `${line}\n`).join(''), { ended: String(exit) });
  return exit;
};

const endLines = (wish: AwaitWish, task: TaskView, name: string): string[] => {
  if (wish.quiet) return [];
  const words = [...(task.message ? [oneLine(task.message, 500)] : []), `done${tokensOf(task)}`];
  return words.map((line) => `[await] ${name}: ${line}`);
};

const faultLines = (task: TaskView, style: Style): string[] => {
  const what =
    task.state === 'unknown' ? `${mark(style, 'attention')} outcome unknown` : mark(style, 'failed');
  const hint = task.hint ? [`  ${mark(style, 'next')} ${oneLine(task.hint, 500)}`] : [];
  return [`${what} ${oneLine(task.message ?? task.state, 2000)}`, ...hint];
};
