import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { afterEach, describe, expect, test } from 'vitest';
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
  startServer,
  startZone,
  type Task,
  type TestServer,
  until,
  untilTask,
} from '../fixtures/server.ts';

/** What holds after something died: server, runner, brain, or the whole machine. */

let server: TestServer;
let peer: Peer;
let zone: ZoneSpec;
afterEach(() => server.dispose());

const begin = async (): Promise<void> => {
  ({ server, peer, zone } = await startZone());
};
const restart = async (): Promise<void> => {
  await server.kill9();
  peer = await server.peer();
};
const file = (name: string): string => join(zone.path, name);
/** A shell makes a file first and writes it then. */
const has = (name: string): Promise<void> =>
  until(name, () => existsSync(file(name)) && readFileSync(file(name), 'utf8').endsWith('\n'));
const lines = (name: string): string[] => readFileSync(file(name), 'utf8').trim().split('\n');
const LONG =
  'echo $KHLONE_RUN > mark; i=0; until test -e go; do i=$((i+1)); echo $i; sleep 0.02; done; echo last';

describe('when only the server dies', () => {
  test('a long act goes on, and its output is whole and told once', async () => {
    await begin();
    const { task } = await addTask(peer, zone, LONG);
    await has('mark');
    for (let i = 0; i < 3; i++) await restart();
    await server.kill9();
    writeFileSync(file('go'), '');
    peer = await server.peer();
    expect((await untilTask(peer, zone, task.id)).state).toBe('done');
    const items = await journalOf(peer, zone);
    expect(items.map((item) => item.seq)).toEqual(items.map((_, i) => i + 1));
    const said = items.flatMap((item) => (item.event.type === 'text' ? [item.event.text] : [])).join('');
    expect(said.trim()).toBe((await answerOf(peer, task.id)).answer);
    expect(said.trim().split('\n').slice(0, -1)).toEqual(
      said
        .trim()
        .split('\n')
        .slice(0, -1)
        .map((_, i) => String(i + 1)),
    );
  });

  test('an orderly end that keeps the clones lets them go on as well', async () => {
    await begin();
    const { task } = await addTask(peer, zone, LONG);
    await has('mark');
    await server.stop(true);
    expect(processesOf(lines('mark')[0] ?? '').length).toBeGreaterThan(0);
    writeFileSync(file('go'), '');
    peer = await server.peer();
    expect((await untilTask(peer, zone, task.id)).state).toBe('done');
  });

  test('a cancel that it was told goes on after it', async () => {
    await begin();
    const { task } = await addTask(peer, zone, `trap '' TERM; ${LONG}`);
    await has('mark');
    await call(peer, 'task.cancel', { task: task.id });
    await restart();
    expect((await untilTask(peer, zone, task.id)).state).toBe('cancelled');
    expect(processesOf(lines('mark')[0] ?? '')).toEqual([]);
  });
});

test('an orderly end ends the clones where they are not to be kept', async () => {
  await begin();
  const { task } = await addTask(peer, zone, 'echo $KHLONE_RUN > mark');
  await untilTask(peer, zone, task.id);
  await server.stop(false);
  expect(processesOf(lines('mark')[0] ?? '')).toEqual([]);
  expect(processesWith(server.home.zonesDir)).toEqual([]);
});

describe('when a brain dies', () => {
  test('in an act that had an effect, the outcome is unknown; a retry is told to look first', async () => {
    await begin();
    const { task } = await addTask(peer, zone, `echo x >> tries; ${LONG}`);
    await has('mark');
    kill9(processesOf(lines('mark')[0] ?? ''));
    expect(await untilTask(peer, zone, task.id)).toMatchObject({
      state: 'unknown',
      error: 'unknown-outcome',
    });
    // Who waits behind it is not kept waiting.
    const next = await addTask(peer, zone, 'true');
    expect((await untilTask(peer, zone, next.task.id)).state).toBe('done');
    expect(lines('tries')).toHaveLength(1);
    writeFileSync(file('go'), '');
    const id = newId();
    await call(peer, 'task.retry', { task: task.id, id });
    expect((await untilTask(peer, zone, id)).state).toBe('done');
    expect((await answerOf(peer, task.id)).task).toMatchObject({
      state: 'cancelled',
      message: `retried as ${id}`,
    });
  });

  test('while it waits, the next task gets a new one', async () => {
    await begin();
    const mark = async (): Promise<string> => {
      const { task } = await addTask(peer, zone, 'echo $KHLONE_RUN');
      expect((await untilTask(peer, zone, task.id)).state).toBe('done');
      return (await answerOf(peer, task.id)).answer;
    };
    const first = await mark();
    kill9(processesOf(first));
    expect(await mark()).not.toBe(first);
  });

  test('with its runner only, what it left is swept and the outcome is unknown', async () => {
    await begin();
    const { task } = await addTask(peer, zone, LONG);
    await has('mark');
    const runs = join(server.home.zonesDir, zone.id, 'runs');
    const { pid } = JSON.parse(readFileSync(join(runs, 'mechanic.1.1', 'meta.json'), 'utf8')) as {
      pid: number;
    };
    kill9([pid]);
    expect((await untilTask(peer, zone, task.id)).state).toBe('unknown');
    expect(processesOf(lines('mark')[0] ?? '')).toEqual([]);
  });
});

