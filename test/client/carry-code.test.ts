import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import type { App } from '../../src/client/app.ts';
import type { Binding } from '../../src/client/bindings.ts';
import { type CarryPlace, carryCode } from '../../src/client/carry-code.ts';
import { loadSiteConfig } from '../../src/client/site-config.ts';
import { requireWorktree } from '../../src/client/worktree.ts';
import type { Peer } from '../../src/protocol/peer.ts';
import { call, makeZone, POLICY, startServer, type TestServer } from '../fixtures/server.ts';
import { looseStatus, makeDirty, makeGround, makeRepo, put } from '../patch/ground.ts';

let ground: ReturnType<typeof makeGround>;
let server: TestServer;
let peer: Peer;
beforeAll(async () => {
  ground = makeGround();
  server = await startServer();
  peer = await server.peer();
}, 60_000);
afterAll(async () => {
  await server.dispose();
  ground.remove();
}, 30_000);

/** Only its identity counts: carries under way are known by the hub that holds them. */
const app = {} as App;

const placeFor = async (root: string): Promise<CarryPlace> => {
  const worktree = await requireWorktree(root);
  const path = join(server.work, 'zones', 'one', 'main');
  const zone = { ...makeZone(server, { mode: 'ssh' }), path };
  await call(peer, 'zone.open', { zone, policy: POLICY });
  const { id, address, branch, mode } = zone;
  const binding: Binding = {
    zone: id,
    root,
    gitDir: worktree.gitDir,
    address,
    branch,
    mode,
    host: 'far',
    path,
    usedMs: 0,
  };
  return { worktree, config: await loadSiteConfig(root), binding };
};

it('carries a worktree as its configuration says, once for all who ask at the same time', async () => {
  const near = makeRepo(ground.dir);
  put(near, 'khlone.yml', 'sync: { include: [.env.local], exclude: ["*.mp4"] }\n');
  makeDirty(near);
  put(near, '.env', 'stays here\n');
  put(near, '.env.local', 'goes along\n');
  put(near, 'film.mp4', 'stays, too\n');
  const place = await placeFor(near);
  let sentBytes = 0;
  const first = carryCode(app, peer, place, (step) => {
    sentBytes = step.sentBytes;
  });
  const second = carryCode(app, peer, place);
  expect(second).toBe(first);
  const carried = await first;
  expect(carried.leftOut.map(({ path }) => path).sort()).toEqual(['.env', 'film.mp4']);
  expect(sentBytes).toBeGreaterThan(500);
  const far = place.binding.path;
  expect(readFileSync(join(far, '.env.local'), 'utf8')).toBe('goes along\n');
  const expected = looseStatus(near).filter((line) => !/ (\.env|film\.mp4)$/u.test(line));
  expect(looseStatus(far)).toEqual(expected);
  expect((await carryCode(app, peer, place)).head).toBe(carried.head);
});
