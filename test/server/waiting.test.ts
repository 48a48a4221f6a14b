import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, expect, test } from 'vitest';
import type { ZoneSpec } from '../../src/protocol/calls.ts';
import type { Peer } from '../../src/protocol/peer.ts';
import { processesOf } from '../../src/server/run-dir.ts';
import {
  addTask,
  answerOf,
  bringEnvironment,
  call,
  journalOf,
  kill9,
  makeZone,
  newId,
  processesWith,
  type ServerWish,
  startServer,
  startZone,
  type Task,
  type TestServer,
  until,
  untilItem,
  untilTask,
} from '../fixtures/server.ts';

/** What a task waits for, and what lets it go on. */

let server: TestServer;
let peer: Peer;
afterEach(() => server.dispose());

const begin = async (wish: ServerWish = {}): Promise<ZoneSpec> => {
  server = await startServer(wish);
  peer = await server.peer();
  return makeZone(server);
};
const beginReady = async (wish: ServerWish = {}): Promise<ZoneSpec> => {
  const ground = await startZone(wish);
  ({ server, peer } = ground);
  return ground.zone;
};
const held = (zone: ZoneSpec, id: string): Promise<Task> => untilTask(peer, zone, id, ['held']);

test('a task whose environment hub and server forgot waits for it, and goes on when it comes', async () => {
  const zone = await beginReady();
  await untilTask(peer, zone, (await addTask(peer, zone, 'true')).task.id);
  await server.kill9();
  peer = await server.peer();
  // Another session, because the process of the first one lives and has what it was started with.
  const added = await addTask(peer, zone, 'echo "$SECRET"', { session: 'another' });
  expect(added.needsEnvironment).toBe(true);
  expect(await held(zone, added.task.id)).toMatchObject({ hold: 'environment' });
  server.env.SECRET = 'from the shell';
  expect(await bringEnvironment(peer, server, zone)).toEqual({ taken: true });
  expect((await untilTask(peer, zone, added.task.id)).state).toBe('done');
  expect((await answerOf(peer, added.task.id)).answer).toBe('from the shell');
});

test('the environment of the shell that came first stays until it is refreshed, also for a process that waits', async () => {
  const zone = await begin({ env: { WORD: 'first' } });
  await bringEnvironment(peer, server, zone);
  const word = async (): Promise<string> => {
    const { task } = await addTask(peer, zone, 'echo "$WORD"');
    await untilTask(peer, zone, task.id, ['done']);
    return (await answerOf(peer, task.id)).answer;
  };
  expect(await word()).toBe('first');
  server.env.WORD = 'second';
  expect(await bringEnvironment(peer, server, zone)).toEqual({ taken: false });
  expect(await word()).toBe('first');
  expect(await bringEnvironment(peer, server, zone, true)).toEqual({ taken: true });
  expect(await word()).toBe('second');
});

test('no environment is ever written to the disk', async () => {
  const zone = await begin({ env: { MY_SECRET: 'f5e1-nobody-may-read-this' } });
  await bringEnvironment(peer, server, zone);
  const { task } = await addTask(peer, zone, 'test -n "$MY_SECRET"');
  expect((await untilTask(peer, zone, task.id)).state).toBe('done');
  const files = readdirSync(server.home.root, { recursive: true, withFileTypes: true }).filter((e) =>
    e.isFile(),
  );
  const guilty = files.filter((file) =>
    readFileSync(join(file.parentPath, file.name), 'latin1').includes(server.env.MY_SECRET ?? ''),
  );
  expect(guilty.map((file) => file.name)).toEqual([]);
});

test('a task whose worktree vanished waits with the reason, and goes on when it is back', async () => {
  const zone = await beginReady();
  rmSync(zone.path, { recursive: true });
  const { task } = await addTask(peer, zone, 'touch here');
  expect(await held(zone, task.id)).toMatchObject({
    hold: 'start',
    message: expect.stringContaining(zone.path),
  });
  mkdirSync(zone.path);
  await call(peer, 'task.retry', { task: task.id, id: newId() });
  expect((await untilTask(peer, zone, task.id)).state).toBe('done');
  expect(readdirSync(zone.path)).toEqual(['here']);
});

test('without a tmux that will do a task waits and says what to install; with one, it goes on', async () => {
  const bin = mkdtempSync(join(tmpdir(), 'khlone-bin-'));
  writeFileSync(join(bin, 'tmux'), '#!/bin/sh\necho tmux 2.9\n', { mode: 0o755 });
  const zone = await beginReady({ env: { PATH: `${bin}:${process.env.PATH}` } });
  const { task } = await addTask(peer, zone, 'true');
  expect(await held(zone, task.id)).toMatchObject({ hold: 'tmux', hint: expect.stringContaining('apt-get') });
  rmSync(bin, { recursive: true });
  await call(peer, 'task.retry', { task: task.id, id: newId() });
  expect((await untilTask(peer, zone, task.id)).state).toBe('done');
});

test('tmux that is killed stops no work, and the next run gets a new one', async () => {
  const zone = await beginReady();
  const long = await addTask(peer, zone, 'touch began; until test -e go; do sleep 0.02; done; echo whole');
  await until('the script', () => readdirSync(zone.path).includes('began'));
  const before = server.tmuxPid();
  kill9([before ?? 0]);
  writeFileSync(join(zone.path, 'go'), '');
  expect((await untilTask(peer, zone, long.task.id)).state).toBe('done');
  expect((await answerOf(peer, long.task.id)).answer).toBe('whole');
  const next = await addTask(peer, zone, 'true', { session: 'another' });
  expect((await untilTask(peer, zone, next.task.id)).state).toBe('done');
  expect(server.tmuxPid()).not.toBe(before);
});

