import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { ZoneSpec } from '../../src/protocol/calls.ts';
import type { Peer } from '../../src/protocol/peer.ts';
import { processesOf } from '../../src/server/run-dir.ts';
import {
  addTask,
  answerOf,
  call,
  journalOf,
  newId,
  POLICY,
  readyZone,
  startServer,
  type Task,
  type TestServer,
  untilTask,
} from '../fixtures/server.ts';

/** Tasks through a real server, tmux and shell: what comes in, in which order it runs, and what comes out. */

let server: TestServer;
let peer: Peer;
beforeAll(async () => {
  server = await startServer();
  peer = await server.peer();
});
afterAll(() => server.dispose());

const pause = (zone: ZoneSpec, paused: boolean) => call(peer, 'queue.pause', { zone: zone.id, paused });
const runDirs = (zone: ZoneSpec): string[] => readdirSync(join(server.home.zonesDir, zone.id, 'runs')).sort();

describe('one id', () => {
  test('sent twice is one task, which runs once', async () => {
    const zone = await readyZone(peer, server);
    const id = newId();
    const [one, two] = await Promise.all([1, 2].map(() => addTask(peer, zone, 'echo x >> ran', { id })));
    await untilTask(peer, zone, id);
    const three = await addTask(peer, zone, 'echo x >> ran', { id });
    expect([one?.repeated, two?.repeated, three.repeated]).toEqual([false, true, true]);
    expect(three.task.state).toBe('done');
    expect(readFileSync(join(zone.path, 'ran'), 'utf8')).toBe('x\n');
    const { tasks } = await call<{ tasks: Task[] }>(peer, 'task.list', {
      zone: zone.id,
      ended: true,
      most: 10,
    });
    expect(tasks.map((task) => task.id)).toEqual([id]);
  });

  test('in another session is the same task in the session of the first time', async () => {
    const zone = await readyZone(peer, server);
    const id = newId();
    await addTask(peer, zone, 'true', { id });
    const again = await addTask(peer, zone, 'true', { id, session: 'other' });
    expect(again).toMatchObject({ repeated: true, task: { id, session: 's' } });
  });

  test('with another body is refused', async () => {
    const zone = await readyZone(peer, server);
    const id = newId();
    await addTask(peer, zone, 'true', { id });
    for (const wish of [{ kind: 'ask' as const }, { limitMs: 5 }]) {
      await expect(addTask(peer, zone, 'true', { id, ...wish })).rejects.toMatchObject({ code: 'id-reused' });
    }
    await expect(addTask(peer, zone, 'false', { id })).rejects.toMatchObject({ code: 'id-reused' });
  });
});

describe('the order', () => {
  test('is first come first served, but for what was prioritized or moved', async () => {
    const zone = await readyZone(peer, server);
    await call(peer, 'zone.open', { zone, policy: POLICY });
    await pause(zone, true);
    const add = async (name: string, prioritize = false): Promise<string> =>
      (await addTask(peer, zone, `echo ${name} >> order`, { prioritize })).task.id;
    const ids = [await add('1'), await add('2'), await add('3'), await add('first', true)];
    const last = await add('4');
    await call(peer, 'queue.move', { task: last, position: 2 });
    await call(peer, 'queue.move', { task: ids[0], position: 5 });
    const { tasks } = await call<{ tasks: Task[] }>(peer, 'task.list', {
      zone: zone.id,
      ended: false,
      most: 10,
    });
    expect(new Map(tasks.map((task) => [task.id, task.position])).get(last)).toBe(1);
    await pause(zone, false);
    await untilTask(peer, zone, ids[0] ?? '');
    expect(readFileSync(join(zone.path, 'order'), 'utf8').trim().split('\n')).toEqual([
      'first',
      '4',
      '2',
      '3',
      '1',
    ]);
  });

  test('is told by the receipt: how many tasks come before', async () => {
    const zone = await readyZone(peer, server);
    await call(peer, 'zone.open', { zone, policy: POLICY });
    await pause(zone, true);
    const positions = [];
    for (let i = 0; i < 3; i++) positions.push((await addTask(peer, zone, 'true')).task.position);
    expect((positions[2] ?? 0) - (positions[0] ?? 0)).toBe(2);
  });
});

describe('limits', () => {
  test('a full queue refuses the next task and keeps the others', async () => {
    const zone = await readyZone(peer, server);
    await call(peer, 'zone.open', { zone, policy: POLICY });
    await pause(zone, true);
    const policy = { ...POLICY, maxQueue: 3 };
    for (let i = 0; i < 3; i++) await addTask(peer, zone, 'true', { policy });
    await expect(addTask(peer, zone, 'true', { policy })).rejects.toMatchObject({ code: 'queue-full' });
    const { tasks } = await call<{ tasks: Task[] }>(peer, 'task.list', {
      zone: zone.id,
      ended: true,
      most: 10,
    });
    expect(tasks).toHaveLength(3);
  });

  test('a full crew refuses the next clone, and an index is never used again', async () => {
    const zone = await readyZone(peer, server);
    const policy = { ...POLICY, maxClones: 2 };
    const clone = async (): Promise<string> =>
      (await addTask(peer, zone, 'true', { policy, who: 'reviewer++' })).task.clone;
    expect([await clone(), await clone()]).toEqual(['reviewer.1', 'reviewer.2']);
    await expect(clone()).rejects.toMatchObject({ code: 'clone-limit' });
    const misspelt = addTask(peer, zone, 'true', { policy, who: 'reviewer@cluade++' });
    await expect(misspelt).rejects.toMatchObject({ code: 'usage' });
    await call(peer, 'crew.del', { zone: zone.id, clones: ['reviewer.2'], force: true });
    expect(await clone()).toBe('reviewer.3');
  });

  test('an empty task is refused', async () => {
    await expect(addTask(peer, await readyZone(peer, server), ' \n\t')).rejects.toMatchObject({
      code: 'usage',
    });
  });
});

