import { spawn } from 'node:child_process';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { createHolder, type Holder } from '../../../src/server/tmux/panes.ts';
import { createScratchTmux, eventually, isAlive } from './scratch-tmux.ts';

/** A khlone-server that was killed leaves a control client that cannot be told anything: tmux waits for it for ever. */

let scratch: ReturnType<typeof createScratchTmux>;
let holder: Holder;
let orphan: number;

const RUN = { clone: 'a.1', argv: ['/bin/sleep', '1000'], env: {}, cwd: '/' };
const clients = (): string[] => scratch.ask('list-clients', '-F', '#{client_pid}').trim().split('\n');

beforeEach(async () => {
  scratch = createScratchTmux();
  holder = createHolder(scratch.where);
  await holder.start(RUN);
  const words = ['-S', scratch.where.socketPath, '-C', 'attach-session', '-t', '=khlone'];
  const client = spawn('tmux', words, { stdio: ['pipe', 'pipe', 'ignore'], detached: true });
  client.on('error', () => undefined);
  client.stdin.on('error', () => undefined);
  orphan = client.pid ?? 0;
  await eventually('a second client', () => clients().includes(String(orphan)));
  // Its reader is gone before tmux has a word for it, and so is its writer, as after a kill -9.
  client.stdout.destroy();
  scratch.ask('new-window', '-d', '-t', '=khlone:', 'sleep 1000');
  client.stdin.destroy();
});
afterEach(() => {
  if (isAlive(orphan)) process.kill(orphan, 'SIGKILL');
  scratch.remove();
});

test('the next server ends it', async () => {
  expect(isAlive(orphan)).toBe(true);
  const next = createHolder(scratch.where);
  await holder.close();
  expect(await next.list()).toHaveLength(1);
  await eventually('the end of the orphan', () => !isAlive(orphan));
  await next.close();
});

test('tmux ends although it is there', async () => {
  const pid = scratch.serverPid();
  await holder.shutDown();
  expect(isAlive(pid)).toBe(false);
  const next = createHolder(scratch.where);
  await next.start(RUN);
  await next.shutDown();
});
