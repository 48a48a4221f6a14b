import { spawn } from 'node:child_process';
import { asKhloneError, KhloneError } from '../protocol/error.ts';
import { createPeer, type Peer } from '../protocol/peer.ts';
import type { AttachOrder } from './attach/order.ts';
import type { Invocation, Marks } from './caller.ts';
import type { Said } from './hub/exchange.ts';
import { bundle, connectHub } from './hub-connection.ts';
import { mintNonce } from './nonce.ts';
import { askHere } from './terminal/ask-here.ts';
import { type Hold, holdTerminal } from './terminal/hold.ts';
import { type Leaving, leaveAtSignals, unlessLeaving } from './terminal/leaving.ts';

/**
 * The node command: owns the terminal, stdin and signals, and lets the hub do the work. It stays small, because its
 * start-up is what a person waits for without the shell's own path.
 */

declare const __KHLONE_VERSION__: string;
declare const __KHLONE_BUILD__: string;

/** A hub that was killed is started again and asked the same thing; a hub that keeps dying is an error. */
const TRIES = 8;
const STEADY_MS = 2_000;
const INTERRUPTED = 130;
/** What a hub that dies leaves behind, and one that is killed in its start: the same command may be sent again. */
const LOST: ReadonlySet<string> = new Set(['unreachable', 'shutting-down']);
const NOT_STARTED: ReadonlySet<string> = new Set(['start-failed']);
const ANSWER_TIMEOUT_MS = 2 ** 31 - 1;

const sizeHere = (): { columns: number; rows: number } => ({
  columns: process.stderr.columns || process.stdout.columns || 80,
  rows: process.stderr.rows || process.stdout.rows || 24,
});

/** A shell may stand in a folder that was removed under it. */
const folderHere = (): string => {
  try {
    return process.cwd();
  } catch {
    throw new KhloneError('usage', 'the folder that this shell stands in is gone', 'cd to one that is there');
  }
};

const invocationOf = (argv: string[], { any: repeated, marks }: Talk, nonce: string): Invocation => ({
  argv,
  cwd: folderHere(),
  env: Object.fromEntries(
    Object.entries(process.env).filter((e): e is [string, string] => e[1] !== undefined),
  ),
  nonce,
  repeated,
  marks,
  terminal: {
    stdin: process.stdin.isTTY === true,
    stdout: process.stdout.isTTY === true,
    stderr: process.stderr.isTTY === true,
    ...sizeHere(),
  },
});

const runHere = (argv: string[], cwd: string): Promise<number> =>
  new Promise((resolve) => {
    const child = spawn(argv[0] ?? 'false', argv.slice(1), { cwd, stdio: 'inherit' });
    child.on('error', () => resolve(127));
    child.on('close', (code, signal) => resolve(code ?? (signal ? 128 : 1)));
  });

/** What this command has said and heard so far: a hub that takes over from a dead one repeats the first part. */
type Talk = {
  /** Characters on stdout since the last marks; the same ones come again and are passed over. */
  printed: number;
  repeats: number;
  any: boolean;
  /** How far the command has come by its own account: what lies before does not come again. */
  marks: Record<string, string>;
  /** Standard input is there once only. */
  heard: Buffer[];
  leaving: Leaving;
  /** Set while the terminal does not show what is typed. */
  hush: Hold | undefined;
  isBegun: boolean;
  /** How the last hub was lost. */
  lost: KhloneError | undefined;
};

let stdoutClosed = false;

/** A reader that went away (`| head`) is no error of ours: the work goes on, the printing stops. */
const print = (stream: NodeJS.WriteStream, text: string): Promise<void> =>
  new Promise((resolve) => {
    stream.write(text, () => resolve());
  });

const printAnswer = async (talk: Talk, text: string): Promise<void> => {
  const fresh = text.slice(talk.repeats);
  talk.repeats -= text.length - fresh.length;
  talk.printed += fresh.length;
  await print(process.stdout, fresh);
};

