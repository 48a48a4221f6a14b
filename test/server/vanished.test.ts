import { mkdirSync } from 'node:fs';
import { connect } from 'node:net';
import { dirname, join } from 'node:path';
import { afterEach, expect, it } from 'vitest';
import { createPeer, type Handlers, type Peer } from '../../src/protocol/peer.ts';
import { socketPathIn } from '../../src/protocol/resident.ts';
import { attended } from '../../src/server/handlers/attended.ts';
import { call, makeZone, POLICY, startServer, type TestServer } from '../fixtures/server.ts';
import { bytesOf, gitIn, makeDirty, makeGround, makeRepo, once, pack } from '../patch/ground.ts';
import { peers } from '../protocol/wire.ts';

/** A hub that is gone without a word: its machine slept, or stands on another network, and no end of it arrives. */

const ends: (() => Promise<void> | void)[] = [];
afterEach(async () => {
  for (const end of ends.splice(0)) await end();
}, 30_000);

const never = new Promise<never>(() => {});

async function* begunWith(bytes: Uint8Array): AsyncGenerator<Uint8Array> {
  yield bytes;
  await never;
}

const QUICK = { askAfterMs: 40, signWithinMs: 120 };

/** What a handler makes of a body that was begun by a hub with these handlers. */
const readBegun = async (own: Handlers): Promise<{ read: Promise<Buffer>; closed: Peer['closed'] }> => {
  const read = Promise.withResolvers<Buffer>();
  const serve = async ({ body, peer }: Parameters<Handlers[string]>[0]) => {
    bytesOf(attended(body ?? once(Buffer.alloc(0)), peer, QUICK)).then(read.resolve, read.reject);
    await read.promise;
    return { value: null };
  };
  const { near, far, close } = await peers({ put: serve }, own);
  ends.push(close);
  near.call('put', {}, { body: begunWith(Buffer.from('half')) }).catch(() => {});
  return { read: read.promise, closed: far.closed };
};

it('is hung up on when it gives no sign while its bytes are waited for', async () => {
  const { read, closed } = await readBegun({ '$/ping': () => never });
  await expect(read).rejects.toMatchObject({ code: 'unreachable' });
  expect(await closed).toMatchObject({ code: 'unreachable' });
});

it('is waited for as long as it gives a sign, however long it takes to make its bytes', async () => {
  let signs = 0;
  const told = Promise.withResolvers<void>();
  const ping = () => {
    signs += 1;
    if (signs === 8) told.resolve();
    return { value: null };
  };
  const { read } = await readBegun({ '$/ping': ping });
  const early = await Promise.race([
    read.then(
      () => 'read',
      () => 'broken',
    ),
    told.promise,
  ]);
  expect(early).toBeUndefined();
});

const zoneOn = async (server: TestServer) => {
  const ground = makeGround();
  ends.push(ground.remove);
  const near = makeRepo(ground.dir);
  makeDirty(near);
  const zone = { ...makeZone(server, { mode: 'ssh' }), path: join(server.work, 'zones', 'app', 'main') };
  const { manifest, body } = await pack(near);
  return { near, zone, manifest, bytes: await bytesOf(body) };
};

it('leaves the first code of its zone to the next one that brings it', async () => {
  const server = await startServer();
  ends.push(server.dispose);
  const peer = await server.peer();
  const { near, zone, manifest, bytes } = await zoneOn(server);
  await call(peer, 'zone.open', { zone, policy: POLICY });
  mkdirSync(dirname(zone.path), { recursive: true });
  const gone = createPeer(connect(socketPathIn(server.home.root, 'server')), {});
  const params = { zone: zone.id, manifest };
  const first = gone.call('code.put', params, { body: begunWith(bytes.subarray(0, 500)) });
  const lost = expect(first).rejects.toMatchObject({ code: 'unreachable' });
  // The server has both when it answers what came after them.
  await gone.call('zone.get', { zone: zone.id });
  const second = peer.call('code.put', params, { body: once(bytes), timeoutMs: 60_000 });
  await peer.call('zone.get', { zone: zone.id });
  gone.close();
  await lost;
  const { value } = await second;
  expect(value).toMatchObject({ head: gitIn(near, 'rev-parse', 'HEAD').trim() });
}, 60_000);
