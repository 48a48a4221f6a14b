import { existsSync, utimesSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { tooLargeNow } from '../../src/patch/ignored.ts';
import { openShadow } from '../../src/patch/shadow.ts';
import { snapshotTree } from '../../src/patch/snapshot.ts';
import { commitAll, gitIn, makeGround, makeRepo, put, snapshotWish } from './ground.ts';

let ground: ReturnType<typeof makeGround>;
let root = '';
beforeEach(() => {
  ground = makeGround();
  root = makeRepo(ground.dir);
});
afterEach(() => ground.remove());

it('names what is larger than a limit and not as HEAD has it, and runs no filter for that', async () => {
  const ran = join(ground.dir, 'filter-ran');
  put(root, 'committed.bin', 'x'.repeat(100));
  put(root, 'edited.bin', 'x'.repeat(100));
  put(root, 'small.bin', 'x');
  commitAll(root, 'before');
  gitIn(root, 'config', 'filter.own.clean', `touch ${ran}; cat`);
  put(root, '.git/info/attributes', '*.bin filter=own\n');
  put(root, 'new.bin', 'x'.repeat(100));
  writeFileSync(join(root, 'edited.bin'), 'y'.repeat(101));
  // Written as late as the index itself: git cannot tell by the time whether such a file changed.
  const later = new Date(Date.now() + 5_000);
  for (const name of ['committed.bin', 'small.bin']) utimesSync(join(root, name), later, later);
  gitIn(root, '-c', 'filter.own.clean=', 'update-index', 'committed.bin', 'small.bin');

  const wish = snapshotWish(root);
  await snapshotTree(wish);
  const shadow = await openShadow(wish, wish.shadowDir, 60_000);
  const held = await tooLargeNow(shadow, 50, 60_000);
  expect(held.map(({ path }) => path).sort()).toEqual(['edited.bin', 'new.bin']);
  expect(existsSync(ran)).toBe(false);
});
