import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { connect, createServer, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Duplex, PassThrough } from 'node:stream';
import { setTimeout as delay } from 'node:timers/promises';
import { createPeer, type Handlers, type Peer, type PeerOptions } from '../../src/protocol/peer.ts';

/** Two ends of one real unix socket. */
export const socketPair = async (): Promise<[Socket, Socket]> => {
  const folder = mkdtempSync(join(tmpdir(), 'khlone-wire-'));
  const server = createServer();
  server.listen(join(folder, 's'));
  await once(server, 'listening');
  const near = connect(join(folder, 's'));
  const [[far]] = await Promise.all([once(server, 'connection'), once(near, 'connect')]);
  server.close();
  rmSync(folder, { recursive: true, force: true });
  return [near, far as Socket];
};

/** Two peers on one socket: `near` calls `far`'s handlers. */
export const peers = async (
  handlers: Handlers,
  own: Handlers = {},
  options: PeerOptions = {},
): Promise<{ near: Peer; far: Peer; sockets: [Socket, Socket]; close(): Promise<void> }> => {
  const sockets = await socketPair();
  const near = createPeer(sockets[0], own, options);
  const far = createPeer(sockets[1], handlers, options);
  const close = async (): Promise<void> => {
    near.close();
    far.close();
    await Promise.all(sockets.map((socket) => socket.closed || once(socket, 'close')));
  };
  return { near, far, sockets, close };
};

/** One direction of a slow line: at most `bytesPerSecond`, and no more than 16 KiB waiting in it. */
const slowLine = (bytesPerSecond: number): PassThrough => {
  const line = new PassThrough({ highWaterMark: 16 * 1024 });
  const write = line._transform.bind(line);
  line._transform = (chunk: Buffer, encoding, done) => {
    void delay((chunk.length / bytesPerSecond) * 1000).then(() => write(chunk, encoding, done));
  };
  return line;
};

/** Two duplexes joined by two slow lines. */
export const slowPair = (bytesPerSecond: number): [Duplex, Duplex] => {
  const [out, back] = [slowLine(bytesPerSecond), slowLine(bytesPerSecond)];
  return [Duplex.from({ readable: back, writable: out }), Duplex.from({ readable: out, writable: back })];
};

/** Wait until the condition holds; throws after `deadlineMs`. */
export const until = async (holds: () => boolean, deadlineMs = 5_000): Promise<void> => {
  const end = performance.now() + deadlineMs;
  while (!holds()) {
    if (performance.now() > end) throw new Error(`still not so after ${deadlineMs} ms: ${holds}`);
    await delay(2);
  }
};
