import { readdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import {
  blobSizes,
  diffTrees,
  diffWithRenames,
  entriesOf,
  isComplete,
  listTree,
  readBlob,
  treeWith,
} from '../../src/patch/tree.ts';
import { lines, makeMergeGround, textAt } from './merge-ground.ts';

let ground: Awaited<ReturnType<typeof makeMergeGround>>;
beforeAll(async () => {
  ground = await makeMergeGround();
});
afterAll(() => ground.remove());

const ODD = ['new\nline', 'tab\there', '-dash', '*', ':(top)x', 'quo"te', '\xff\xfe', 'a b/c', 'é'];

describe('a tree', () => {
  it('is listed with every name and mode', async () => {
    const files = Object.fromEntries(ODD.map((path) => [path, path]));
    const tree = await ground.tree({
      ...files,
      run: { mode: '100755', text: 'x' },
      link: { mode: '120000', text: 'run' },
    });
    const all = await listTree(ground.shadow, tree);
    expect([...all.keys()].sort()).toEqual([...ODD, 'run', 'link'].sort());
    expect([all.get('run')?.mode, all.get('link')?.mode, all.get('*')?.mode]).toEqual([
      '100755',
      '120000',
      '100644',
    ]);
    for (const path of ODD) expect(await textAt(ground.shadow, tree, path)).toBe(path);
  });

  it('answers for a few paths as the whole listing does, and not for folders or places outside', async () => {
    const tree = await ground.tree(Object.fromEntries(ODD.map((path) => [path, path])));
    const all = await listTree(ground.shadow, tree);
    const wanted = [...ODD, 'a b', 'absent', '../x', '', '/', './é', 'a b/', 'a b/../é'];
    expect(await entriesOf(ground.shadow, tree, wanted)).toEqual(all);
    expect((await entriesOf(ground.shadow, tree, ['é', 'a b'])).size).toBe(1);
    const many = Array.from({ length: 20_000 }, (_, i) => `no/such/file/${i}`);
    expect((await entriesOf(ground.shadow, tree, [...many, '*'])).size).toBe(1);
  });

  it('differs from another in additions, deletions, modes and kinds, and never in renames', async () => {
    const from = await ground.tree({ moved: lines(1, 40), gone: 'g', mode: 'm', kind: 'k', same: 's' });
    const to = await ground.tree({
      arrived: lines(1, 40),
      mode: { mode: '100755', text: 'm' },
      kind: { mode: '120000', text: 'k' },
      same: 's',
    });
    const changes = await diffTrees(ground.shadow, from, to);
    const seen = changes.map(({ path, before, after }) => [path, before?.mode, after?.mode]);
    expect(seen.sort()).toEqual([
      ['arrived', undefined, '100644'],
      ['gone', '100644', undefined],
      ['kind', '100644', '120000'],
      ['mode', '100644', '100755'],
      ['moved', '100644', undefined],
    ]);
    const { changes: same, renames } = await diffWithRenames(ground.shadow, from, to);
    expect(same.map(({ path }) => path).sort()).toEqual(changes.map(({ path }) => path).sort());
    expect(renames).toEqual([{ from: 'moved', to: 'arrived' }]);
  });

  it("becomes another with some paths set and removed, a folder in a file's place too", async () => {
    const from = await ground.tree({ a: 'a', 'd/x': 'x', 'd/y': 'y', keep: 'k' });
    const entry = { mode: '100644', oid: await ground.blob('new') };
    const made = await treeWith(ground.shadow, from, [
      { path: 'a/b', after: entry },
      { path: 'a', after: undefined },
      { path: 'd', after: entry },
      { path: 'd/x', after: undefined },
      { path: 'd/y', after: undefined },
    ]);
    expect(made).toBe(await ground.tree({ 'a/b': 'new', d: 'new', keep: 'k' }));
    expect(await treeWith(ground.shadow, from, [])).toBe(from);
    expect(readdirSync(ground.shadow.dir).filter((name) => name.startsWith('index.'))).toEqual([]);
  });

  it.each([
    '.git/config',
    '.GIT/x',
    'git~1/x',
    '../x',
    'a//b',
    '/abs',
    'x/.git',
    '.g\xe2\x80\x8cit/x',
    'keep/x',
  ])('is not made where git would drop %j, or another file for it, without a word', async (path) => {
    const from = await ground.tree({ keep: 'k' });
    const after = { mode: '100644', oid: await ground.blob('x') };
    await expect(treeWith(ground.shadow, from, [{ path, after }])).rejects.toMatchObject({
      code: 'conflict',
    });
  });

  it('tells the sizes and bytes of its files, and which are gone', async () => {
    const [one, two] = [await ground.blob('four'), await ground.blob('')];
    expect(await blobSizes(ground.shadow, [one, two, one])).toEqual(
      new Map([
        [one, 4],
        [two, 0],
      ]),
    );
    expect(String(await readBlob(ground.shadow, one, 10))).toBe('four');
    await expect(readBlob(ground.shadow, one, 3)).rejects.toMatchObject({ code: 'too-large' });
    await expect(blobSizes(ground.shadow, ['1'.repeat(40)])).rejects.toMatchObject({ code: 'internal' });
  });

  it('is complete only with all its files and folders', async () => {
    const { shadow } = ground;
    const tree = await ground.tree({ 'deep/er/only here': 'nowhere else' });
    const known = await ground.tree({ kept: 'kept' });
    expect(await isComplete(shadow, tree)).toBe(true);
    expect(await isComplete(shadow, tree, known)).toBe(true);
    const oid = await ground.blob('nowhere else');
    rmSync(join(shadow.dir, 'objects', oid.slice(0, 2), oid.slice(2)));
    expect(await isComplete(shadow, tree)).toBe(false);
    expect(await isComplete(shadow, tree, known)).toBe(false);
    expect(await isComplete(shadow, '2'.repeat(40))).toBe(false);
    // Such a tree can still be changed: only its ids are needed.
    const after = { mode: '100644', oid };
    expect(await treeWith(shadow, known, [{ path: 'x', after }])).toMatch(/^[0-9a-f]{40}$/u);
  });
});
