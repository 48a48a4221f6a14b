import * as z from 'zod';
import { asKhloneError, KhloneError } from '../../protocol/error.ts';
import type { Call } from '../../protocol/peer.ts';
import { oneLine } from '../../protocol/sanitize.ts';
import type { AttachOrder } from '../attach/order.ts';
import { type Caller, type Invocation, interrupted, type Marks, type Question } from '../caller.ts';

/**
 * One command between the hub and whoever typed it. The caller subscribes with its invocation and gets lines to print,
 * questions to ask and programs to run, in order, and at last the exit code; it answers with the calls below.
 */

const size = z.number().int().min(1).max(10_000);
const Size = z.object({ columns: size, rows: size });
const Resized = Size.extend({ anew: z.boolean().optional() });

/** Words of one command: more than a shell's own limits let through, but for very short ones. */
const MAX_WORDS = 200_000;

const InvocationShape = z.object({
  argv: z.array(z.string().max(8 * 1024 * 1024)).max(MAX_WORDS),
  cwd: z.string().max(4096),
  env: z.record(z.string(), z.string()),
  nonce: z.string().regex(/^[A-Za-z0-9._-]{8,80}$/),
  repeated: z.boolean(),
  marks: z.record(z.string(), z.string()),
  terminal: Size.extend({ stdin: z.boolean(), stdout: z.boolean(), stderr: z.boolean() }),
});

/**
 * What the hub sends: `o` and `e` are text for stdout and stderr, `x` ends the command. `k` are marks: whoever was told
 * them hands them to the next hub when this one dies. `sync` is answered when all that came before is printed.
 * From `hush` on the terminal does not show what is typed.
 * `attach` ends the command here as well: the caller's own program goes on with it, whatever becomes of this hub.
 */
export type Said =
  | { o: string; k?: Marks }
  | { e: string; k?: Marks }
  | { sync: number }
  | { ask: number; text: string; secret: boolean }
  | { stdin: number; max: number }
  | { run: number; argv: string[]; cwd: string }
  | { attach: AttachOrder }
  | { hush: true }
  | { x: number };

/** Exit code of a command that its caller interrupted. */
const INTERRUPTED = 130;

/** Text travels in pieces below the limit of an item. */
const PIECE_CHARS = 64 * 1024;
/** Text with marks stays in one piece up to here: harmless text takes three bytes a character at most. */
const MARKED_CHARS = 256 * 1024;
/** A person may take their time, but a forgotten question must not hold a command for ever. */
const ANSWER_DEADLINE_MS = 10 * 60_000;
/** Characters that wait for a caller who reads slower than its command writes; beyond this the command is ended. */
const QUEUE_MAX_CHARS = 32 * 1024 * 1024;
/** A command that prints much goes on when fewer characters than this wait. */
const CALM_CHARS = 1024 * 1024;

type Pending = { resolve: (value: unknown) => void; reject: (why: Error) => void };

/** Commands of one connection by their number, so that answers find their question. */
export type Exchange = {
  items: AsyncIterable<Said>;
  answer(n: number, value: unknown): void;
  /** The caller's terminal has this size now. */
  resize(size: unknown): void;
  /** The caller interrupts: it is told the last words, and the command is on its own. */
  leave(): void;
};

export const parseInvocation = (params: unknown): Invocation => {
  const parsed = InvocationShape.safeParse(params);
  if (parsed.success) return parsed.data;
  throw new KhloneError(
    'invalid-params',
    'the command came in an unknown shape',
    'khlone --version on both sides',
  );
};

const sizeOf = (said: Said): number => ('o' in said ? said.o.length : 'e' in said ? said.e.length : 100);

/** What a command ends with when its caller does not read. */
const UNREAD: Said[] = [{ e: '✗ the output was not read\n  ↳ send it to a file\n' }, { x: 2 }];

/** Adds text to a waiting piece of the same stream: many short lines then travel as few messages. */
const joined = (last: Said | undefined, said: Said): boolean => {
  if ((last && 'k' in last) || 'k' in said) return false;
  if (last && 'o' in last && 'o' in said && last.o.length + said.o.length <= PIECE_CHARS) last.o += said.o;
  else if (last && 'e' in last && 'e' in said && last.e.length + said.e.length <= PIECE_CHARS)
    last.e += said.e;
  else return false;
  return true;
};

/** A queue of what is said, drained by the caller's own pace. `onOverflow`: the command is to be ended. */
const createSaid = (onOverflow: () => void) => {
  let queue: Said[] = [];
  let chars = 0;
  let wake: (() => void) | undefined;
  let waiting: (() => void)[] = [];
  let over = false;

  const push = (said: Said): void => {
    if (over) return;
    if (!joined(queue.at(-1), said)) queue.push(said);
    chars += sizeOf(said);
    if ('x' in said) over = true;
    if (chars > QUEUE_MAX_CHARS) {
      end(UNREAD);
      onOverflow();
    }
    wake?.();
  };
  /** What was not read yet is not wanted any more: these are the last. */
  const end = (last: readonly Said[]): void => {
    if (over) return;
    over = true;
    queue = structuredClone([...last]);
    wake?.();
  };
  const take = (): Said | undefined => {
    const said = queue.shift();
    if (said) chars -= sizeOf(said);
    if (chars < CALM_CHARS) {
      for (const go of waiting) go();
      waiting = [];
    }
    return said;
  };
  /** Resolves when the caller has caught up: who prints much waits for it now and then. */
  const drained = (): Promise<void> =>
    chars < CALM_CHARS || over ? Promise.resolve() : new Promise((resolve) => waiting.push(resolve));

  async function* drain(signal: AbortSignal): AsyncGenerator<Said> {
    const left = (): void => wake?.();
    signal.addEventListener('abort', left);
    try {
      while (!signal.aborted) {
        for (let said = take(); said; said = take()) {
          yield said;
          if ('x' in said) return;
        }
        await new Promise<void>((resolve) => {
          wake = resolve;
          if (queue.length > 0 || signal.aborted) resolve();
        });
      }
    } finally {
      signal.removeEventListener('abort', left);
      for (const go of waiting) go();
    }
  }
  return { push, end, drain, drained };
};

