import { createServer, type Socket } from 'node:net';
import { KhloneError } from '../../protocol/error.ts';
import type { Home } from '../../protocol/home.ts';
import { removeHubHome } from '../../protocol/leave.ts';
import { type Answer, type Call, createPeer, type Handlers, items } from '../../protocol/peer.ts';
import { ensureHome } from '../../protocol/private-dir.ts';
import { holdLifeLock, listenByRename, signalReady, socketPathIn } from '../../protocol/resident.ts';
import type { App } from '../app.ts';
import type { Caller } from '../caller.ts';
import { runCommand } from '../cli.ts';
import { createApp } from './app.ts';
import { type Channels, createChannels } from './attach-channel.ts';
import { relayAttach } from './attach-relay.ts';
import { type Exchange, parseInvocation, startExchange } from './exchange.ts';
import { RAW_MAGIC, serveRaw } from './raw.ts';

/** The hub's door: each connection is a caller with one command, spoken to in frames, or in the shell's own form. */

export type HubSpec = { home: Home; version: string; build: string; serverBundle: string };

/** Callers at once; a shell has one, a script that starts hundreds in parallel waits in the kernel's queue. */
const MAX_CALLERS = 512;
const STDIN_MAX_BYTES = 64 * 1024 * 1024;
/** How long running commands may take to end by themselves when the hub makes room for another build. */
const FINISH_WITHIN_MS = 2_000;
/** The last answer leaves before the process does. */
const LAST_WORDS_MS = 100;
/** Exit code of a command that could not go on (docs/errors.md: shutting-down). */
const STOPPED_EXIT = 4;

type Hub = {
  spec: HubSpec;
  app: App;
  channels: Channels;
  running: number;
  leaving: boolean;
  end: () => void;
  closeDoor: () => void;
  stopped: AbortSignal;
  /** Aborts a moment earlier: terminals that look into a zone are told while there is time. */
  stopping: AbortSignal;
};

const readStdin = async (call: Call): Promise<string> => {
  const pieces: Uint8Array[] = [];
  let size = 0;
  for await (const piece of call.body ?? []) {
    size += piece.length;
    if (size > STDIN_MAX_BYTES) throw new KhloneError('too-large', 'standard input is too long');
    pieces.push(piece);
  }
  return Buffer.concat(pieces).toString('base64');
};

const leaveWhenIdle = (hub: Hub): void => {
  hub.leaving = true;
  // Nobody new comes in: the next command starts a hub of its own.
  hub.closeDoor();
  // A command that waits for hours does not hold the next hub back: its node command asks that one again, by its nonce.
  setTimeout(hub.end, hub.running === 0 ? LAST_WORDS_MS : FINISH_WITHIN_MS);
};

/** The person stopped khlone: whoever still waits for something is told, and does not start it again. */
const perform = (hub: Hub, caller: Caller): Promise<number> =>
  new Promise((resolve) => {
    const onStop = (): void => {
      caller.err('✗ khlone was stopped\n  ↳ what was queued goes on with the next khlone command\n');
      resolve(STOPPED_EXIT);
    };
    hub.stopped.addEventListener('abort', onStop);
    hub.running += 1;
    const ended = (): void => {
      hub.stopped.removeEventListener('abort', onStop);
      hub.running -= 1;
      if (hub.leaving) leaveWhenIdle(hub);
    };
    // runCommand tells its own faults and never throws.
    void runCommand(hub.app, caller).then(resolve).finally(ended);
  });

type Answers = Partial<Pick<Exchange, 'answer' | 'resize' | 'leave'>>;

const begin = (hub: Hub, call: Call, answers: Answers): Answer => {
  const { build, ...rest } = call.params as { build?: unknown };
  const invocation = parseInvocation(rest);
  // Hub and node command are one build: a command of another build lets this hub finish and starts its own.
  if (build !== undefined && build !== hub.spec.build) leaveWhenIdle(hub);
  if (hub.leaving) throw new KhloneError('shutting-down', 'the hub is on its way out');
  const started = startExchange(invocation, call, (caller) => perform(hub, caller));
  answers.answer = started.answer;
  answers.resize = started.resize;
  answers.leave = started.leave;
  return { value: {}, body: items(started.items), klass: 'interactive' };
};

const serveFrames = (hub: Hub, socket: Socket): void => {
  const answers: Answers = {};
  const handlers: Handlers = {
    subscribe: (call) => begin(hub, call, answers),
    answer: (call) => {
      const { n, value } = call.params as { n?: unknown; value?: unknown };
      answers.answer?.(Number(n), value);
      return { value: {} };
    },
    resize: (call) => {
      answers.resize?.(call.params);
      return { value: {} };
    },
    leave: () => {
      answers.leave?.();
      return { value: {} };
    },
    attach: (call) => relayAttach(hub, call),
    'answer-bytes': async (call) => {
      answers.answer?.(Number((call.params as { n?: unknown }).n), await readStdin(call));
      return { value: {} };
    },
  };
  createPeer(socket, handlers);
};

/** The first byte tells the form: a frame begins with its length, which is never as large as a letter would make it. */
const greet = (hub: Hub, socket: Socket): void => {
  socket.on('error', () => socket.destroy());
  socket.once('data', (first) => {
    socket.pause();
    socket.unshift(first);
    if (first[0] !== RAW_MAGIC.charCodeAt(0)) serveFrames(hub, socket);
    else serveRaw(socket, (caller) => perform(hub, caller)).catch(() => socket.destroy());
    socket.resume();
  });
};

export const serveHub = async (spec: HubSpec): Promise<void> => {
  const { home } = spec;
  const socketPath = socketPathIn(home.root, 'hub');
  ensureHome(home.root);
  await holdLifeLock(home.hubLock);
  const ended = Promise.withResolvers<void>();
  const stopped = new AbortController();
  const stopping = new AbortController();
  let leaves = false;
  const app = createApp(spec, (isLast) => {
    leaves = isLast;
    leaveWhenIdle(hub);
    stopping.abort();
    // The command that said so ends first, with its own words.
    setTimeout(() => stopped.abort(), LAST_WORDS_MS);
  });
  const server = createServer((socket) => greet(hub, socket));
  server.maxConnections = MAX_CALLERS;
  const hub: Hub = {
    ...{
      spec,
      app,
      channels: createChannels(),
      running: 0,
      leaving: false,
      end: ended.resolve,
      stopped: stopped.signal,
    },
    stopping: stopping.signal,
    closeDoor: await listenByRename(server, socketPath, ended.resolve),
  };
  signalReady();
  for (const signal of ['SIGTERM', 'SIGINT'] as const) process.once(signal, hub.end);
  await ended.promise;
  hub.closeDoor();
  server.close();
  for (const link of app.links()) link.close();
  if (leaves) removeHubHome(home);
};
