import { spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { realpathSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import type { Duplex } from 'node:stream';
import { asKhloneError, KhloneError } from '../protocol/error.ts';
import { homeOf } from '../protocol/home.ts';
import { createPeer, type Peer } from '../protocol/peer.ts';
import { connectOrStart, socketPathIn } from '../protocol/resident.ts';
import type { Invocation } from './caller.ts';
import type { Said } from './hub/exchange.ts';

/**
 * The node command: owns the terminal, stdin and signals, and lets the hub do the work. It stays small, because its
 * start-up is what a person waits for without the shell's own path.
 */

declare const __KHLONE_VERSION__: string;
declare const __KHLONE_BUILD__: string;

/** A hub that was killed is started again and asked the same thing; a hub that keeps dying is an error. */
const TRIES = 3;
const HUB_DEADLINE_MS = 15_000;
const ANSWER_TIMEOUT_MS = 2 ** 31 - 1;

const invocationOf = (argv: string[], repeated: boolean, nonce: string): Invocation => ({
  argv,
  cwd: process.cwd(),
  env: Object.fromEntries(
    Object.entries(process.env).filter((e): e is [string, string] => e[1] !== undefined),
  ),
  nonce,
  repeated,
  terminal: {
    stdin: process.stdin.isTTY === true,
    stdout: process.stdout.isTTY === true,
    stderr: process.stderr.isTTY === true,
    columns: process.stderr.columns || process.stdout.columns || 80,
  },
});

/** A line at the terminal; a secret is read without echo. */
const askHere = (text: string, secret: boolean): Promise<string> =>
  new Promise((resolve, reject) => {
    process.stderr.write(text);
    const input = createInterface({ input: process.stdin, terminal: false });
    if (secret) process.stdin.setRawMode?.(false);
    const silence = secret ? spawn('stty', ['-echo'], { stdio: ['inherit', 'ignore', 'ignore'] }) : undefined;
    const restore = (): void => {
      if (silence) spawn('stty', ['echo'], { stdio: ['inherit', 'ignore', 'ignore'] }).on('error', () => {});
      if (secret) process.stderr.write('\n');
    };
    silence?.on('error', () => {});
    input.once('line', (line) => {
      restore();
      input.close();
      resolve(line);
    });
    input.once('close', () => reject(new KhloneError('interrupted', 'no answer')));
  });

const runHere = (argv: string[], cwd: string): Promise<number> =>
  new Promise((resolve) => {
    const child = spawn(argv[0] ?? 'false', argv.slice(1), { cwd, stdio: 'inherit' });
    child.on('error', () => resolve(127));
    child.on('close', (code, signal) => resolve(code ?? (signal ? 128 : 1)));
  });

type Printed = { any: boolean };

/** A reader that went away (`| head`) is no error of ours: the work goes on, the printing stops. */
const print = (stream: NodeJS.WriteStream, text: string): Promise<void> =>
  new Promise((resolve) => {
    stream.write(text, () => resolve());
  });

const obey = async (said: Said, peer: Peer, printed: Printed): Promise<number | undefined> => {
  const answer = async (n: number, value: unknown): Promise<void> => {
    await peer.call('answer', { n, value });
  };
  if ('o' in said) {
    printed.any = true;
    await print(process.stdout, said.o);
  } else if ('e' in said) {
    printed.any = true;
    await print(process.stderr, said.e);
  } else if ('ask' in said) await answer(said.ask, await askHere(said.text, said.secret));
  else if ('stdin' in said) await peer.call('answer-bytes', { n: said.stdin }, stdinBody(said.max));
  else if ('run' in said) await answer(said.run, await runHere(said.argv, said.cwd));
  else return said.x;
  return undefined;
};

const stdinBody = (max: number) => ({
  timeoutMs: ANSWER_TIMEOUT_MS,
  body: (async function* () {
    let size = 0;
    for await (const piece of process.stdin) {
      size += (piece as Buffer).length;
      yield piece as Buffer;
      if (size > max) return;
    }
  })(),
});

const bundle = (name: string): string => join(realpathSync(__dirname), name);

const connectHub = (): Promise<Duplex> => {
  const home = homeOf(process.env);
  return connectOrStart({
    socketPath: socketPathIn(home.root, 'hub'),
    startLockPath: home.hubStartLock,
    spawn: { argv: [process.execPath, bundle('hub.mjs')], env: { ...process.env }, cwd: '/' },
    bootLogPath: home.bootLog('hub'),
    deadlineMs: HUB_DEADLINE_MS,
  });
};

/** One try at the hub. Undefined: the hub was lost in the middle, and the same command may be sent again. */
const attempt = async (argv: string[], nonce: string, printed: Printed): Promise<number | undefined> => {
  const peer = createPeer(await connectHub(), {});
  const leave = new AbortController();
  const onSignal = (): void => leave.abort();
  process.on('SIGINT', onSignal);
  process.on('SIGTERM', onSignal);
  try {
    const params = { ...invocationOf(argv, printed.any, nonce), build: __KHLONE_BUILD__ };
    for await (const said of peer.subscribe(params, leave.signal)) {
      const code = await obey(said as Said, peer, printed);
      if (code !== undefined) return code;
    }
    return undefined;
  } catch (thrown) {
    if (leave.signal.aborted) return 130;
    const error = asKhloneError(thrown);
    if (error.code === 'unreachable' || error.code === 'shutting-down') return undefined;
    throw error;
  } finally {
    process.off('SIGINT', onSignal);
    process.off('SIGTERM', onSignal);
    peer.close();
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
  const nonce = given && /^[A-Za-z0-9._-]{8,80}$/.test(given) ? given : randomBytes(16).toString('hex');
  const printed: Printed = { any: false };
  for (let n = 0; n < TRIES; n += 1) {
    const code = await attempt(argv, nonce, printed);
    if (code !== undefined) return code;
  }
  throw new KhloneError('start-failed', 'the hub ended again and again', 'khlone doctor');
};

process.stdout.on('error', () => {});
process.stderr.on('error', () => {});
main(process.argv.slice(2)).then(
  (code) => {
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
