import { type ChildProcess, spawn } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Readable } from 'node:stream';
import { StringDecoder } from 'node:string_decoder';
import { parseObject } from './brain.ts';

/** What the built-in brain prints, one JSON object per line. `ran` is false where the script never began. */
export type ShLine =
  | { type: 'start'; uuid: string; script: string }
  | { type: 'stdout' | 'stderr'; uuid: string; text: string }
  | {
      type: 'end';
      uuid: string;
      ran: boolean;
      outcome: 'done' | 'error' | 'interrupted';
      message?: string;
      text: string;
    };

type Job = { uuid: string; text: string };
type End = Omit<Extract<ShLine, { type: 'end' }>, 'type' | 'uuid'>;

/** The longest answer, in characters; of a longer one the tail is kept. With the note before it a task's 4 MiB hold it. */
const MAX_ANSWER_CHARS = 4 * 1024 * 1024 - 100;
/** Linux takes at most 128 KiB in one argument; larger scripts go through a private file. In bytes. */
const MAX_ARGUMENT_BYTES = 100 * 1024;
/** The longest input line, in characters. */
const MAX_LINE_CHARS = 64 * 1024 * 1024;
/** Turns that may wait behind the active one. */
const MAX_WAITING = 256;
/** Turn ids remembered to drop a repeated line. */
const MAX_SEEN = 10_000;
/** From TERM to KILL when a turn is interrupted, in milliseconds. */
const KILL_AFTER_MS = 5_000;
/** How long a script's pipes may stay open after it ended (a background child holds them), in milliseconds. */
const DRAIN_MS = 300;
/** How much of a script a start line shows, in characters. */
const MAX_SCRIPT_SHOWN_CHARS = 1_000;

/** Writes all of a line, waiting where the descriptor is a full non-blocking pipe. */
const writeLine = (fd: number, line: ShLine): void => {
  const bytes = Buffer.from(`${JSON.stringify(line)}\n`);
  let at = 0;
  while (at < bytes.length) {
    try {
      at += writeSync(fd, bytes, at);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EAGAIN') throw error;
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 5);
    }
  }
};

/** Collects the tail of a text within MAX_ANSWER_CHARS. */
const createTail = () => {
  let kept = '';
  let dropped = 0;
  const cut = (limit: number): void => {
    if (kept.length <= limit) return;
    dropped += kept.length - MAX_ANSWER_CHARS;
    kept = kept.slice(-MAX_ANSWER_CHARS);
  };
  return {
    // Cut only at twice the bound: cutting at every piece would copy the whole tail each time.
    add: (piece: string): void => {
      kept += piece;
      cut(2 * MAX_ANSWER_CHARS);
    },
    text: (): string => {
      cut(MAX_ANSWER_CHARS);
      const note = dropped > 0 ? `[${dropped} characters left out here]\n` : '';
      return note + kept.trimEnd();
    },
  };
};

/** Longest line of stderr that waits for its end, in characters. */
const MAX_WAITING_CHARS = 4_096;
/** How much of a failed script's last line on stderr its outcome tells, in characters. */
const MAX_REASON_CHARS = 300;

/** Pieces of stderr as whole lines, as far as they have come, and the last line that said something. */
const createComplaint = () => {
  let waiting = '';
  let last = '';
  const said = (text: string): string => {
    last = text.trimEnd().split('\n').at(-1)?.trim() || last;
    return text;
  };
  const end = (): string => {
    const rest = waiting;
    waiting = '';
    return said(rest);
  };
  return {
    end,
    add: (piece: string): string => {
      const text = waiting + piece;
      const at = text.length > MAX_WAITING_CHARS ? text.length : text.lastIndexOf('\n') + 1;
      waiting = text.slice(at);
      return said(text.slice(0, at));
    },
    reason: (): string => (last === '' ? '' : `: ${last.slice(0, MAX_REASON_CHARS)}`),
  };
};

