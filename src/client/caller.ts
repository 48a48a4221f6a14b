import { KhloneError } from '../protocol/error.ts';
import type { AttachOrder } from './attach/order.ts';

/**
 * Whoever typed a command: its words, place, environment and terminal. Commands run in the hub for many callers at
 * once, so nothing of a caller is ever read from the hub's own process.
 */

export type Env = Readonly<Record<string, string | undefined>>;

/** How far a command has come, by names of its own: a hub that takes over from a dead one gets the last of each. */
export type Marks = Readonly<Record<string, string>>;

/** What a caller tells of itself. `nonce` is minted by the outermost program, so every retry is the same command. */
export type Invocation = {
  argv: string[];
  cwd: string;
  env: Record<string, string>;
  nonce: string;
  /** Sent before, to a hub that died: lines that were printed are not printed again. */
  repeated: boolean;
  /** What the last hub had marked as told. */
  marks: Marks;
  terminal: { stdin: boolean; stdout: boolean; stderr: boolean; columns: number; rows: number };
};

export type Question = { text: string; secret: boolean };

export type Caller = Invocation & {
  /** With marks the text and they arrive together or not at all, and no hub that takes over tells what lies before. */
  out(text: string, marks?: Marks): void;
  /** Resolves when what was printed has been read, more or less: a long output waits here for a slow reader. */
  drained(): Promise<void>;
  /** Resolves when all that was said is printed; false when nobody reads standard output any more. */
  printed(): Promise<boolean>;
  /**
   * Called when the terminal has another size; `terminal` tells it. `anew`: the command was stopped and goes on, and
   * others have written to the terminal meanwhile. Returns what ends that.
   */
  onResize(told: (anew: boolean) => void): () => void;
  /** From now on what is typed is not shown, until the command ends; undefined where there is no terminal. */
  hushKeys: (() => void) | undefined;
  err(text: string, marks?: Marks): void;
  /** All of the caller's standard input, up to a limit in bytes. */
  readStdin(maxBytes: number): Promise<Buffer>;
  /** Asks at the caller's terminal; undefined where there is none. */
  ask: ((question: Question) => Promise<string>) | undefined;
  /** Runs a program at the caller's terminal and answers its exit code; undefined where there is none. */
  run: ((argv: string[], cwd: string) => Promise<number>) | undefined;
  /** Ends the command with a look into a zone at the caller's terminal; undefined where there is none. */
  attach: ((order: AttachOrder) => void) | undefined;
  /** Set where only some of the environment came: whoever needs all of it hands over to the node command. */
  handOver?: () => never;
  /**
   * What a caller who interrupts from now on is told in one line, and what is done for that to be true; undefined:
   * nothing more. It is asked at that very moment, so it waits for nobody.
   */
  lastWords(make: (() => string) | undefined): void;
  /** Aborts when the caller interrupted or went away. */
  signal: AbortSignal;
};

/** The words among which options stand: behind `--` nothing is one. */
export const beforeDashes = (argv: readonly string[]): readonly string[] => {
  const end = argv.indexOf('--');
  return end < 0 ? argv : argv.slice(0, end);
};

/** A yes at the terminal. Without a terminal nobody said yes. */
export const confirm = async (caller: Caller, text: string): Promise<boolean> => {
  if (!caller.ask) return false;
  const answer = await caller.ask({ text: `${text} [y/N] `, secret: false });
  return /^y(es)?$/i.test(answer.trim());
};

/** Marks for people: letters where the terminal speaks no UTF-8, colours only at a terminal that wants them. */
export type Style = { utf8: boolean; colour: boolean };

export const styleOf = (caller: Caller, stream: 'stdout' | 'stderr'): Style => {
  const { env } = caller;
  const locale = env.LC_ALL || env.LC_CTYPE || env.LANG || '';
  return {
    utf8: /utf-?8/i.test(locale) || !caller.terminal[stream],
    colour: caller.terminal[stream] && !env.NO_COLOR && env.TERM !== 'dumb',
  };
};

/** The next step of a command that stopped because its caller left. */
export const interrupted = (): KhloneError => new KhloneError('interrupted', 'interrupted');
