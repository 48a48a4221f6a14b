import { createServer, type Socket } from 'node:net';
import { KhloneError } from '../../protocol/error.ts';
import type { Home } from '../../protocol/home.ts';
import { type Answer, type Call, createPeer, type Handlers, items } from '../../protocol/peer.ts';
import { ensureHome } from '../../protocol/private-dir.ts';
import { holdLifeLock, listenByRename, signalReady, socketPathIn } from '../../protocol/resident.ts';
import type { App } from '../app.ts';
import type { Caller } from '../caller.ts';
import { runCommand } from '../cli.ts';
import { createApp } from './app.ts';
import { parseInvocation, startExchange } from './exchange.ts';
import { RAW_MAGIC, serveRaw } from './raw.ts';

/** The hub's door: each connection is a caller with one command, spoken to in frames, or in the shell's own form. */

export type HubSpec = { home: Home; version: string; build: string; serverBundle: string };

/** Callers at once; a shell has one, a script that starts hundreds in parallel waits in the kernel's queue. */
const MAX_CALLERS = 512;
const STDIN_MAX_BYTES = 64 * 1024 * 1024;
/** The last answer leaves before the process does. */
const LAST_WORDS_MS = 30;

type Hub = {
  spec: HubSpec;
  app: App;
  running: number;
  leaving: boolean;
  end: () => void;
  closeDoor: () => void;
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
  if (hub.running === 0) setTimeout(hub.end, LAST_WORDS_MS);
};

const perform = async (hub: Hub, caller: Caller): Promise<number> => {
  hub.running += 1;
  try {
    return await runCommand(hub.app, caller);
  } finally {
    hub.running -= 1;
    if (hub.leaving) leaveWhenIdle(hub);
  }
};

type Answers = { answer?: (n: number, value: unknown) => void };

const begin = (hub: Hub, call: Call, answers: Answers): Answer => {
  const { build, ...rest } = call.params as { build?: unknown };
  const invocation = parseInvocation(rest);
  // Hub and node command are one build: a command of another build lets this hub finish and starts its own.
  if (build !== undefined && build !== hub.spec.build) leaveWhenIdle(hub);
  if (hub.leaving) throw new KhloneError('shutting-down', 'the hub is on its way out');
  const started = startExchange(invocation, call, (caller) => perform(hub, caller));
  answers.answer = started.answer;
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
  const app = createApp(spec, () => leaveWhenIdle(hub));
  const server = createServer((socket) => greet(hub, socket));
  server.maxConnections = MAX_CALLERS;
  const hub: Hub = {
    ...{ spec, app, running: 0, leaving: false, end: ended.resolve },
    closeDoor: await listenByRename(server, socketPath),
  };
  signalReady();
  for (const signal of ['SIGTERM', 'SIGINT'] as const) process.once(signal, hub.end);
  await ended.promise;
  hub.closeDoor();
  server.close();
  for (const link of app.links()) link.close();
};
