import { mkdirSync } from 'node:fs';
import { createServer, type Socket } from 'node:net';
import { dirname } from 'node:path';
import { KhloneError } from '../../protocol/error.ts';
import type { Home } from '../../protocol/home.ts';
import { type Answer, type Call, createPeer, type Handlers, items } from '../../protocol/peer.ts';
import { holdLifeLock, listenByRename, signalReady, socketPathIn } from '../../protocol/resident.ts';
import { runCommand } from '../cli.ts';
import { createApp } from './app.ts';
import { parseInvocation, startExchange } from './exchange.ts';

/** The hub's door: each connection is a caller with one command, spoken to in frames. */

export type HubSpec = { home: Home; version: string; serverBundle: string };

/** Callers at once; a shell has one, a script that starts hundreds in parallel waits in the kernel's queue. */
const MAX_CALLERS = 512;
const STDIN_MAX_BYTES = 64 * 1024 * 1024;

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

export const serveHub = async (spec: HubSpec): Promise<void> => {
  const { home } = spec;
  const socketPath = socketPathIn(home.root, 'hub');
  mkdirSync(dirname(socketPath), { recursive: true, mode: 0o700 });
  await holdLifeLock(home.hubLock);
  const ended = Promise.withResolvers<void>();
  let running = 0;
  let leaving = false;
  const leaveWhenIdle = (): void => {
    leaving = true;
    if (running === 0) setTimeout(() => ended.resolve(), 30);
  };
  const app = createApp(spec, leaveWhenIdle);

  const begin = (call: Call, exchange: { answer?: (n: number, value: unknown) => void }): Answer => {
    const { build, ...rest } = call.params as { build?: unknown };
    const invocation = parseInvocation(rest);
    // Hub and node command are one build: a newer command lets this hub finish and starts its own.
    if (build !== undefined && build !== spec.version) {
      leaveWhenIdle();
      closeSocket();
      throw new KhloneError('shutting-down', 'the hub is of another build and makes room');
    }
    if (leaving) throw new KhloneError('shutting-down', 'the hub is on its way out');
    running += 1;
    const started = startExchange(invocation, call, async (caller) => {
      try {
        return await runCommand(app, caller);
      } finally {
        running -= 1;
        if (leaving) leaveWhenIdle();
      }
    });
    exchange.answer = started.answer;
    return { value: {}, body: items(started.items), klass: 'interactive' };
  };

  const greet = (socket: Socket): void => {
    const exchange: { answer?: (n: number, value: unknown) => void } = {};
    const handlers: Handlers = {
      subscribe: (call) => begin(call, exchange),
      answer: (call) => {
        const { n, value } = call.params as { n?: unknown; value?: unknown };
        exchange.answer?.(Number(n), value);
        return { value: {} };
      },
      'answer-bytes': async (call) => {
        exchange.answer?.(Number((call.params as { n?: unknown }).n), await readStdin(call));
        return { value: {} };
      },
    };
    createPeer(socket, handlers);
  };

  const server = createServer(greet);
  server.maxConnections = MAX_CALLERS;
  const closeSocket = await listenByRename(server, socketPath);
  signalReady();
  for (const signal of ['SIGTERM', 'SIGINT'] as const) process.once(signal, () => ended.resolve());
  await ended.promise;
  closeSocket();
  server.close();
  for (const link of app.links()) link.close();
};