describe('after a reboot', () => {
  /** The machine as it is after a power cut: nothing lives, and the kernel has another boot id. */
  const reboot = async (alsoDo: () => void = () => {}): Promise<void> => {
    await server.kill9();
    await until('the end of every process', () => {
      kill9(server.processes());
      return server.processes().length === 0;
    });
    const db = new DatabaseSync(server.home.stateDb);
    db.exec("UPDATE runs SET boot = 'the boot before'");
    db.close();
    alsoDo();
    peer = await server.peer();
    await bringEnvironment(peer, server, zone);
  };

  test('an act that had begun is unknown, and what was queued behind it runs', async () => {
    await begin();
    const { task } = await addTask(peer, zone, LONG);
    const behind = await addTask(peer, zone, 'touch behind');
    await has('mark');
    await reboot();
    const met = await untilTask(peer, zone, task.id);
    expect(met).toMatchObject({ state: 'unknown', message: expect.stringContaining('restarted') });
    expect((await untilTask(peer, zone, behind.task.id)).state).toBe('done');
    expect(lines('mark')).toHaveLength(1);
  });

  test('an act is unknown even where the power cut took the lines that told of its effect', async () => {
    await begin();
    const { task } = await addTask(peer, zone, `echo x >> tries; ${LONG}`);
    await has('mark');
    await reboot(() => {
      const run = join(server.home.zonesDir, zone.id, 'runs', 'mechanic.1.1');
      for (const name of ['out.jsonl', 'exit', 'meta.json']) writeFileSync(join(run, name), '');
      const db = new DatabaseSync(server.home.stateDb);
      db.exec("UPDATE runs SET out_offset = 0; UPDATE tasks SET effect = 0, state = 'dispatching'");
      db.close();
    });
    expect((await untilTask(peer, zone, task.id)).state).toBe('unknown');
    expect(lines('tries')).toHaveLength(1);
  });

  test('an act whose end had reached the disk is done', async () => {
    await begin();
    const { task } = await addTask(peer, zone, `${LONG}`);
    await has('mark');
    await server.kill9();
    writeFileSync(file('go'), '');
    const out = join(server.home.zonesDir, zone.id, 'runs', 'mechanic.1.1', 'out.jsonl');
    await until('the last line', () => readFileSync(out, 'utf8').includes('"outcome":"done"'));
    await reboot();
    expect((await untilTask(peer, zone, task.id)).state).toBe('done');
  });

  test('an ask by the shell that had begun is not repeated; one that had not is', async () => {
    await begin();
    const { task } = await addTask(peer, zone, 'while :; do sleep 0.1; done', { kind: 'ask' });
    await untilTask(peer, zone, task.id, ['active']);
    const waiting = await addTask(peer, zone, 'echo fine', { kind: 'ask' });
    await reboot();
    expect((await untilTask(peer, zone, task.id)).state).toBe('unknown');
    expect((await untilTask(peer, zone, waiting.task.id)).state).toBe('done');
  });
});

test('a clone that was deleted while the server died leaves neither process nor task behind', async () => {
  await begin();
  const { task } = await addTask(peer, zone, LONG);
  await has('mark');
  await server.kill9();
  const db = new DatabaseSync(server.home.stateDb);
  db.exec('UPDATE clones SET gone_ms = 1');
  db.close();
  peer = await server.peer();
  expect((await untilTask(peer, zone, task.id)).state).toBe('cancelled');
  expect(processesOf(lines('mark')[0] ?? '')).toEqual([]);
});

test('fifty first connections at once find one server', async () => {
  server = await startServer();
  const peers = await Promise.all(Array.from({ length: 50 }, () => server.peer()));
  const hellos = await Promise.all(
    peers.map((one) => call<{ uuid: string }>(one, 'hello', { proto: [1, 1], build: 'b' })),
  );
  expect(new Set(hellos.map(({ uuid }) => uuid)).size).toBe(1);
  const servers = processesWith(`KHLONE_HOME=${server.home.root}\0`);
  expect(servers).toHaveLength(1);
  zone = makeZone(server);
  const added = await Promise.all(peers.map((one) => addTask(one, zone, 'true')));
  const { tasks } = await call<{ tasks: Task[] }>(peers[0] as Peer, 'task.list', {
    zone: zone.id,
    ended: true,
    most: 100,
  });
  expect(new Set(tasks.map((task) => task.id))).toEqual(new Set(added.map(({ task }) => task.id)));
});
