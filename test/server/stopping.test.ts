import { execFileSync } from 'node:child_process';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { ZoneSpec } from '../../src/protocol/calls.ts';
import type { Peer } from '../../src/protocol/peer.ts';
import { processesOf } from '../../src/server/run-dir.ts';
import {
  addTask,
  bringEnvironment,
  call,
  journalOf,
  POLICY,
  readyZone,
  startServer,
  type Task,
  type TestServer,
  until,
  untilItem,
  untilTask,
} from '../fixtures/server.ts';

/** How work is stopped: what is told as stopped has no process left, proved by the mark that all of them carry. */

let server: TestServer;
let peer: Peer;
beforeAll(async () => {
  server = await startServer();
  peer = await server.peer();
});
afterAll(() => server.dispose());

/** A script that leaves a child outside its process group, ignores a gentle word, and says its mark. */
const STUBBORN =
  "trap '' TERM INT; setsid sh -c 'sleep 1000' & echo $KHLONE_RUN > mark; sleep 1000; sleep 1000";

const startStubborn = async (zone: ZoneSpec, wish = {}) => {
  const { task } = await addTask(peer, zone, STUBBORN, wish);
  await untilItem(peer, zone, ({ event }) => event.type === 'tool.start', { task: task.id });
  const file = join(zone.path, 'mark');
  await until('the mark', () => existsSync(file) && readFileSync(file, 'utf8').includes('\n'));
  return { id: task.id, mark: readFileSync(file, 'utf8').trim() };
};

describe('a cancelled task', () => {
  test('that waited is cancelled at once and never runs', async () => {
    const zone = await readyZone(peer, server);
    await call(peer, 'zone.open', { zone, policy: POLICY });
    await call(peer, 'queue.pause', { zone: zone.id, paused: true });
    const { task } = await addTask(peer, zone, 'touch ran');
    const answer = await call<{ task: Task }>(peer, 'task.cancel', { task: task.id });
    expect(answer.task.state).toBe('cancelled');
    await call(peer, 'queue.pause', { zone: zone.id, paused: false });
    const after = await addTask(peer, zone, 'true');
    await untilTask(peer, zone, after.task.id);
    expect(existsSync(join(zone.path, 'ran'))).toBe(false);
  });

  test('that ran is told as cancelled only when every process of it is gone, and the next one runs', async () => {
    const zone = await readyZone(peer, server);
    const { id, mark } = await startStubborn(zone);
    expect(processesOf(mark).length).toBeGreaterThan(3);
    const next = await addTask(peer, zone, 'true');
    const answer = await call<{ task: Task }>(peer, 'task.cancel', { task: id });
    expect(answer.task.state).toBe('cancelling');
    await untilItem(peer, zone, ({ event }) => event.state === 'cancelled', { task: id });
    expect(processesOf(mark)).toEqual([]);
    expect((await untilTask(peer, zone, next.task.id)).state).toBe('done');
  });

  test('by its prefix, and one that is done stays done', async () => {
    const zone = await readyZone(peer, server);
    const { task } = await addTask(peer, zone, 'true');
    await untilTask(peer, zone, task.id);
    const answer = await call<{ task: Task }>(peer, 'task.cancel', { task: task.id.slice(5) });
    expect(answer.task).toMatchObject({ id: task.id, state: 'done' });
  });
});

test('a task over its own limit fails as such, with its processes gone', async () => {
  const zone = await readyZone(peer, server);
  const { id, mark } = await startStubborn(zone, { limitMs: 500 });
  const task = await untilTask(peer, zone, id);
  expect(task).toMatchObject({ state: 'failed', error: 'timeout' });
  expect(processesOf(mark)).toEqual([]);
});

test('a task that is quicker than its limit is done', async () => {
  const zone = await readyZone(peer, server);
  const { task } = await addTask(peer, zone, 'true', { limitMs: 60_000 });
  expect((await untilTask(peer, zone, task.id)).state).toBe('done');
});

describe('a halted zone', () => {
  test('ends what runs, keeps what waits, and goes on when it is opened', async () => {
    const zone = await readyZone(peer, server);
    const { id, mark } = await startStubborn(zone);
    const waiting = await addTask(peer, zone, 'touch later');
    await call(peer, 'zone.halt', { zone: zone.id });
    expect(processesOf(mark)).toEqual([]);
    expect((await untilTask(peer, zone, id)).state).toBe('cancelled');
    const during = await addTask(peer, zone, 'true');
    expect(during.task.state).toBe('queued');
    expect(existsSync(join(zone.path, 'later'))).toBe(false);
    await call(peer, 'zone.open', { zone, policy: POLICY });
    expect((await untilTask(peer, zone, waiting.task.id)).state).toBe('done');
    expect((await untilTask(peer, zone, during.task.id)).state).toBe('done');
  });
});

