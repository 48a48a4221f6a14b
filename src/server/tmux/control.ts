import { spawn } from 'node:child_process';
import { KhloneError } from '../../protocol/error.ts';
import { quoteTmux } from './quote.ts';
import { createTmuxParser, type TmuxEvent } from './tmux-parser.ts';

const COMMAND_DEADLINE_MS = 5_000;
const CLOSE_DEADLINE_MS = 2_000;
/** Most commands that wait for their answer; tmux answers in 0.03 ms, so this many means that it hangs. */
const MAX_PENDING_COMMANDS = 1_000;
const MAX_COMMAND_BYTES = 16 * 1024 * 1024;
const MAX_STDERR_BYTES = 4_096;
/** The one session. Its first window holds a command that has ended: it costs no process and keeps the session. */
const SESSION = 'khlone';

/** A control client of our tmux server. Commands run in order; each gets the lines of its own answer. */
export type Control = {
  /** Throws `tmux-failed` when tmux refuses, does not answer within `deadlineMs` (5,000), or is gone. */
  command(words: readonly (string | Uint8Array)[], deadlineMs?: number): Promise<string[]>;
  /** Called once when tmux ends or drops us, not after `close`; at once if that has happened already. */
  onGone(callback: (reason: string) => void): void;
  /** Leaves. The server and its panes go on. */
  close(): Promise<void>;
  /** Of the server that runs, which may be older than the tmux on the PATH. */
  version: string;
};

type Block = Extract<TmuxEvent, { type: 'block' }>;
type Waiting = { words: readonly (string | Uint8Array)[]; settle: (answer: Block | KhloneError) => void };

const failed = (message: string): KhloneError =>
  new KhloneError('tmux-failed', message, 'khlone doctor says what is wrong with tmux here');

const text = (bytes: Uint8Array): string => new TextDecoder('utf-8', { ignoreBOM: true }).decode(bytes);

const withDeadline = <T>(promise: Promise<T>, deadlineMs: number, what: string): Promise<T> => {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(failed(`${what} took more than ${deadlineMs} ms`)), deadlineMs);
  });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
};

/**
 * The client attaches, and starts the server where there is none, in one step. `no-output`: a control client that
 * cannot keep up would otherwise stall the panes. `-u`: without it tmux turns all that is not ASCII into `_`.
 * Its own session, so that a signal to our process group does not end it; the server makes one more for itself.
 */
const spawnClient = (socketPath: string, configPath: string, env: Record<string, string>) => {
  const home = ['-n', 'home', '-x', '120', '-y', '40', '--', '/bin/sh', '-c', ':'];
  const attach = ['new-session', '-A', '-E', '-s', SESSION, '-f', 'no-output,ignore-size', ...home];
  const words = ['-u', '-S', socketPath, '-f', configPath, '-C', ...attach];
  return spawn('tmux', words, { env, cwd: '/', detached: true, stdio: ['pipe', 'pipe', 'pipe'] });
};

/** Matches answers to commands: a block with flag 1 answers the oldest command that has none. */
const createPending = () => {
  let waiting: Waiting[] = [];
  return {
    get count() {
      return waiting.length;
    },
    /** A command that met its deadline stays in line: its answer may still come, and must not go to the next one. */
    add: (words: Waiting['words']): Promise<Block> =>
      new Promise((resolve, reject) => {
        waiting.push({
          words,
          settle: (answer) => (answer instanceof Error ? reject(answer) : resolve(answer)),
        });
      }),
    answer: (block: Block): void => waiting.shift()?.settle(block),
    failAll: (reason: string): void => {
      for (const { words, settle } of waiting)
        settle(failed(`${reason} before it answered ${String(words[0])}`));
      waiting = [];
    },
  };
};

const linesOf = (block: Block, name: string): string[] => {
  const lines = block.lines.map(text);
  if (block.cut) throw failed(`the answer to ${name} is too large`);
  if (!block.ok) throw failed(`tmux refused ${name}: ${lines.join(' ') || 'without a word'}`);
  return lines;
};

/**
 * Opens the control connection, starting the private server if it does not run. `env` is the whole environment of
 * the tmux client and server; its PATH is where tmux is looked for. Not safe against a second caller at the same
 * moment: the caller is the only khlone-server of its home.
 * Throws `tmux-failed`.
 */
export const openControl = async (where: {
  socketPath: string;
  configPath: string;
  env: Record<string, string>;
}): Promise<Control> => {
  const client = spawnClient(where.socketPath, where.configPath, where.env);
  const pending = createPending();
  const attached = Promise.withResolvers<void>();
  const ended = Promise.withResolvers<void>();
  const listeners: ((reason: string) => void)[] = [];
  let [gone, exitReason, stderr]: (string | undefined)[] = [];
  let closing = false;

  const leave = (reason: string): void => {
    if (gone !== undefined) return;
    gone = reason;
    pending.failAll(reason);
    attached.reject(failed(reason));
    if (!closing) for (const callback of listeners) callback(reason);
  };

  const onEvent = (event: TmuxEvent): void => {
    if (event.type === 'block' && event.flags === 1) pending.answer(event);
    if (event.type === 'block' && !event.ok && event.flags !== 1) stderr = event.lines.map(text).join(' ');
    if (event.type === 'notice' && event.name === 'session-changed') attached.resolve();
    if (event.type === 'notice' && event.name === 'exit') exitReason = text(event.rest);
  };

  const parse = createTmuxParser();
  client.stdout.on('data', (chunk: Buffer) => parse(chunk).forEach(onEvent));
  client.stderr.on('data', (chunk: Buffer) => {
    stderr = `${stderr ?? ''}${text(chunk)}`.slice(0, MAX_STDERR_BYTES);
  });
  client.stdin.on('error', () => {}); // A client that is gone is told by `close` below, once, with its reason.
  client.on('error', (error) => leave(`tmux could not be started: ${error.message}`));
  client.on('close', () => {
    leave(`tmux ended: ${(exitReason || stderr || 'no reason given').trim()}`);
    ended.resolve();
  });

  const command: Control['command'] = async (words, deadlineMs = COMMAND_DEADLINE_MS) => {
    const name = String(words[0]);
    const line = `${words.map(quoteTmux).join(' ')}\n`;
    if (words.length === 0)
      throw new KhloneError('invalid-params', 'an empty command would end the connection');
    if (line.length > MAX_COMMAND_BYTES) throw new KhloneError('too-large', `${name} is too large for tmux`);
    if (gone !== undefined || closing) throw failed(gone ?? 'the connection to tmux is closed');
    if (pending.count >= MAX_PENDING_COMMANDS) throw failed('too many commands wait for tmux');
    const answer = pending.add(words);
    client.stdin.write(line);
    return linesOf(await withDeadline(answer, deadlineMs, `the answer of tmux to ${name}`), name);
  };

  const close = async (): Promise<void> => {
    closing = true;
    client.stdin.end();
    if (client.pid === undefined) return;
    await withDeadline(ended.promise, CLOSE_DEADLINE_MS, 'leaving tmux').catch(() => client.kill('SIGKILL'));
  };

  try {
    await withDeadline(attached.promise, COMMAND_DEADLINE_MS, 'the start of tmux');
    const [version = ''] = await command(['display-message', '-p', '#{version}']);
    const onGone: Control['onGone'] = (callback) => {
      if (gone !== undefined && !closing) callback(gone);
      else listeners.push(callback);
    };
    return { command, onGone, close, version };
  } catch (error) {
    await close();
    throw error;
  }
};
