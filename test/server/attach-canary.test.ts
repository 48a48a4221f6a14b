import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import {
  addTask,
  answerOf,
  bringEnvironment,
  call,
  journalOf,
  kill9,
  makeZone,
  startServer,
  type TestServer,
  untilTask,
} from '../fixtures/server.ts';
import { endOf, newViewer, openViewer, viewersIn } from './attach-ground.ts';

/** Who looks changes nothing: a clone works on while viewers come, go, and die. */

let server: TestServer;
beforeAll(async () => {
  server = await startServer();
});
afterAll(() => server.dispose());

const ROUNDS = 50;
const HERO = { kind: 'view', clone: 'mechanic.1' } as const;

/** The ways in which a viewer of this file ends. */
const WAYS = ['key', 'end', 'cancel', 'kill', 'detach'] as const;

test('a clone that works is not touched by viewers that come and go', async () => {
  const peer = await server.peer();
  const zone = makeZone(server);
  await bringEnvironment(peer, server, zone);
  const script =
    'i=0; while [ ! -e stop ]; do i=$((i+1)); echo "work $i"; sleep 0.02; done; echo "worked $i"';
  const { task } = await addTask(peer, zone, script);
  await untilTask(peer, zone, task.id, ['active']);

  for (let round = 0; round < ROUNDS; round++) {
    const way = WAYS[round % WAYS.length];
    const sight = round % 2 === 0 ? HERO : ({ kind: 'shell' } as const);
    const viewer = newViewer();
    const seen = await openViewer(peer, zone, sight, { viewer });
    await seen.sees(/\S/);
    if (way === 'key') seen.type('\x02d');
    if (way === 'cancel') seen.cancel();
    if (way === 'kill') kill9(server.processes().filter((pid) => commandOf(pid).includes('script\0')));
    if (way === 'detach') await call(peer, 'attach.detach', { zone: zone.id });
    if (way !== 'cancel') await (way === 'end' ? endOf(peer, viewer) : seen.over);
    await endOf(peer, viewer);
  }
  expect(viewersIn(server)).toEqual([]);

  const other = await openViewer(peer, zone, { kind: 'shell' });
  await other.sees(/\S/);
  other.type('touch stop\r');
  const ended = await untilTask(peer, zone, task.id);
  expect(ended).toMatchObject({ state: 'done', attempt: 1 });
  await endOf(peer, other.viewer);

  const { answer } = await answerOf(peer, task.id);
  const last = Number(/worked (\d+)/.exec(answer)?.[1]);
  expect(last).toBeGreaterThan(ROUNDS);
  const out = readFileSync(join(server.home.zonesDir, zone.id, 'runs', 'mechanic.1.1', 'out.jsonl'), 'utf8');
  const journal = JSON.stringify(await journalOf(peer, zone));
  for (const text of [out, journal]) {
    const counted = [...text.matchAll(/work (\d+)\\/g)].map((match) => Number(match[1]));
    expect(new Set(counted).size).toBe(last);
  }
}, 90_000);

const commandOf = (pid: number): string => {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'latin1');
  } catch {
    return '';
  }
};