describe('crew', () => {
  test('is added and deleted; a busy clone needs force, its processes go, and its transcript stays', async () => {
    const zone = await readyZone(peer, server);
    const { clone } = await call<{ clone: { name: string; brain: string } }>(peer, 'crew.add', {
      ...{ zone, policy: POLICY, role: 'reviewer', brain: 'sh' },
    });
    expect(clone).toMatchObject({ name: 'reviewer.1', brain: 'sh' });
    const { id, mark } = await startStubborn(zone, { who: 'reviewer.1' });
    const waiting = await addTask(peer, zone, 'touch no', { who: 'reviewer.1' });
    const del = (force: boolean) => call(peer, 'crew.del', { zone: zone.id, clones: ['reviewer.1'], force });
    await expect(del(false)).rejects.toMatchObject({ code: 'conflict' });
    expect(processesOf(mark).length).toBeGreaterThan(0);
    await del(true);
    expect(processesOf(mark)).toEqual([]);
    for (const task of [id, waiting.task.id]) {
      expect((await untilTask(peer, zone, task)).state).toBe('cancelled');
    }
    expect(
      (await journalOf(peer, zone)).some((item) => item.task === id && item.event.type === 'tool.start'),
    ).toBe(true);
    await expect(addTask(peer, zone, 'true', { who: 'reviewer.1' })).rejects.toMatchObject({
      code: 'not-found',
    });
  });

  test('that is gone has no window in tmux any more', async () => {
    const zone = await readyZone(peer, server);
    const all = ['list-panes', '-a', '-F', '#{window_name}'];
    const windows = (): string[] =>
      execFileSync('tmux', ['-S', server.home.tmuxSocket, ...all], { encoding: 'utf8' })
        .split('\n')
        .filter((name) => name.startsWith(zone.id));
    const names = ['reviewer.1', 'researcher.1', 'mechanic.1'];
    for (const who of ['reviewer++', 'researcher++', 'mechanic++']) {
      const { task } = await addTask(peer, zone, 'true', { who });
      await untilTask(peer, zone, task.id);
    }
    expect(windows()).toEqual(names.map((name) => `${zone.id}/${name}`));
    await call(peer, 'crew.del', { zone: zone.id, clones: ['reviewer.1'], force: false });
    await until('the end of its window', () => windows().length === 2);
    expect(windows()).toEqual(names.slice(1).map((name) => `${zone.id}/${name}`));
    await call(peer, 'zone.del', { zone: zone.id, force: true });
    await until('the end of all its windows', () => windows().length === 0);
  });

  test('a task of a clone that was deleted is not retried into a queue that nobody reads', async () => {
    const zone = await readyZone(peer, server);
    const { task } = await addTask(peer, zone, 'false', { who: 'reviewer++' });
    await untilTask(peer, zone, task.id);
    await call(peer, 'crew.del', { zone: zone.id, clones: ['reviewer.1'], force: false });
    const retry = call(peer, 'task.retry', { task: task.id, id: 'task-0123456789' });
    await expect(retry).rejects.toMatchObject({
      code: 'conflict',
      message: expect.stringContaining('reviewer.1'),
    });
  });
});

test('a deleted zone leaves no process, keeps the worktree, and may be made anew', async () => {
  const zone = await readyZone(peer, server);
  const { id, mark } = await startStubborn(zone);
  const del = (force: boolean) => call<{ deleted: boolean }>(peer, 'zone.del', { zone: zone.id, force });
  await expect(del(false)).rejects.toMatchObject({ code: 'conflict' });
  expect(await del(true)).toMatchObject({ deleted: true });
  expect(processesOf(mark)).toEqual([]);
  expect((await untilTask(peer, zone, id)).state).toBe('cancelled');
  expect(readdirSync(zone.path)).toContain('mark');
  expect(await call(peer, 'zone.get', { zone: zone.id })).toEqual({});
  await bringEnvironment(peer, server, zone);
  const again = await addTask(peer, zone, 'true');
  expect(again).toMatchObject({ zoneMade: true, task: { clone: 'mechanic.2' } });
  expect((await untilTask(peer, zone, again.task.id)).state).toBe('done');
});

test('where one run cannot be ended, the others and tmux are ended before the fault is told', async () => {
  const own = await startServer();
  try {
    const asked = await own.peer();
    const [faulty, other] = [await readyZone(asked, own), await readyZone(asked, own)];
    await untilTask(asked, faulty, (await addTask(asked, faulty, 'true')).task.id);
    const { task } = await addTask(asked, other, STUBBORN);
    await untilItem(asked, other, ({ event }) => event.type === 'tool.start', { task: task.id });
    const mark = join(other.path, 'mark');
    await until('the mark', () => existsSync(mark) && readFileSync(mark, 'utf8').includes('\n'));
    const state = new DatabaseSync(own.home.stateDb);
    state.exec(`CREATE TRIGGER full BEFORE UPDATE OF live ON runs WHEN OLD.clone = (SELECT min(clone) FROM runs)
      BEGIN SELECT RAISE(ABORT, 'no space'); END`);
    state.close();
    const tmux = own.tmuxPid();
    expect(tmux).toBeDefined();
    await expect(call(asked, 'stop', { keep: false })).rejects.toThrow('no space');
    expect(processesOf(readFileSync(mark, 'utf8').trim())).toEqual([]);
    expect(own.tmuxPid()).toBeUndefined();
    await until('the end of the server', () => own.pid() === undefined);
  } finally {
    await own.dispose();
  }
});
