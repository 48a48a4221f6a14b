import { readFileSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import type { ZoneSpec } from '../../src/protocol/calls.ts';
import type { Peer } from '../../src/protocol/peer.ts';
import { addTask, bringEnvironment, startZone, type TestServer, untilTask } from '../fixtures/server.ts';

/** A clock that is set while tasks run and wait: by a person, by the network, by a laptop that slept. */

const DAY_MS = 24 * 3600_000;
/** The server's clock is off by what stands in a file of the person's home. */
const OFF_BY_A_FILE = `
  import { readFileSync } from 'node:fs';
  const now = Date.now;
  const off = () => { try { return Number(readFileSync(process.env.HOME + '/off', 'utf8')); } catch { return 0; } };
  Date.now = () => now() + off();
`;

let server: TestServer;
let peer: Peer;
let zone: ZoneSpec;
beforeEach(async () => {
  const preload = `data:text/javascript,${encodeURIComponent(OFF_BY_A_FILE)}`;
  ({ server, peer, zone } = await startZone({ env: { NODE_OPTIONS: `--import=${preload}` } }));
});
afterEach(() => server.dispose());

const set = (offMs: number): void => writeFileSync(join(server.env.HOME ?? '', 'off'), `${offMs}`);
const runs = (id: string) => untilTask(peer, zone, id, ['active']);

test('a task has the time of its limit, whichever way the clock is set meanwhile', async () => {
  const quick = (await addTask(peer, zone, 'sleep 2', { limitMs: 60_000 })).task.id;
  await runs(quick);
  set(DAY_MS);
  expect((await untilTask(peer, zone, quick)).state).toBe('done');
  const slow = (await addTask(peer, zone, 'sleep 60', { limitMs: 2_000 })).task.id;
  await runs(slow);
  set(0);
  expect(await untilTask(peer, zone, slow)).toMatchObject({ state: 'failed', error: 'timeout' });
});

test('a task that is held for a time goes on after the clock was set back', async () => {
  set(60 * DAY_MS);
  renameSync(zone.path, `${zone.path}-away`);
  const { id } = (await addTask(peer, zone, 'echo x >> ran')).task;
  await untilTask(peer, zone, id, ['held']);
  await server.kill9();
  renameSync(`${zone.path}-away`, zone.path);
  set(0);
  peer = await server.peer();
  await bringEnvironment(peer, server, zone);
  expect((await untilTask(peer, zone, id)).state).toBe('done');
  expect(readFileSync(join(zone.path, 'ran'), 'utf8')).toBe('x\n');
});