/** The caller's terminal with the size that it has by now. */
const createScreen = (invocation: Invocation) => {
  const terminal = { ...invocation.terminal };
  const listeners = new Set<(anew: boolean) => void>();
  return {
    terminal,
    onResize: (told: (anew: boolean) => void) => {
      listeners.add(told);
      return () => void listeners.delete(told);
    },
    resize: (given: unknown): void => {
      const size = Resized.safeParse(given);
      if (!size.success) return;
      terminal.columns = size.data.columns;
      terminal.rows = size.data.rows;
      for (const told of listeners) told(size.data.anew === true);
    },
  };
};

/** Aborts with the call. Not AbortSignal.any: one that is only looked at, and not listened to, may never hear of it. */
const leavingWith = ({ signal }: Call): AbortController => {
  const left = new AbortController();
  signal.addEventListener('abort', () => left.abort(), { once: true });
  if (signal.aborted) left.abort();
  return left;
};

/** What a caller who interrupts is told. */
const createLastWords = () => {
  let words: (() => string) | undefined;
  const tell = (make: () => string): string => {
    try {
      return make();
    } catch (thrown) {
      return `✗ it may have been sent, and could not be kept here: ${oneLine(asKhloneError(thrown).message, 500)}`;
    }
  };
  return {
    set: (make: (() => string) | undefined): void => {
      words = make;
    },
    say: (): Said[] => (words ? [{ e: `${tell(words)}\n` }] : []),
  };
};

/** What the caller is asked, and what it answers. */
const createQuestions = (push: (said: Said) => void, signal: AbortSignal) => {
  const pending = new Map<number, Pending>();
  let next = 1;
  const request = <T>(make: (n: number) => Said): Promise<T> =>
    new Promise<T>((resolve, reject) => {
      const n = next++;
      const timer = setTimeout(
        () => settle(() => reject(new KhloneError('timeout', 'nobody answered'))),
        ANSWER_DEADLINE_MS,
      );
      const onAbort = (): void => settle(() => reject(interrupted()));
      const settle = (then: () => void): void => {
        clearTimeout(timer);
        signal.removeEventListener('abort', onAbort);
        pending.delete(n);
        then();
      };
      pending.set(n, {
        resolve: (value) => settle(() => resolve(value as T)),
        reject: (why) => settle(() => reject(why)),
      });
      signal.addEventListener('abort', onAbort);
      push(make(n));
    });
  const answer = (n: number, value: unknown): void => pending.get(n)?.resolve(value);
  return { request, answer };
};

/** Starts a command for a caller; `run` gets the caller and answers the exit code. */
export const startExchange = (
  invocation: Invocation,
  call: Call,
  run: (caller: Caller) => Promise<number>,
): Exchange => {
  const left = leavingWith(call);
  const { signal } = left;
  const said = createSaid(() => left.abort());
  const { request, answer } = createQuestions(said.push, signal);
  const last = createLastWords();
  const pieces = (stream: 'o' | 'e', text: string, marks: Marks | undefined): void => {
    const make = (piece: string): Said => (stream === 'o' ? { o: piece } : { e: piece });
    const last = marks ? Math.max(0, text.length - MARKED_CHARS) : text.length;
    for (let at = 0; at < last; at += PIECE_CHARS)
      said.push(make(text.slice(at, Math.min(at + PIECE_CHARS, last))));
    if (marks) said.push({ ...make(text.slice(last)), k: marks });
  };
  const screen = createScreen(invocation);
  const hasTerminal = invocation.terminal.stdin && invocation.terminal.stderr;
  const hasScreen = hasTerminal && invocation.terminal.stdout;
  const caller: Caller = {
    ...invocation,
    terminal: screen.terminal,
    onResize: screen.onResize,
    signal,
    drained: said.drained,
    printed: async () => (await request<boolean>((n) => ({ sync: n }))) !== false,
    out: (text, marks) => pieces('o', text, marks),
    err: (text, marks) => pieces('e', text, marks),
    readStdin: async (max) => Buffer.from(await request<string>((n) => ({ stdin: n, max })), 'base64'),
    ask: hasTerminal
      ? (q: Question) => request<string>((n) => ({ ask: n, text: q.text, secret: q.secret }))
      : undefined,
    hushKeys: invocation.terminal.stdout ? () => said.push({ hush: true }) : undefined,
    lastWords: last.set,
    attach: hasScreen ? (attach) => said.push({ attach }) : undefined,
    run: hasTerminal ? (argv, cwd) => request<number>((n) => ({ run: n, argv, cwd })) : undefined,
  };
  run(caller).then(
    (code) => said.push({ x: code }),
    (thrown: unknown) => {
      said.push({ e: `✗ ${oneLine(asKhloneError(thrown).message, 2_000)}\n  ↳ khlone doctor\n` });
      said.push({ x: 1 });
    },
  );
  return {
    items: said.drain(call.signal),
    answer,
    resize: screen.resize,
    leave: () => {
      said.end([...last.say(), { x: INTERRUPTED }]);
      left.abort();
    },
  };
};
