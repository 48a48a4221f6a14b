import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { connect, createServer, type Socket } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { openTcp } from '../../../src/client/link/tcp.ts';
import { until } from '../../fixtures/server.ts';

/** A host whose kernel drops first packets: its program is stopped, and its queue of connections is full. */

const BACKLOG = 1;
const PROGRAM = `const s = require('node:net').createServer((sock) => sock.on('error', () => {}).pipe(sock));
s.listen({ port: 0, host: '127.0.0.1', backlog: ${BACKLOG} }, () => console.log(s.address().port));`;

let host: ChildProcess;
let port: number;
let sockets: Socket[];
const never = new AbortController().signal;

beforeEach(async () => {
  sockets = [];
  host = spawn(process.execPath, ['-e', PROGRAM], { stdio: ['ignore', 'pipe', 'inherit'] });
  const [said] = host.stdout ? await once(host.stdout, 'data') : [''];
  port = Number(String(said));
});
afterEach(() => {
  for (const sock of sockets) sock.destroy();
  host.kill('SIGKILL');
});

/** How many connections wait to be taken: for a socket that listens (0A), the kernel shows it as bytes to be read. */
const waiting = (): number => {
  const at = `:${port.toString(16).toUpperCase().padStart(4, '0')} 00000000:0000 0A `;
  const line = readFileSync('/proc/net/tcp', 'latin1')
    .split('\n')
    .find((row) => row.includes(at));
  return Number.parseInt(/ 0A [0-9A-F]{8}:([0-9A-F]{8}) /.exec(line ?? '')?.[1] ?? '', 16);
};

const stopTaking = async (): Promise<void> => {
  host.kill('SIGSTOP');
  for (let n = 0; n < 3; n += 1) sockets.push(connect(port, '127.0.0.1').on('error', () => {}));
  await until('the queue of connections is full', () => waiting() > BACKLOG);
};

it('knocks again where it was let in before, and does not wait for the kernel to say it again', async () => {
  sockets.push((await openTcp('127.0.0.1', port, 1_000, never)).sock);
  await stopTaking();
  const opening = openTcp('127.0.0.1', port, 10_000, never);
  // The moment is what is tried: just past the kernel's first second, long before its next knock at 2 s or 3 s.
  await delay(1_150);
  host.kill('SIGCONT');
  const begun = performance.now();
  const { sock } = await opening;
  sockets.push(sock);
  expect(performance.now() - begun).toBeLessThan(650);
  sock.write('still open');
  const [answer] = await once(sock, 'data', { signal: AbortSignal.timeout(5_000) });
  expect(String(answer)).toBe('still open');
});

it('gives up at its deadline, and when it is told to', async () => {
  await stopTaking();
  await expect(openTcp('127.0.0.1', port, 300, never)).rejects.toMatchObject({ code: 'ETIMEDOUT' });
  const leave = AbortSignal.timeout(200);
  await expect(openTcp('127.0.0.1', port, 10_000, leave)).rejects.toMatchObject({ name: 'TimeoutError' });
});

it('knocks once at a stranger’s door', async () => {
  const seen: Socket[] = [];
  const server = createServer((sock) => void seen.push(sock));
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const address = server.address();
  if (typeof address !== 'object' || !address) throw new Error('no port');
  const { sock, rttMs } = await openTcp('127.0.0.1', address.port, 1_000, never);
  sockets.push(sock);
  // Nothing may come: longer than knocks are apart where they are repeated.
  await delay(700);
  expect(seen).toHaveLength(1);
  expect(rttMs).toBeLessThan(500);
  for (const one of seen) one.destroy();
  server.close();
});
