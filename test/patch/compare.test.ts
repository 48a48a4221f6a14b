import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { captureState, compareStates } from '../../src/patch/compare.ts';
import { commitAll, dirsOf, gitIn, makeDirty, makeGround, makeRepo, put } from './ground.ts';

let ground: ReturnType<typeof makeGround>;
let root = '';
beforeEach(() => {
  ground = makeGround();
  root = makeRepo(ground.dir);
});
afterEach(() => ground.remove());

const DEADLINE_MS = 30_000;
const place = () => ({ ...dirsOf(root), shadowDir: join(ground.dir, 'shadow.git') });
const capture = () => captureState(place(), DEADLINE_MS);
const compare = async (change: () => void) => {
  const before = await capture();
  change();
  return compareStates(place(), before, await capture(), DEADLINE_MS);
};

describe('a comparison', () => {
  it('says that nothing changed, even where work was uncommitted and files were touched', async () => {
    makeDirty(root);
    const { changed, paths, patch } = await compare(() => {
      put(root, 'kept.txt', 'kept\n');
      put(root, 'ignored.cache', 'ignored');
      gitIn(root, 'status');
    });
    expect({ changed, paths, bytes: patch.length }).toEqual({ changed: false, paths: [], bytes: 0 });
  });

  it('keeps what an ask changed as a patch that gives the same files', async () => {
    const found = await compare(() => makeDirty(root));
    expect(found.changed).toBe(true);
    expect(found.refsMoved).toBe(false);
    expect(found.paths).toContain('edited.txt');
    expect(found.paths).toContain('names/new\nline');
    expect(found.paths).toContain('binary.bin');
    expect(found.paths).not.toContain('ignored.log');
    const copy = join(ground.dir, 'copy');
    gitIn(ground.dir, 'clone', '-q', root, copy);
    put(ground.dir, 'ask.patch', found.patch);
    gitIn(copy, 'apply', '--index', join(ground.dir, 'ask.patch'));
    gitIn(root, 'add', '-A');
    expect(gitIn(copy, 'write-tree')).toBe(gitIn(root, 'write-tree'));
  });

  it('sees a commit, a branch, a switch and a deleted file', async () => {
    const commit = await compare(() => void commitAll(root, 'by an ask'));
    expect(commit).toMatchObject({ changed: true, paths: [], refsMoved: true });
    expect((await compare(() => void gitIn(root, 'branch', 'other'))).refsMoved).toBe(true);
    expect((await compare(() => void gitIn(root, 'switch', '-q', 'other'))).refsMoved).toBe(true);
    expect((await compare(() => rmSync(join(root, 'kept.txt')))).paths).toEqual(['kept.txt']);
  });
});