const keep = (talk: Talk, marks: Marks): void => {
  Object.assign(talk.marks, marks);
  talk.printed = 0;
  talk.repeats = 0;
};

/** A program of its own, loaded only where it is used. */
const attach = async (order: AttachOrder, signal: AbortSignal): Promise<number> => {
  const { attachHere } = (await import(bundle('attach.cjs'))) as typeof import('./attach/attach.ts');
  // At once: a program of another's that still holds something must not hold the prompt.
  process.exit(await attachHere(order, signal));
};

/** Undefined where the terminal has no such mode: what is typed then shows up in the view, and nothing worse. */
const hushKeys = (): Hold | undefined => {
  try {
    // The terminal that is drawn to, wherever the input comes from.
    return holdTerminal({ fd: 1, modes: '-echo', opening: () => '', closing: '' });
  } catch {
    return undefined;
  }
};

const obey = async (said: Said, peer: Peer, talk: Talk): Promise<number | undefined> => {
  const answer = async (n: number, value: unknown): Promise<void> => {
    await peer.call('answer', { n, value });
  };
  const orLeave = <T>(work: Promise<T>): Promise<T> => unlessLeaving(work, talk.leaving.leave);
  if ('x' in said) return said.x;
  if ('attach' in said) {
    peer.close();
    return attach(said.attach, talk.leaving.leave);
  }
  talk.any = true;
  if ('hush' in said) talk.hush ??= hushKeys();
  else if ('o' in said) await orLeave(printAnswer(talk, said.o));
  else if ('e' in said) await orLeave(print(process.stderr, said.e));
  else if ('sync' in said) await answer(said.sync, !stdoutClosed);
  else if ('ask' in said) await answer(said.ask, await askHere(said.text, said.secret, talk.leaving.leave));
  else if ('stdin' in said) {
    await orLeave(peer.call('answer-bytes', { n: said.stdin }, stdinBody(said.max, talk.heard)));
  } else {
    // The program has the terminal, and the signals of its keys: it is waited for.
    await answer(said.run, await runHere(said.argv, said.cwd));
  }
  if ('k' in said && said.k) keep(talk, said.k);
  return undefined;
};

const stdinBody = (max: number, heard: Buffer[]) => ({
  timeoutMs: ANSWER_TIMEOUT_MS,
  body: (async function* () {
    let size = 0;
    for (const piece of heard) {
      size += piece.length;
      yield piece;
    }
    if (size > max) return;
    for await (const piece of process.stdin) {
      size += (piece as Buffer).length;
      heard.push(piece as Buffer);
      yield piece as Buffer;
      if (size > max) return;
    }
  })(),
});

/** Tells the hub each new size of the terminal, and the end of each stop; what it returns ends that. */
const tellSizes = (peer: Peer): (() => void) => {
  const send = (anew: boolean): void => {
    peer.call('resize', { ...sizeHere(), anew }).catch(() => {});
  };
  const [tell, tellAnew] = [() => send(false), () => send(true)];
  const streams = [process.stdout, process.stderr];
  for (const stream of streams) stream.on('resize', tell);
  process.on('SIGCONT', tellAnew);
  return () => {
    process.off('SIGCONT', tellAnew);
    for (const stream of streams) stream.off('resize', tell);
  };
};

/** The terminal has echoed ^C: what comes next begins a line of its own, once. */
const beginLine = (talk: Talk): void => {
  if (!talk.hush && !talk.isBegun && process.stderr.isTTY) process.stderr.write('\n');
  talk.isBegun = true;
};

/** What comes to a person who has interrupted: what becomes of it, and no more of what it printed. */
const hearOut = (said: Said, talk: Talk): number | undefined => {
  if ('x' in said) return INTERRUPTED;
  if (!('e' in said)) return undefined;
  beginLine(talk);
  process.stderr.write(said.e);
  return undefined;
};

