import { spawn } from 'node:child_process';
import { once } from 'node:events';
import type { Readable } from 'node:stream';
import { setTimeout as delay } from 'node:timers/promises';
import { createAnswerFilter } from '../../protocol/answers.ts';
import { KhloneError } from '../../protocol/error.ts';

/** A tmux client on a terminal of its own that script(1) makes: bytes in, bytes out, and a size. */

/** What was typed passes a pipe, script and the terminal until the client has it. */
const READ_WITHIN_MS = 50;
const MAX_STDERR_CHARS = 2_000;
const MAX_TTY_CHARS = 100;
const STTY_DEADLINE_MS = 2_000;

/**
 * What runs in the terminal. Its size is set before tmux asks for it, and what is typed before tmux reads is not echoed;
 * its name goes to descriptor 3, for later sizes. The words of the client are in variables: no line of shell is made of
 * data.
 */
const inTerminal = (words: number): string =>
  [
    'tty >&3; exec 3>&-',
    'stty -echo cols "$KHLONE_COLUMNS" rows "$KHLONE_ROWS"',
    `exec ${Array.from({ length: words }, (_, n) => `"$KHLONE_WORD_${n}"`).join(' ')}`,
  ].join('\n');

/**
 * script types Ctrl-D at the end of its input, which would end a shell when only the link was lost or this server was
 * killed. So the end of our bytes kills the group first: the shell that says so holds the pipe open until it has.
 * The terminal goes with script, and with the terminal the tmux client, but nothing that runs in tmux.
 */
const GROUP = '{ cat; kill -KILL 0; } | { script -qefc "$0" /dev/null; kill -KILL 0; }';

export type Size = { columns: number; rows: number };

export type Pty = {
  /** What the client draws. Its reader sets the pace: nothing is read ahead but a pipe's worth. */
  drawn: AsyncIterable<Uint8Array>;
  /**
   * Types bytes, once the client has drawn: until then the terminal itself would take Ctrl-C for an order, and throw
   * away what was typed. Resolves when more may come; false where the terminal is gone, and nothing was typed.
   */
  type(bytes: Uint8Array): Promise<boolean>;
  resize(size: Size): void;
  /**
   * Ends the client as soon as it had a moment to read what was typed last: it counts as typed. The session stays, and
   * what was drawn may still be read. Resolves when the client is gone.
   */
  end(): Promise<void>;
  /** The same where nobody reads any more. */
  drop(): void;
  /** Resolves when the client and its terminal are gone, with what it said instead of drawing, if anything. */
  closed: Promise<KhloneError | undefined>;
};

const textOf = (stream: Readable, mostChars: number): (() => string) => {
  let text = '';
  stream.on('data', (chunk: Buffer) => {
    text = `${text}${chunk.toString('latin1')}`.slice(0, mostChars);
  });
  stream.on('error', () => undefined);
  return () => text.trim();
};

/** The first line of a stream, which others may hold open; none where it never comes. */
const firstLine = (stream: Readable): Promise<string> =>
  new Promise((resolve) => {
    const text = textOf(stream, MAX_TTY_CHARS);
    stream.on('data', (chunk: Buffer) => {
      if (chunk.includes('\n')) resolve(text());
    });
  });

/**
 * Sets a terminal's size, one change at a time; of those that come meanwhile only the last two count: another size and
 * back is how all is drawn anew.
 */
const createResizer = (env: Record<string, string>, terminal: Promise<string>): Pty['resize'] => {
  let wanted: Size[] = [];
  let busy = false;

  const work = async (): Promise<void> => {
    const tty = await terminal;
    for (let size = wanted.shift(); size; size = wanted.shift()) {
      const { columns, rows } = size;
      const words = ['-F', tty, 'cols', String(columns), 'rows', String(rows)];
      const child = spawn('stty', words, { env, stdio: 'ignore', timeout: STTY_DEADLINE_MS });
      await once(child, 'close');
    }
  };
  return (size) => {
    wanted = [...wanted.slice(-1), size];
    if (busy) return;
    busy = true;
    // A size that could not be set is a drawing that does not fit, until the next one.
    void work()
      .catch(() => undefined)
      .finally(() => {
        busy = false;
      });
  };
};

/** Starts `argv` (a tmux client) on a terminal of this size. `env` is all it sees, TERM among it. */
export const openPty = (argv: readonly string[], env: Record<string, string>, size: Size): Pty => {
  const words = Object.fromEntries(argv.map((word, n) => [`KHLONE_WORD_${n}`, word]));
  const geometry = { KHLONE_COLUMNS: String(size.columns), KHLONE_ROWS: String(size.rows) };
  const child = spawn('/bin/sh', ['-c', GROUP, inTerminal(argv.length)], {
    cwd: '/',
    detached: true,
    stdio: ['pipe', 'pipe', 'pipe', 'pipe'],
    // script hands its line to the shell in SHELL.
    env: { ...env, ...words, ...geometry, SHELL: '/bin/sh' },
  });
  const { stdin, stdout, stderr } = child;
  const complaint = textOf(stderr, MAX_STDERR_CHARS);
  const over = Promise.withResolvers<KhloneError | undefined>();
  const begun = Promise.withResolvers<void>();
  const answers = createAnswerFilter();
  const exited = new Promise<void>((resolve) => {
    child.on('exit', resolve);
    child.on('error', resolve);
  });
  let drew = false;
  let typedMs = Number.NEGATIVE_INFINITY;
  let isEnding = false;

  stdin.on('error', () => undefined); // A client that is gone is told by `closed`.
  child.on('error', (error) => over.resolve(new KhloneError('tmux-failed', error.message)));
  child.on('close', () => {
    const why = complaint();
    over.resolve(!drew && why ? new KhloneError('tmux-failed', `no terminal: ${why}`) : undefined);
  });

  const drawn = async function* (): AsyncGenerator<Uint8Array> {
    for await (const chunk of stdout) {
      drew = true;
      begun.resolve();
      yield chunk as Buffer;
    }
  };
  const end = async (): Promise<void> => {
    isEnding = true;
    const leftMs = typedMs + READ_WITHIN_MS - performance.now();
    if (leftMs > 0) await Promise.race([delay(leftMs), exited]);
    if (child.pid === undefined || child.exitCode !== null || child.signalCode !== null) return;
    try {
      process.kill(-child.pid, 'SIGKILL');
    } catch {
      // It has just ended.
    }
    await exited;
  };
  return {
    drawn: drawn(),
    type: async (bytes) => {
      await Promise.race([begun.promise, over.promise]);
      if (isEnding || !stdin.writable) return false;
      typedMs = performance.now();
      if (stdin.write(answers(bytes))) return true;
      await Promise.race([once(stdin, 'drain'), over.promise]).catch(() => undefined);
      return true;
    },
    resize: createResizer(env, firstLine(child.stdio[3] as Readable)),
    end,
    drop: () => void end().finally(() => stdout.destroy()),
    closed: over.promise,
  };
};
