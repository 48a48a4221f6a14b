import { randomBytes } from 'node:crypto';
import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { buffer } from 'node:stream/consumers';
import { expect, it } from 'vitest';
import { openEnvelope, sealEnvelope } from '../../src/patch/envelope.ts';
import { openShadow } from '../../src/patch/shadow.ts';
import { snapshotTree } from '../../src/patch/snapshot.ts';
import { smallDisk } from '../fixtures/small-disk.ts';
import { gitIn, makeGround, makeRepo, put, snapshotWish } from './ground.ts';

/** A worktree on a disk that is full: a small tmpfs, which only root may mount. */

const { dir, isThere: mounted } = smallDisk('2m');

it.skipIf(!mounted)(
  'what git cannot write there is told as a full disk, and comes once there is room',
  async () => {
    const ground = makeGround();
    try {
      const near = makeRepo(ground.dir);
      for (let n = 0; n < 8; n += 1) put(near, `fat-${n}`, randomBytes(100_000));
      const wish = snapshotWish(near);
      const { tree: result } = await snapshotTree(wish);
      const from = await openShadow(wish, wish.shadowDir, 60_000);
      const sealed = join(ground.dir, 'sealed');
      const { envelope, payload } = await sealEnvelope(from, { base: undefined, result }, sealed);
      const far = join(dir, 'far');
      mkdirSync(far);
      gitIn(far, 'init', '-q');
      const there = snapshotWish(far);
      const to = await openShadow(there, there.shadowDir, 60_000);
      const bytes = await buffer(payload);
      async function* again(): AsyncGenerator<Uint8Array> {
        yield bytes;
      }
      const take = () => openEnvelope(to, envelope, again(), join(ground.dir, 'payload'));
      writeFileSync(join(dir, 'ballast'), Buffer.alloc(1_400_000, 1));
      await expect(take()).rejects.toMatchObject({
        code: 'disk-low',
        hint: 'free some space, then try again',
      });
      rmSync(join(dir, 'ballast'));
      await take();
    } finally {
      ground.remove();
    }
  },
);
