import { Duplex, type Readable, type Writable } from 'node:stream';
import { setTimeout as delay } from 'node:timers/promises';
import { KhloneError } from '../../protocol/error.ts';
import { createMagicScanner, newNonce, WIRE_MAGIC } from '../../protocol/magic.ts';
import { type Build, bootstrap, type Setup } from '../../provision/bootstrap.ts';
import { PROBE_SCRIPT } from '../../provision/probe.ts';
import {
  type Exec,
  type ExecResult,
  markedCommand,
  oneLine,
  relayCommand,
} from '../../provision/remote-shell.ts';
import { createStageDeadline } from './ssh-deadline.ts';

/** A program on the host, its three streams carried by some ssh. */
export type RemoteProcess = {
  readonly stdin: Writable;
  readonly stdout: Readable;
  readonly stderr: Readable;
  /** Settles when it has ended and all its output was read; code null: by a signal, or the connection went. */
  readonly ended: Promise<{ readonly code: number | null; readonly lost: boolean }>;
  kill(): void;
};
/** Runs a command by the login shell; undefined: the host opens no further session just now. */
export type Spawn = (command: string) => Promise<RemoteProcess | undefined>;

/** How long a login shell may take before our program speaks: rc files are slow on some hosts. */
const MAGIC_DEADLINE_MS = 30_000;
/** How long a script on the host may be silent in both directions. */
const EXEC_IDLE_MS = 60_000;
const STDERR_KEPT_BYTES = 32_768;
const STDOUT_MAX_BYTES = 1 << 20;
const SLICE_BYTES = 65_536;
/** Exit code of a relay whose server did not start: installing it again would not help. */
const RELAY_START_FAILED = 4;

/** The last bytes of a stream, which is read for as long as it lasts. */
const keepTail = (stream: Readable, maxBytes: number): (() => string) => {
  let tail: Buffer = Buffer.alloc(0);
  stream.on('data', (chunk: Buffer) => {
    tail = Buffer.concat([tail, chunk]).subarray(-maxBytes);
  });
  stream.on('error', () => {});
  return () => tail.toString('utf8');
};

type Opening =
  | { readonly kind: 'found'; readonly word: string }
  | { readonly kind: 'ended'; readonly code: number | null; readonly lost: boolean }
  | { readonly kind: 'silent' }
  | { readonly kind: 'too-noisy' };

/** Reads up to the magic line. When it is found, stdout is paused and its next byte is the first after that line. */
export const awaitMagic = (
  process: RemoteProcess,
  nonce: string,
  withinMs = MAGIC_DEADLINE_MS,
): Promise<Opening & { noise: Buffer }> =>
  new Promise((resolve) => {
    const scanner = createMagicScanner(nonce);
    const settle = (opening: Opening, noise = scanner.noise()) => {
      clearTimeout(timer);
      process.stdout.off('data', onData);
      resolve({ ...opening, noise });
    };
    const timer = setTimeout(() => settle({ kind: 'silent' }), withinMs);
    const onData = (chunk: Buffer) => {
      const scan = scanner.push(chunk);
      if (scan === undefined) return;
      process.stdout.pause();
      settle(scan.kind === 'found' ? { kind: 'found', word: scan.word } : { kind: 'too-noisy' }, scan.noise);
      if (scan.kind === 'found' && scan.rest.length > 0) process.stdout.unshift(scan.rest);
    };
    process.stdout.on('data', onData);
    void process.ended.then((end) => settle({ kind: 'ended', ...end }));
  });

/** The streams of a started relay as one well-behaved Duplex: it ends when the relay does, and destroys it. */
const asDuplex = (process: RemoteProcess): Duplex => {
  const duplex = new Duplex({
    highWaterMark: SLICE_BYTES,
    read: () => {
      process.stdout.resume();
    },
    // A write to a process that has gone is no news: its end tells more.
    write: (chunk: Buffer, _encoding, done) => {
      process.stdin.write(chunk, () => done());
    },
    final: (done) => {
      process.stdin.end();
      done();
    },
    destroy: (error, done) => {
      process.kill();
      done(error);
    },
  });
  process.stdout.on('data', (chunk: Buffer) => {
    if (!duplex.push(chunk)) process.stdout.pause();
  });
  process.stdout.once('end', () => duplex.push(null));
  // A write that waits for a window on a dead channel is never answered, so the end of the process ends it.
  void process.ended.then(({ lost }) => {
    if (lost) duplex.destroy();
    else if (duplex.readableEnded) duplex.destroy();
    else duplex.once('end', () => duplex.destroy());
  });
  return duplex;
};

async function* slices(body: Readable | Buffer): AsyncGenerator<Buffer> {
  if (!Buffer.isBuffer(body)) {
    yield* body;
    return;
  }
  for (let at = 0; at < body.length; at += SLICE_BYTES) yield body.subarray(at, at + SLICE_BYTES);
}

/** Sends `body` as fast as the host takes it; stops early, without an error, when the script ends before it is sent. */
const feed = async (process: RemoteProcess, body: Readable | Buffer, alive: () => void): Promise<void> => {
  let over = false;
  const ended = process.ended.then(() => {
    over = true;
  });
  for await (const slice of slices(body)) {
    const taken = new Promise<void>((done) => process.stdin.write(slice, () => done()));
    await Promise.race([taken, ended]);
    if (over) return;
    alive();
  }
  process.stdin.end();
};

