import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, describe, expect, test } from 'vitest';
import type { ZoneSpec } from '../../src/protocol/calls.ts';
import type { Peer } from '../../src/protocol/peer.ts';
import { createPlaces, hostPlaces } from '../../src/server/places.ts';
import {
  addTask,
  answerOf,
  bringEnvironment,
  call,
  makeZone,
  startServer,
  type TestServer,
  until,
  untilTask,
} from '../fixtures/server.ts';

/** The host's places: who waits for one may leave, and what was decided meanwhile holds when it comes. */

describe('places', () => {
  const never = new AbortController().signal;

  test('are given in the order in which they were asked for, and each back once', async () => {
    const take = createPlaces(1);
    const first = await take(never);
    const got: number[] = [];
    const waiting = [1, 2].map((n) =>
      take(never).then((give) => {
        got.push(n);
        return give;
      }),
    );
    first?.();
    first?.();
    const second = await waiting[0];
    expect(got).toEqual([1]);
    second?.();
    await waiting[1];
    expect(got).toEqual([1, 2]);
  });

  test('are not lost to one who left while he waited', async () => {
    const take = createPlaces(1);
    const first = await take(never);
    const leave = new AbortController();
    const left = take(leave.signal);
    const stays = take(never);
    leave.abort();
    expect(await left).toBeUndefined();
    expect(await take(leave.signal)).toBeUndefined();
    first?.();
    expect(await stays).toBeDefined();
  });
});

describe('a task that waits for a place', () => {
  let server: TestServer;
  let peer: Peer;
  let zone: ZoneSpec;
  let busy: ZoneSpec[];
  afterEach(() => server.dispose());

  /** Every place is taken by a clone of its own zone, until `go` lies in that zone; one task waits for a place. */
  const fill = async (): Promise<string> => {
    server = await startServer();
    peer = await server.peer();
    busy = Array.from({ length: hostPlaces() }, () => makeZone(server));
    zone = makeZone(server);
    for (const one of [...busy, zone]) await bringEnvironment(peer, server, one);
    const hold = 'touch began; until test -e go; do sleep 0.05; done';
    for (const one of busy) await addTask(peer, one, hold);
    await until('all to work', () => busy.every((one) => readdirSync(one.path).includes('began')), 60_000);
    return (await addTask(peer, zone, 'echo x >> ran')).task.id;
  };
  const free = (one: ZoneSpec | undefined): void => writeFileSync(join(one?.path ?? '', 'go'), '');
  const ran = (): boolean => readdirSync(zone.path).includes('ran');
  /** The freed place went to somebody: that task is done, and so is one that came after it. */
  const passed = async (): Promise<void> => {
    const [first] = busy;
    free(first);
    if (!first) return;
    const after = await addTask(peer, first, 'true');
    await untilTask(peer, first, after.task.id, ['done']);
  };

  test('is queued, and does not run where its queue was paused meanwhile', async () => {
    const id = await fill();
    expect((await answerOf(peer, id)).task.state).toBe('queued');
    await call(peer, 'queue.pause', { zone: zone.id, paused: true });
    await passed();
    expect((await answerOf(peer, id)).task.state).toBe('queued');
    await call(peer, 'queue.pause', { zone: zone.id, paused: false });
    expect((await untilTask(peer, zone, id)).state).toBe('done');
  }, 120_000);

  test('does not run where it was cancelled meanwhile, but the one behind it does', async () => {
    const id = await fill();
    const second = (await addTask(peer, zone, 'echo y >> ran')).task.id;
    await call(peer, 'task.cancel', { task: id });
    await passed();
    expect((await untilTask(peer, zone, second)).state).toBe('done');
    expect((await answerOf(peer, id)).task.state).toBe('cancelled');
    expect(readFileSync(join(zone.path, 'ran'), 'utf8')).toBe('y\n');
  }, 120_000);

  test('keeps neither its server from ending nor its zone from being deleted', async () => {
    await fill();
    await call(peer, 'zone.del', { zone: zone.id, force: true });
    const other = makeZone(server);
    await bringEnvironment(peer, server, other);
    const { task } = await addTask(peer, other, 'echo x >> ran');
    await server.stop(true);
    for (const one of busy) free(one);
    peer = await server.peer();
    await bringEnvironment(peer, server, other);
    expect((await untilTask(peer, other, task.id)).state).toBe('done');
    expect(ran()).toBe(false);
  }, 120_000);
});