/** Signals the script's process group (0 only looks) and says whether it had members. */
const signalGroup = (child: ChildProcess, signal: NodeJS.Signals | 0): boolean => {
  if (child.pid === undefined) return false;
  try {
    return process.kill(-child.pid, signal);
  } catch {
    return false;
  }
};

/** Settles when the script has ended and its output is read; a background child that holds the pipes is not waited for. */
const ended = (child: ChildProcess): Promise<{ code: number | null; signal: string | null }> =>
  new Promise((resolve, reject) => {
    child.once('error', reject);
    child.once('exit', (code, signal) => {
      const timer = setTimeout(() => resolve({ code, signal }), DRAIN_MS);
      child.once('close', () => {
        clearTimeout(timer);
        resolve({ code, signal });
      });
    });
  });

/** The script as arguments of sh: as itself while it fits an argument, else as a file in a folder of our own. */
const argumentsOf = (script: string): { args: string[]; dispose: () => void } => {
  if (Buffer.byteLength(script) <= MAX_ARGUMENT_BYTES) {
    return { args: ['-c', '--', script], dispose: () => {} };
  }
  const folder = mkdtempSync(join(tmpdir(), 'khlone-sh-'));
  writeFileSync(join(folder, 'script'), script, { mode: 0o600 });
  return {
    args: [join(folder, 'script')],
    dispose: () => rmSync(folder, { recursive: true, force: true }),
  };
};

/** One running script: `end` settles with its outcome and never rejects. */
const runScript = (job: Job, print: (line: ShLine) => void): { end: Promise<End>; interrupt: () => void } => {
  if (job.text.includes('\0')) {
    const message = 'the prompt holds a NUL byte, which no shell can take';
    return {
      end: Promise.resolve({ ran: false, outcome: 'error', message, text: '' }),
      interrupt: () => {},
    };
  }
  const { args, dispose } = argumentsOf(job.text);
  // The start line has to be in the output before the script can have any effect: without it the turn is run again.
  print({ type: 'start', uuid: job.uuid, script: job.text.slice(0, MAX_SCRIPT_SHOWN_CHARS) });
  // A session of its own, so that one signal reaches the script's whole group and a dying terminal reaches none of it.
  const child = spawn('sh', args, { stdio: ['ignore', 'pipe', 'pipe'], detached: true });
  const tail = createTail();
  let over = false;
  const complaint = createComplaint();
  const say = (type: 'stdout' | 'stderr', text: string): void => {
    if (text !== '') print({ type, uuid: job.uuid, text });
  };
  const listen = (type: 'stdout' | 'stderr'): void => {
    const decoder = new StringDecoder('utf8');
    const take = (piece: string): void => {
      // What a background child says later belongs to no turn; it is still read, or the child would block.
      if (piece === '' || over) return;
      if (type === 'stdout') tail.add(piece);
      say(type, type === 'stderr' ? complaint.add(piece) : piece);
    };
    child[type]?.on('data', (bytes: Buffer) => take(decoder.write(bytes)));
    child[type]?.on('end', () => take(decoder.end()));
  };
  listen('stdout');
  listen('stderr');
  let interrupted = false;
  let killTimer: NodeJS.Timeout | undefined;
  const interrupt = (): void => {
    if (interrupted || over) return;
    interrupted = true;
    signalGroup(child, 'SIGTERM');
    killTimer = setTimeout(() => signalGroup(child, 'SIGKILL'), KILL_AFTER_MS).unref();
  };
  const finish = async (): Promise<End> => {
    const outcome = await ended(child).then(
      ({ code, signal }): Pick<End, 'outcome' | 'message'> =>
        interrupted
          ? { outcome: 'interrupted' }
          : code === 0
            ? { outcome: 'done' }
            : { outcome: 'error', message: signal ? `ended by ${signal}` : `exit code ${code}` },
      (error: Error): Pick<End, 'outcome' | 'message'> => ({ outcome: 'error', message: error.message }),
    );
    say('stderr', complaint.end());
    if (outcome.message !== undefined) outcome.message += complaint.reason();
    over = true;
    // An empty group's number may soon be another's; a group with members left still gets its KILL.
    if (!signalGroup(child, 0)) clearTimeout(killTimer);
    dispose();
    return { ran: true, ...outcome, text: tail.text() };
  };
  return { end: finish(), interrupt };
};

