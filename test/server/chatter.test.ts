import { afterAll, beforeAll, expect, test } from 'vitest';
import type { ZoneSpec } from '../../src/protocol/calls.ts';
import type { Peer } from '../../src/protocol/peer.ts';
import { addTask, call, startZone, type TestServer, untilTask } from '../fixtures/server.ts';

/** A brain that prints without a pause: it has to be stopped like any other. */

let server: TestServer;
let peer: Peer;
let zone: ZoneSpec;
beforeAll(async () => {
  ({ server, peer, zone } = await startZone());
});
afterAll(() => server.dispose());

test('a brain that never falls silent is cancelled all the same', async () => {
  const { id } = (await addTask(peer, zone, 'yes')).task;
  await untilTask(peer, zone, id, ['active']);
  await call(peer, 'task.cancel', { task: id });
  expect((await untilTask(peer, zone, id, ['cancelled', 'done', 'failed'])).state).toBe('cancelled');
});

test('a brain that never falls silent ends at its limit', async () => {
  const { id } = (await addTask(peer, zone, 'yes', { limitMs: 300 })).task;
  const ended = await untilTask(peer, zone, id, ['cancelled', 'done', 'failed']);
  expect(ended).toMatchObject({ state: 'failed', error: 'timeout' });
});