const lostConnection = (host: string) =>
  new KhloneError(
    'unreachable',
    `the connection to ${host} ended during set-up`,
    'khlone reconnect tries again',
  );

const notOurs = (host: string, opening: { kind: string; noise: Buffer }, said: string): KhloneError => {
  if (opening.noise.includes(`${WIRE_MAGIC} -`))
    return new KhloneError(
      'remote-setup',
      `the relay on ${host} was started without a nonce`,
      `update khlone on ${host}`,
    );
  const shown = oneLine(Buffer.concat([opening.noise, Buffer.from(said)]));
  const why = {
    silent: `its login shell said nothing of ours within ${MAGIC_DEADLINE_MS / 1000} s`,
    'too-noisy': 'its login shell prints too much before a command runs',
  }[opening.kind];
  return new KhloneError(
    'remote-setup',
    `${host} did not start khlone-server: ${why ?? 'it does not run what it is asked (a forced command?)'}` +
      `${shown === '' ? '' : `; it said: ${shown}`}`,
    `look at it with: ssh ${host} true`,
  );
};

/** sshd frees a session a moment after it closed its channel; where MaxSessions is 1 the next one may come too early. */
const OPEN_RETRIES_MS = [25, 50, 100, 200, 400, 800];

const spawnPatiently = async (spawn: Spawn, host: string, command: string): Promise<RemoteProcess> => {
  for (const waitMs of OPEN_RETRIES_MS) {
    const process = await spawn(command);
    if (process) return process;
    await delay(waitMs);
  }
  throw new KhloneError(
    'remote-setup',
    `${host} opens no session (MaxSessions?)`,
    `look at it with: ssh ${host}`,
  );
};

/** The `Exec` that bootstrap works with: one channel per script, one after the other, so MaxSessions 1 is enough. */
export const createExec =
  (spawn: Spawn, host: string): Exec =>
  async (script, stdin): Promise<ExecResult> => {
    const nonce = newNonce();
    const process = await spawnPatiently(spawn, host, markedCommand(script, nonce));
    const said = keepTail(process.stderr, STDERR_KEPT_BYTES);
    const opening = await awaitMagic(process, nonce);
    if (opening.kind !== 'found') {
      process.kill();
      throw opening.kind === 'ended' && opening.lost ? lostConnection(host) : notOurs(host, opening, said());
    }
    let late = false;
    const deadline = createStageDeadline(EXEC_IDLE_MS, () => {
      late = true;
      process.kill();
    });
    const alive = () => deadline.restart(EXEC_IDLE_MS);
    process.stdout.on('data', alive);
    const out = keepTail(process.stdout, STDOUT_MAX_BYTES);
    process.stdout.resume();
    try {
      await feed(process, stdin ?? Buffer.alloc(0), alive);
      const { code, lost } = await process.ended;
      if (late || lost) throw lostConnection(host);
      return { code, stdout: out(), stderr: said() };
    } finally {
      deadline.end();
    }
  };

type Attempt =
  | { readonly duplex: Duplex }
  | { readonly failed: KhloneError; readonly setupMayHelp: boolean; readonly probed?: string };

const tryRelay = async (spawn: Spawn, host: string, build: Build): Promise<Attempt> => {
  const nonce = newNonce();
  const process = await spawnPatiently(spawn, host, relayCommand(build.name, nonce, PROBE_SCRIPT));
  const said = keepTail(process.stderr, STDERR_KEPT_BYTES);
  const opening = await awaitMagic(process, nonce);
  if (opening.kind === 'found' && opening.word === '') return { duplex: asDuplex(process) };
  if (opening.kind === 'found') {
    const probed = keepTail(process.stdout, STDOUT_MAX_BYTES);
    const deadline = createStageDeadline(EXEC_IDLE_MS, () => process.kill());
    process.stdout.resume();
    const { code, lost } = await process.ended;
    deadline.end();
    if (lost) throw lostConnection(host);
    const failed = new KhloneError(
      'remote-setup',
      `${host} still lacks khlone-server ${build.name} after set-up`,
    );
    return { failed, setupMayHelp: true, ...(code === 0 && { probed: probed() }) };
  }
  process.kill();
  if (opening.kind === 'ended' && opening.lost) throw lostConnection(host);
  if (opening.kind !== 'ended') return { failed: notOurs(host, opening, said()), setupMayHelp: false };
  const words = oneLine(said()) || oneLine(opening.noise) || `exit ${opening.code}`;
  const failed = new KhloneError(
    'remote-setup',
    `khlone-server does not start on ${host}: ${words}`,
    `look at it with: ssh ${host}`,
  );
  return { failed, setupMayHelp: opening.code !== RELAY_START_FAILED };
};

/**
 * Starts the relay, optimistically: a host that has this build costs one channel. Anything that looks like "not
 * installed" or "broken" is set up over the same connection, once, and tried again.
 */
export const startRelay = async (spawn: Spawn, what: Setup): Promise<Duplex> => {
  const first = await tryRelay(spawn, what.host, what.build);
  if ('duplex' in first) return first.duplex;
  if (!first.setupMayHelp) throw first.failed;
  await bootstrap(createExec(spawn, what.host), { ...what, probed: first.probed });
  const second = await tryRelay(spawn, what.host, what.build);
  if ('duplex' in second) return second.duplex;
  throw second.failed;
};