describe('runs', () => {
  test('of two sessions are two processes, and one session keeps its own', async () => {
    const zone = await readyZone(peer, server);
    const run = async (session: string): Promise<string> => {
      const { task } = await addTask(peer, zone, 'echo $KHLONE_RUN', { session });
      await untilTask(peer, zone, task.id, ['done']);
      return (await answerOf(peer, task.id)).answer;
    };
    const runs = [await run('a'), await run('a'), await run('b')];
    expect(runs[0]).toBe(runs[1]);
    expect(runs[2]).not.toBe(runs[1]);
    expect(runDirs(zone)).toEqual(['mechanic.1.1', 'mechanic.1.2']);
  });

  test('have one mode: an ask after an act is another process, which may not write', async () => {
    const zone = await readyZone(peer, server);
    const act = await addTask(peer, zone, 'echo $KHLONE_RUN > mark');
    const ask = await addTask(peer, zone, 'cat mark; touch no', { kind: 'ask' });
    expect(await untilTask(peer, zone, ask.task.id)).toMatchObject({ state: 'failed' });
    expect((await untilTask(peer, zone, act.task.id)).state).toBe('done');
    const mark = readFileSync(join(zone.path, 'mark'), 'utf8').trim();
    expect((await answerOf(peer, ask.task.id)).answer).toBe(mark);
    expect(processesOf(mark)).toEqual([]);
  });
});

describe('prompts', () => {
  test('of two megabytes go through whole', async () => {
    const zone = await readyZone(peer, server);
    const body = Buffer.from(`: ${'x'.repeat(2_000_000)}\necho end`);
    const { value } = await peer.call(
      'task.add',
      { id: newId(), kind: 'act', session: 's', prioritize: false, zone, policy: POLICY },
      {
        body: (async function* () {
          yield body;
        })(),
      },
    );
    const { task } = value as { task: Task };
    expect(await untilTask(peer, zone, task.id)).toMatchObject({ state: 'done' });
    expect((await answerOf(peer, task.id)).answer).toBe('end');
  });

  test('keep hostile bytes as they are, and a NUL is refused by the shell', async () => {
    const zone = await readyZone(peer, server);
    const nasty = 'a\u001b]0;t\u0007\u001b[2J ü 漢 👩‍👧 \u202e "\'$(x)`\\ \u{10ffff}';
    const quoted = `'${nasty.replaceAll("'", `'\\''`)}'`;
    const fine = await addTask(peer, zone, `printf %s ${quoted} > nasty; cat nasty`);
    expect((await untilTask(peer, zone, fine.task.id)).state).toBe('done');
    expect(readFileSync(join(zone.path, 'nasty'), 'utf8')).toBe(nasty);
    expect((await answerOf(peer, fine.task.id)).answer).toBe(nasty);
    const bad = await addTask(peer, zone, 'echo a\0b');
    expect(await untilTask(peer, zone, bad.task.id)).toMatchObject({
      state: 'failed',
      message: expect.stringContaining('NUL'),
    });
  });

  test('with an answer of megabytes leave a journal that can be read to its end', async () => {
    const zone = await readyZone(peer, server);
    const { task } = await addTask(peer, zone, "head -c 3000000 /dev/zero | tr '\\0' x");
    expect((await untilTask(peer, zone, task.id)).state).toBe('done');
    const items = await journalOf(peer, zone);
    const texts = items.filter((item) => item.event.type === 'text').map((item) => item.event.text ?? '');
    expect(texts.join('')).toHaveLength(3_000_000);
    expect((await answerOf(peer, task.id)).answer).toHaveLength(3_000_000);
  });
});

test.each([
  "with space and 'quotes' \"",
  'with\nnewline',
  'ünïcode 漢',
  '-dash $HOME `x`',
  'back\\slash;#{pane_id}',
])('a worktree may be called %j', async (name) => {
  const path = join(server.work, name);
  const zone = await readyZone(peer, server, { path });
  for (const kind of ['act', 'ask'] as const) {
    const { task } = await addTask(peer, zone, 'pwd; printf %s "$PWD" >&2', { kind });
    expect(await untilTask(peer, zone, task.id)).toMatchObject({ state: 'done' });
    expect((await answerOf(peer, task.id)).answer).toBe(path);
  }
});

test('a list of tasks that no message holds tells of the latest', async () => {
  const zone = await readyZone(peer, server);
  const most = 800;
  const policy = { ...POLICY, maxQueue: most };
  // Each of these letters takes six in JSON.
  const title = '\u0001'.repeat(190);
  const ids = Array.from({ length: most }, newId);
  await addTask(peer, zone, 'true', { policy });
  await pause(zone, true);
  for (let at = 0; at < most - 1; at += 100) {
    const some = ids.slice(at, Math.min(at + 100, most - 1));
    await Promise.all(some.map((id) => addTask(peer, zone, `${title} ${id}`, { id, policy })));
  }
  const wish = { zone: zone.id, ended: true, most: 1000 };
  const { tasks } = await call<{ tasks: Task[] }>(peer, 'task.list', wish);
  expect(tasks.length).toBeGreaterThan(500);
  expect(tasks.map(({ id }) => id)).toEqual(ids.slice(0, most - 1).slice(-tasks.length));
}, 30_000);
