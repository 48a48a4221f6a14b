import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import type { ZoneSpec } from '../../src/protocol/calls.ts';
import type { Peer } from '../../src/protocol/peer.ts';
import {
  addTask,
  bringEnvironment,
  makeZone,
  startServer,
  type TestServer,
  until,
  untilTask,
} from '../fixtures/server.ts';
import { askTmux, endOf, openViewer, viewersIn } from './attach-ground.ts';

/** Looking at a clone: what it does, live, in the viewer's own size, and nothing left when nobody looks. */

let server: TestServer;
let peer: Peer;
let zone: ZoneSpec;

beforeAll(async () => {
  server = await startServer();
  peer = await server.peer();
});
afterAll(() => server.dispose());

const HERO = { kind: 'view', clone: 'mechanic.1' } as const;

beforeEach(async () => {
  zone = makeZone(server);
  await bringEnvironment(peer, server, zone);
});

const done = async (script: string): Promise<void> => {
  const { task } = await addTask(peer, zone, script);
  await untilTask(peer, zone, task.id);
};

describe('a view', () => {
  test('shows the past, then what happens, and says when the queue is empty', async () => {
    await done('echo once before');
    const view = await openViewer(peer, zone, HERO);
    await view.sees('once before');
    await view.sees('queue is empty');
    await done('echo now live');
    await view.sees('now live');
    await view.sees(/now live[^]*queue is empty/);
    view.type('\x04');
    expect(await view.over).toBeUndefined();
    expect(await endOf(peer, view.viewer)).toEqual({ parting: 'left' });
    await until('an empty tmux', () => viewersIn(server).length === 0);
  });
});