/** Calls back for each line of a stream; a line beyond MAX_LINE_CHARS is dropped. Settles at its end. */
const eachLine = (stream: Readable, take: (line: string) => void): Promise<void> =>
  new Promise((resolve) => {
    const decoder = new StringDecoder('utf8');
    let pieces: string[] = [];
    let length = 0;
    stream.on('data', (bytes: Buffer) => {
      const [first = '', ...rest] = decoder.write(bytes).split('\n');
      for (const [index, part] of [first, ...rest].entries()) {
        if (index > 0) {
          if (length <= MAX_LINE_CHARS) take(pieces.join(''));
          pieces = [];
          length = 0;
        }
        length += part.length;
        if (length <= MAX_LINE_CHARS) pieces.push(part);
        else pieces = [];
      }
    });
    stream.once('end', resolve);
    stream.once('error', () => resolve());
  });

/** Runs jobs one after the other in the order they came; the same uuid runs once. */
const createQueue = (print: (line: ShLine) => void) => {
  const waiting: Job[] = [];
  const seen = new Set<string>();
  let active: { interrupt: () => void } | undefined;
  let working: Promise<void> | undefined;
  const refuse = (uuid: string, message: string): void =>
    print({ type: 'end', uuid, ran: false, outcome: 'error', message, text: '' });

  const work = async (): Promise<void> => {
    for (let job = waiting.shift(); job; job = waiting.shift()) {
      try {
        const run = runScript(job, print);
        active = run;
        print({ type: 'end', uuid: job.uuid, ...(await run.end) });
      } catch (error) {
        refuse(job.uuid, error instanceof Error ? error.message : String(error));
      }
      active = undefined;
    }
    working = undefined;
  };

  return {
    enqueue: (job: Job): void => {
      if (seen.has(job.uuid)) return;
      if (waiting.length >= MAX_WAITING) {
        refuse(job.uuid, `more than ${MAX_WAITING} turns are waiting`);
        return;
      }
      const oldest = seen.values().next();
      if (seen.size >= MAX_SEEN && !oldest.done) seen.delete(oldest.value);
      seen.add(job.uuid);
      waiting.push(job);
      working ??= work();
    },
    interrupt: (): void => active?.interrupt(),
    idle: async (): Promise<void> => working,
  };
};

/**
 * The program behind the brain `sh`: reads turns and interrupts as lines of JSON, runs one script at a time, prints
 * ShLines to the descriptor. Settles when the input has ended and every turn that arrived before is over; the caller
 * then ends the process, since a script's background child may still hold a pipe.
 */
export const runShProgram = async (stdin: Readable, stdoutFd: number): Promise<void> => {
  const queue = createQueue((line) => writeLine(stdoutFd, line));
  // Node undoes an inherited "ignore HUP", and this process has to outlive the pane it was started in.
  const ignoreHangup = (): void => {};
  const leave = (): void => {
    queue.interrupt();
    process.exit(143);
  };
  process.on('SIGHUP', ignoreHangup).on('SIGINT', queue.interrupt).on('SIGTERM', leave);
  await eachLine(stdin, (line) => {
    const message = parseObject(line);
    const { type, uuid, text } = message ?? {};
    if (type === 'interrupt') queue.interrupt();
    if (type === 'turn' && typeof uuid === 'string' && typeof text === 'string')
      queue.enqueue({ uuid, text });
  });
  await queue.idle();
  process.off('SIGHUP', ignoreHangup).off('SIGINT', queue.interrupt).off('SIGTERM', leave);
};
