import { cpSync, mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { pin, pinAll, pinned, tidy, unpin } from '../../src/patch/pins.ts';
import { renewReplica, replicaOf } from '../../src/patch/replica.ts';
import { openShadow, type Shadow } from '../../src/patch/shadow.ts';
import { snapshotTree } from '../../src/patch/snapshot.ts';
import { commitAll, gitIn, makeGround, makeRepo, put, snapshotWish } from './ground.ts';

let ground: ReturnType<typeof makeGround>;
let root = '';
let shadow: Shadow;

beforeEach(async () => {
  ground = makeGround();
  root = makeRepo(ground.dir);
  const wish = snapshotWish(root);
  shadow = await openShadow(wish, wish.shadowDir, 60_000);
});
afterEach(() => ground.remove());

const treeNow = async (): Promise<string> => (await snapshotTree(snapshotWish(root))).tree;

/** What the shadow has by itself. */
const ownTree = (tree: string): string =>
  gitIn(root, `--git-dir=${shadow.dir}`, 'rev-list', '--objects', tree, '--');

describe('a pinned tree', () => {
  it('outlives the user’s own clean-up', async () => {
    put(root, 'kept.txt', 'committed, and taken back\n');
    commitAll(root, 'soon gone');
    const tree = await treeNow();
    await pin(shadow, 'base', tree);
    gitIn(root, 'reset', '-q', '--hard', 'HEAD~1');
    gitIn(root, 'reflog', 'expire', '--expire=now', '--all');
    gitIn(root, 'gc', '-q', '--prune=now');
    expect(() => ownTree(tree)).not.toThrow();
  });

  it('is named, moved and let go', async () => {
    const first = await treeNow();
    await pin(shadow, 'base', first);
    put(root, 'kept.txt', 'next\n');
    const next = await treeNow();
    await pin(shadow, 'base', next);
    await pin(shadow, 'sent/r-1', first);
    expect(await pinned(shadow, 'sent')).toEqual(new Map([['sent/r-1', first]]));
    expect((await pinned(shadow, 'base')).get('base')).toBe(next);
    await unpin(shadow, 'base');
    expect(await pinned(shadow, 'base')).toEqual(new Map());
  });

  it('keeps its name when somebody who did not know of it names another', async () => {
    const tree = await treeNow();
    const known = await pinned(shadow);
    await pin(shadow, 'queued/z/a', tree);
    await pinAll(shadow, known, new Map([['base', tree]]));
    expect([...(await pinned(shadow)).keys()].sort()).toEqual(['base', 'queued/z/a']);
  });

  it('is named anew where somebody spoiled the list', async () => {
    await pin(shadow, 'base', await treeNow());
    writeFileSync(join(shadow.dir, 'khlone-pins.json'), '{"base":"../../x"}');
    expect(await pinned(shadow)).toEqual(new Map());
    await pin(shadow, 'base', await treeNow());
    expect((await pinned(shadow, 'base')).get('base')).toBe(await treeNow());
  });

  it('is never seen by the user', async () => {
    await pin(shadow, 'base', await treeNow());
    expect(gitIn(root, 'for-each-ref')).not.toContain('khlone');
    expect(gitIn(root, 'log', '--all', '--format=%an')).not.toContain('khlone');
  });

  it('survives the joining of packs, which drops nothing that is young', async () => {
    for (let n = 0; n < 45; n += 1) {
      put(root, 'kept.txt', `round ${n}\n`);
      await pin(shadow, `at/${n}`, await treeNow());
    }
    // As a git leaves it that was killed in an earlier one.
    mkdirSync(join(shadow.dir, 'refs/khlone/pinned'), { recursive: true });
    writeFileSync(join(shadow.dir, 'refs/khlone/pinned/x.lock'), '');
    writeFileSync(join(shadow.dir, 'packed-refs.lock'), '');
    await tidy(shadow);
    const packs = gitIn(root, `--git-dir=${shadow.dir}`, 'count-objects', '-v');
    expect(Number(/packs: (\d+)/u.exec(packs)?.[1])).toBeLessThan(5);
    for (const tree of (await pinned(shadow, 'at')).values()) expect(() => ownTree(tree)).not.toThrow();
  }, 60_000);
});

describe('a replica', () => {
  it('keeps its id where it is, and takes a new one where it was copied', async () => {
    const gitDir = join(root, '.git');
    const id = await replicaOf(gitDir);
    expect(await replicaOf(gitDir)).toBe(id);
    const copy = join(ground.dir, 'copy');
    cpSync(root, copy, { recursive: true });
    const copied = await replicaOf(join(copy, '.git'));
    expect(copied).not.toBe(id);
    expect(await replicaOf(join(copy, '.git'))).toBe(copied);
    expect(await replicaOf(gitDir)).toBe(id);
  });

  it('gets an id again after its file was broken, and another when it is renewed', async () => {
    const gitDir = join(root, '.git');
    const id = await replicaOf(gitDir);
    writeFileSync(join(gitDir, 'khlone/replica.json'), '{');
    const next = await replicaOf(gitDir);
    expect(next).toMatch(/^r-[0-9a-f]{24}$/u);
    expect(next).not.toBe(id);
    expect(await renewReplica(gitDir)).not.toBe(next);
    rmSync(join(gitDir, 'khlone'), { recursive: true });
  });
});