/** The hub hangs or is gone. */
const unheard = (talk: Talk): number => {
  beginLine(talk);
  process.stderr.write('⚠ the hub did not say what became of it\n  ↳ khlone status shows it\n');
  return INTERRUPTED;
};

/** One try at the hub. Undefined: the hub was lost in the middle, and the same command may be sent again. */
const attempt = async (argv: string[], nonce: string, talk: Talk): Promise<number | undefined> => {
  const { leave: signal, gone } = talk.leaving;
  let peer: Peer | undefined;
  let untell = (): void => {};
  const leave = (): void => void peer?.call('leave', {}).catch(() => {});
  try {
    peer = createPeer(await unlessLeaving(connectHub(), signal), {});
    untell = tellSizes(peer);
    const params = { ...invocationOf(argv, talk, nonce), build: __KHLONE_BUILD__ };
    signal.addEventListener('abort', leave);
    for await (const said of peer.subscribe(params, gone)) {
      const code = signal.aborted ? hearOut(said as Said, talk) : await obey(said as Said, peer, talk);
      if (code !== undefined) return code;
    }
    return signal.aborted ? unheard(talk) : undefined;
  } catch (thrown) {
    if (gone.aborted) return unheard(talk);
    if (signal.aborted) return INTERRUPTED;
    const error = asKhloneError(thrown);
    if (!(peer ? LOST : NOT_STARTED).has(error.code)) throw error;
    talk.lost = error;
    return undefined;
  } finally {
    untell();
    signal.removeEventListener('abort', leave);
    peer?.close();
  }
};

const main = async (argv: string[]): Promise<number> => {
  if (argv.length === 1 && argv[0] === '--version') {
    process.stdout.write(`${__KHLONE_VERSION__}\n`);
    return 0;
  }
  // The outermost caller mints the nonce: the shell's function did, if there is one.
  const given = process.env.KHLONE_NONCE;
  delete process.env.KHLONE_NONCE;
  const nonce = given && /^[A-Za-z0-9._-]{8,80}$/.test(given) ? given : mintNonce();
  const talk: Talk = {
    ...{ printed: 0, repeats: 0, any: false, marks: {}, heard: [] },
    ...{ leaving: leaveAtSignals(), hush: undefined, isBegun: false, lost: undefined },
  };
  try {
    const code = await converse(argv, nonce, talk);
    if (code === INTERRUPTED) beginLine(talk);
    return code;
  } finally {
    talk.hush?.giveBack();
  }
};

/** The exit code, from as many hubs as it takes. */
const converse = async (argv: string[], nonce: string, talk: Talk): Promise<number> => {
  for (let n = 0; n < TRIES; n += 1) {
    const begun = performance.now();
    talk.repeats = talk.printed;
    const code = await attempt(argv, nonce, talk);
    if (code !== undefined) return code;
    // A hub that cannot start says so after a while; one that was killed in its start, at once.
    const isSteady = performance.now() - begun > STEADY_MS;
    if (isSteady && talk.lost?.code === 'start-failed') throw talk.lost;
    // A wait of hours may see many hubs; only those that die at once are a fault.
    if (isSteady) n = 0;
  }
  const why = talk.lost ? `: ${talk.lost.message}` : '';
  throw new KhloneError('start-failed', `the hub ended again and again${why}`, 'khlone doctor');
};

process.stdout.on('error', () => {
  stdoutClosed = true;
});
process.stderr.on('error', () => {});
main(process.argv.slice(2)).then(
  (code) => {
    // At once: a hub that is still being started, or a full pipe, must not hold the prompt of somebody who left.
    if (code === INTERRUPTED) process.exit(code);
    process.exitCode = code;
    process.stdin.destroy();
  },
  (thrown) => {
    const error = asKhloneError(thrown);
    process.stderr.write(`✗ ${error.message}\n${error.hint ? `  ↳ ${error.hint}\n` : ''}`);
    process.exitCode = error.exit;
    process.stdin.destroy();
  },
);