test('a paused queue keeps what waits and lets what runs end', async () => {
  const zone = await beginReady();
  const first = await addTask(peer, zone, 'touch began; until test -e go; do sleep 0.02; done');
  await until('the script', () => readdirSync(zone.path).includes('began'));
  const second = await addTask(peer, zone, 'touch second');
  await call(peer, 'queue.pause', { zone: zone.id, paused: true });
  writeFileSync(join(zone.path, 'go'), '');
  expect((await untilTask(peer, zone, first.task.id)).state).toBe('done');
  expect((await answerOf(peer, second.task.id)).task.state).toBe('queued');
  await call(peer, 'queue.pause', { zone: zone.id, paused: false });
  expect((await untilTask(peer, zone, second.task.id)).state).toBe('done');
});

test('a task that is moved before a held one does not wait with it', async () => {
  const zone = await begin();
  const stuck = await addTask(peer, zone, 'true');
  await held(zone, stuck.task.id);
  const cancelled = await addTask(peer, zone, 'true');
  // Only the order changes: the loop has to look by itself, and finds the other one without an environment too.
  await call(peer, 'queue.move', { task: cancelled.task.id, position: 1 });
  expect(await held(zone, cancelled.task.id)).toMatchObject({ hold: 'environment' });
});

test('a failed task is retried in its session as a task of its own, once per id', async () => {
  const zone = await beginReady();
  const { task } = await addTask(peer, zone, 'echo x >> tries; test "$(wc -l < tries)" = 2', {
    session: 'mine',
  });
  expect((await untilTask(peer, zone, task.id)).state).toBe('failed');
  const id = newId();
  const retry = () => call<{ task: Task; repeated: boolean }>(peer, 'task.retry', { task: task.id, id });
  expect(await retry()).toMatchObject({ repeated: false, task: { id, clone: task.clone } });
  expect((await retry()).repeated).toBe(true);
  // A script is given again as it was: a note about the attempt before is for whoever can read.
  expect((await untilTask(peer, zone, id)).state).toBe('done');
  const [started] = (await journalOf(peer, zone)).filter(
    (i) => i.task === id && i.event.type === 'tool.start',
  );
  expect(started?.event).toMatchObject({ input: 'echo x >> tries; test "$(wc -l < tries)" = 2' });
  expect((await answerOf(peer, task.id)).task.state).toBe('failed');
  const other = await addTask(peer, zone, 'false');
  await untilTask(peer, zone, other.task.id);
  const reuse = call(peer, 'task.retry', { task: other.task.id, id });
  await expect(reuse).rejects.toMatchObject({ code: 'id-reused' });
  expect(
    (await journalOf(peer, zone)).filter((item) => item.task === id).every((i) => i.session === 'mine'),
  ).toBe(true);
});

test('a process that waits for work is ended after a while, and the next task begins another', async () => {
  const zone = await beginReady({ env: { KHLONE_CLONE_IDLE_MS: '300' } });
  const mark = async (): Promise<string> => {
    const { task } = await addTask(peer, zone, 'echo $KHLONE_RUN');
    await untilTask(peer, zone, task.id, ['done']);
    return (await answerOf(peer, task.id)).answer;
  };
  const first = await mark();
  expect(processesOf(first).length).toBeGreaterThan(0);
  await until('the end of the idle process', () => processesOf(first).length === 0);
  expect(await mark()).not.toBe(first);
});

test('a busy process is not idle: a turn longer than the idle time is left alone', async () => {
  const zone = await beginReady({ env: { KHLONE_CLONE_IDLE_MS: '50' } });
  const { task } = await addTask(peer, zone, 'sleep 0.5; echo done');
  expect((await untilTask(peer, zone, task.id)).state).toBe('done');
  await untilItem(peer, zone, ({ event }) => event.state === 'done');
});

test('an environment that comes in the moment in which a task begins to wait for it is not missed', async () => {
  await begin();
  const zones = Array.from({ length: 40 }, () => makeZone(server));
  const tasks = await Promise.all(
    zones.map(async (zone) => {
      const [{ task }] = await Promise.all([
        addTask(peer, zone, 'true'),
        addTask(peer, zone, 'true').then(() => bringEnvironment(peer, server, zone)),
      ]);
      return { zone, id: task.id };
    }),
  );
  await Promise.all(tasks.map(({ zone, id }) => untilTask(peer, zone, id, ['done'])));
}, 60_000);

test('a limit counts only the time in which a task is worked on, not what it is held', async () => {
  const zone = await begin();
  const limitMs = 2_500;
  server.env.KHLONE_FAULT = `input-noted:1:${join(server.work, 'died')}`;
  await server.kill9();
  peer = await server.peer();
  await bringEnvironment(peer, server, zone);
  const { task } = await addTask(peer, zone, 'echo x >> ran', { limitMs });
  await peer.closed;
  // Its process dies as well, so that the turn is sent again: by a server that has no environment for it.
  kill9(processesWith(`TMPDIR=${server.home.zonesDir}`));
  peer = await server.peer();
  const waits = await held(zone, task.id);
  expect(waits).toMatchObject({ hold: 'environment', attempt: 1 });
  await until('the limit by the clock', () => Date.now() > (waits.startedMs ?? Infinity) + limitMs);
  await bringEnvironment(peer, server, zone);
  expect(await untilTask(peer, zone, task.id)).toMatchObject({ state: 'done', attempt: 2 });
});
