import { chmodSync, existsSync, mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Conflict } from '../../src/patch/conflict.ts';
import { mergeTrees } from '../../src/patch/merge.ts';
import { entriesOf, treeWith } from '../../src/patch/tree.ts';
import { type Files, gitMerge, lines, makeMergeGround, textAt } from './merge-ground.ts';

let ground: Awaited<ReturnType<typeof makeMergeGround>>;
beforeAll(async () => {
  ground = await makeMergeGround();
});
afterAll(() => ground.remove());

const treesOf = async (base: Files, local: Files, remote: Files) => ({
  base: await ground.tree(base),
  local: await ground.tree(local),
  remote: await ground.tree(remote),
});

const merge = async (base: Files, local: Files, remote: Files) => {
  const trees = await treesOf(base, local, remote);
  const merged = await mergeTrees(ground.shadow, trees);
  const own = gitMerge(ground.dir, ground.shadow, trees);
  return { ...merged, trees, own };
};

const brief = (conflicts: readonly Conflict[]) => conflicts.map(({ kind, paths }) => [kind, ...paths]);

describe('a merge', () => {
  it('joins edits of different lines and files as git does', async () => {
    const base = { a: lines(1, 30), b: 'b\n', gone: 'g\n' };
    const { tree, conflicts, own } = await merge(
      base,
      { ...base, a: lines(1, 30, { 3: 'L' }), mine: 'm\n' },
      { a: lines(1, 30, { 25: 'R' }), b: { mode: '100755', text: 'b\n' }, theirs: 't\n' },
    );
    expect(conflicts).toEqual([]);
    expect(tree).toBe(own.tree);
    expect(await textAt(ground.shadow, tree, 'a')).toBe(lines(1, 30, { 3: 'L', 25: 'R' }));
  });

  it('leaves a file in a conflict of which git tells no content', async () => {
    const kept = lines(1, 20);
    const base = { 'lib/e': kept, 'lib/f/z': 'z\n' };
    const local = { 'lib/f': lines(30, 50) };
    const { conflicts, tree } = await merge(base, local, { 'moved/e': lines(1, 20, { 3: 'R' }) });
    expect(tree).toBe(await ground.tree({ 'lib/e': kept }));
    expect(conflicts.flatMap(({ paths }) => paths)).toContain('lib/f');
    expect(conflicts.flatMap(({ paths }) => paths)).toContain('moved/e');
  });

  it('keeps a file in conflict as the base has it, and merges the rest', async () => {
    const base = { a: lines(1, 9), b: 'b\n' };
    const { tree, conflicts, own, trees } = await merge(
      base,
      { a: lines(1, 9, { 5: 'L' }), b: 'b\n' },
      { a: lines(1, 9, { 5: 'R' }), b: 'B\n', c: 'c\n' },
    );
    expect(own.unmerged).toEqual(['a']);
    expect(brief(conflicts)).toEqual([['content', 'a']]);
    expect(tree).toBe(await ground.tree({ a: lines(1, 9), b: 'B\n', c: 'c\n' }));
    const [conflict] = conflicts;
    const [b, l, r] = await Promise.all(
      [trees.base, trees.local, trees.remote].map((one) => entriesOf(ground.shadow, one, ['a'])),
    );
    expect(conflict?.stages.get('a')).toEqual({ base: b?.get('a'), local: l?.get('a'), remote: r?.get('a') });
    expect(conflict?.contents).toEqual(conflict?.stages);
    expect(conflict?.message).toContain('Merge conflict in a');
    expect((await mergeTrees(ground.shadow, trees)).conflicts).toEqual(conflicts);
  });

  it('has a conflict of each kind', async () => {
    const link = (text: string) => ({ mode: '120000' as const, text });
    const base = { t: lines(1, 9), d: lines(1, 9), bin: 'a\0b', l: link('x'), f: 'f\n' };
    const { conflicts, own } = await merge(
      base,
      { t: lines(1, 9, { 5: 'L' }), bin: 'a\0L', l: link('y'), n: 'mine\n', 'f/x': 'x\n' },
      {
        ...base,
        t: lines(1, 9, { 5: 'R' }),
        d: `${base.d}R\n`,
        bin: 'a\0R',
        l: link('z'),
        n: 'their\n',
        f: 'F\n',
      },
    );
    expect(brief(conflicts).sort()).toEqual([
      ['add-add', 'n'],
      ['binary', 'bin'],
      ['content', 't'],
      ['modify-delete', 'd'],
      ['type', 'f', 'f/x'],
      ['type', 'l'],
    ]);
    // Git would put the file beside the folder under a name of its own.
    expect(own.unmerged.map((path) => path.replace(/~.*/u, ''))).toEqual(['bin', 'd', 'f', 'l', 'n', 't']);
  });

  it('takes the old name of a renamed file into its conflict', async () => {
    const { tree, conflicts, own, trees } = await merge(
      { old: lines(1, 30), other: 'o\n' },
      { new: lines(1, 30, { 15: 'L' }), other: 'o\n' },
      { old: lines(1, 30, { 15: 'R' }), other: 'O\n' },
    );
    // Git tells only the new name; taken alone, the old one would be deleted with the remote's edit in it.
    expect(own.unmerged).toEqual(['new']);
    expect(brief(conflicts)).toEqual([['content', 'new', 'old']]);
    expect(tree).toBe(await ground.tree({ old: lines(1, 30), other: 'O\n' }));
    const [l, r] = await Promise.all([
      entriesOf(ground.shadow, trees.local, ['new']),
      entriesOf(ground.shadow, trees.remote, ['old']),
    ]);
    expect(conflicts[0]?.contents.get('new')).toMatchObject({ local: l.get('new'), remote: r.get('old') });
    expect(conflicts[0]?.stages.get('new')).toEqual({ local: l.get('new') });
  });

  it('keeps two files in one conflict that were renamed to one name', async () => {
    const a = lines(1, 30);
    const b = lines(101, 130);
    const { conflicts, tree } = await merge(
      { a, b },
      { g: lines(1, 30, { 4: 'L' }), b: lines(101, 130, { 103: 'L' }) },
      { a: lines(1, 30, { 20: 'R' }), g: lines(101, 130, { 120: 'R' }) },
    );
    expect(conflicts.flatMap(({ paths }) => paths).sort()).toEqual(['a', 'b', 'g']);
    expect(tree).toBe(await ground.tree({ a, b }));
  });

  it('keeps one file in one conflict that was renamed to two names', async () => {
    const { conflicts, tree } = await merge({ f: lines(1, 30) }, { g: lines(1, 30) }, { h: lines(1, 30) });
    expect(brief(conflicts)).toEqual([['rename', 'f', 'g', 'h']]);
    expect(tree).toBe(await ground.tree({ f: lines(1, 30) }));
  });

  it('leaves a new file where it is that the other side may want in a renamed folder', async () => {
    const dir = { 'd/a': lines(1, 20), 'd/b': lines(101, 120), 'd/c': lines(201, 220) };
    const moved = { 'e/a': lines(1, 20), 'e/b': lines(101, 120), 'e/c': lines(201, 220) };
    const { conflicts, tree, own } = await merge(dir, moved, { ...dir, 'd/new': 'n\n' });
    expect(own.unmerged).toEqual(['e/new']);
    expect(brief(conflicts)).toEqual([['rename', 'd/new']]);
    expect(tree).toBe(await ground.tree(moved));
  });

  it('does not decide anew what waits for a person, until something moves there', async () => {
    const dir = { 'd/a': lines(1, 20), 'd/b': lines(101, 120), 'd/c': lines(201, 220) };
    const moved = { 'e/a': lines(1, 20), 'e/b': lines(101, 120), 'e/c': lines(201, 220) };
    const { conflicts: known } = await merge(dir, moved, { ...dir, 'd/new': 'n\n' });
    // The moved folder went over to remote meanwhile, so that git sees nothing but a new file.
    const later = await treesOf(moved, moved, { ...moved, 'd/new': 'n\n' });
    expect((await mergeTrees(ground.shadow, later)).conflicts).toEqual([]);
    const kept = await mergeTrees(ground.shadow, { ...later, known });
    expect(kept.conflicts).toEqual(known);
    expect(kept.tree).toBe(later.base);
    const edited = await ground.tree({ ...moved, 'd/new': 'N\n' });
    const anew = await mergeTrees(ground.shadow, { ...later, remote: edited, known });
    expect([anew.conflicts, anew.tree]).toEqual([[], edited]);
  });

  it('keeps a new file under an old name that both sides moved away, which git drops and calls clean', async () => {
    const { own, conflicts, tree } = await merge(
      { 'd/a': 'X\n', b: 'b\n' },
      { 'md/a': 'X\n', 'd/a': 'mine\n', b: 'b\n' },
      { 'md/a': 'X\n', b: 'B\n' },
    );
    expect([own.unmerged, await textAt(ground.shadow, own.tree ?? '', 'd/a')]).toEqual([[], undefined]);
    expect(brief(conflicts)).toEqual([['rename', 'd/a', 'md/a']]);
    expect(conflicts[0]?.message).toContain('d/a is moved to md/a in remote, and local has another file');
    expect(tree).toBe(await ground.tree({ 'd/a': 'X\n', b: 'B\n' }));
  });

  it('keeps a file that nobody touched in a folder that another was renamed onto, which git drops', async () => {
    const kept = { 'e/f': lines(1, 20), 'x/y': lines(101, 120) };
    const { own, conflicts, tree } = await merge(
      { ...kept, 'd/b': lines(201, 220) },
      { ...kept, 'd/b': lines(201, 220), 'd/a': 'mine\n', 'd/e/c': 'mine, too\n' },
      { ...kept, b: lines(201, 220) },
    );
    expect([own.unmerged, own.index.has('e/f')]).toEqual([['a', 'e/c'], false]);
    expect(brief(conflicts)).toEqual([
      ['rename', 'd/a'],
      ['rename', 'd/e/c'],
    ]);
    expect(tree).toBe(await ground.tree({ ...kept, b: lines(201, 220) }));
  });

  it('does not take empty files for each other', async () => {
    const { conflicts } = await merge(
      { 'a/empty': '', 'b/empty': '', x: '' },
      { 'a/empty': 'L\n', x: '' },
      { 'a/empty': 'R\n', 'b/empty': '', x: '' },
    );
    expect(brief(conflicts)).toEqual([['content', 'a/empty']]);
  });

  it('asks no attribute, driver, filter or hook of the repository', async () => {
    const { worktree, shadow } = ground;
    const canary = join(ground.dir, 'canary');
    const program = join(ground.dir, 'driver');
    writeFileSync(program, `#!/bin/sh\ntouch '${canary}'\n`);
    chmodSync(program, 0o755);
    const attributes = '* merge=mine filter=mine diff=mine\n*.u merge=union\n*.b binary\n';
    writeFileSync(join(worktree, '.gitattributes'), attributes);
    const config = `[merge "mine"]\n driver=${program} %A\n[filter "mine"]\n clean=${program}\n smudge=${program}\n`;
    writeFileSync(join(worktree, '.git', 'config'), config, { flag: 'a' });
    mkdirSync(join(worktree, '.git', 'hooks'), { recursive: true });
    writeFileSync(
      join(worktree, '.git', 'hooks', 'reference-transaction'),
      `#!/bin/sh\ntouch '${canary}'\n`,
      {
        mode: 0o755,
      },
    );
    const start = { '.gitattributes': attributes, 'x.u': lines(1, 9), 'x.b': lines(1, 30) };
    const trees = await treesOf(
      start,
      { ...start, 'x.u': lines(1, 9, { 5: 'L' }), 'x.b': lines(1, 30, { 5: 'L' }) },
      { ...start, 'x.u': lines(1, 9, { 5: 'R' }), 'x.b': lines(1, 30, { 25: 'R' }) },
    );
    const { conflicts, tree } = await mergeTrees(shadow, trees);
    expect(brief(conflicts)).toEqual([['content', 'x.u']]);
    expect(await textAt(shadow, tree, 'x.b')).toBe(lines(1, 30, { 5: 'L', 25: 'R' }));
    expect(existsSync(canary)).toBe(false);
    rmSync(join(worktree, '.gitattributes'));
  });

  it('carries names of any bytes, symlinks and bits', async () => {
    const odd = { 'new\nline': 'x\n', '\xff\xfe': lines(1, 9), "quo'te": 'q\n' };
    const { tree, own, conflicts } = await merge(
      odd,
      { ...odd, '\xff\xfe': lines(1, 9, { 5: 'L' }) },
      { ...odd, '\xff\xfe': lines(1, 9, { 5: 'R' }), 'new\nline': { mode: '120000', text: 'x' } },
    );
    expect(brief(conflicts)).toEqual([['content', '\xff\xfe']]);
    expect(own.unmerged).toEqual(['\xff\xfe']);
    expect(tree).toBe(await ground.tree({ ...odd, 'new\nline': { mode: '120000', text: 'x' } }));
  });

  it('keeps the commit of a submodule as the base has it, whatever stands in its place', async () => {
    const { shadow } = ground;
    const link = (digit: string) => [{ path: 'sub', after: { mode: '160000', oid: digit.repeat(40) } }];
    const base = await treeWith(shadow, await ground.tree({ a: 'a\n' }), link('1'));
    const local = await treeWith(shadow, await ground.tree({ a: 'L\n' }), link('2'));
    const remote = await treeWith(shadow, await ground.tree({ a: 'a\n' }), link('3'));
    const { conflicts, tree } = await mergeTrees(shadow, { base, local, remote });
    expect(conflicts).toEqual([]);
    expect(tree).toBe(await treeWith(shadow, await ground.tree({ a: 'L\n' }), link('1')));
    const vendored = await ground.tree({ a: 'a\n', 'sub/x': 'x\n' });
    const over = await mergeTrees(shadow, { base, local, remote: vendored });
    expect(over.tree).toBe(tree);
    expect(over.sides.remote.has('sub/x')).toBe(true);
  });
});

describe('without the base', () => {
  const loseBlob = async (text: string): Promise<void> => {
    const oid = await ground.blob(text);
    rmSync(join(ground.shadow.dir, 'objects', oid.slice(0, 2), oid.slice(2)));
  };

  it('every difference is a conflict, because an addition and a deletion look the same', async () => {
    const local = await ground.tree({ same: 's\n', l: 'l\n', both: 'L\n', x: 'x\n' });
    const remote = await ground.tree({ same: 's\n', r: 'r\n', both: 'R\n', 'x/y': 'y\n' });
    const lost = await mergeTrees(ground.shadow, { base: undefined, local, remote });
    expect(brief(lost.conflicts)).toEqual([
      ['no-base', 'both'],
      ['no-base', 'l'],
      ['no-base', 'r'],
      // A file, and what needs its place as a folder.
      ['no-base', 'x', 'x/y'],
    ]);
    expect(lost.tree).toBe(await ground.tree({ same: 's\n' }));
    expect((await mergeTrees(ground.shadow, { base: '3'.repeat(40), local, remote })).tree).toBe(lost.tree);
    expect((await mergeTrees(ground.shadow, { base: undefined, local, remote: local })).conflicts).toEqual(
      [],
    );
  });

  it('what ids alone decide is merged where only some contents are gone', async () => {
    const text = 'only in the base\n'.repeat(20);
    const trees = await treesOf(
      { both: text, one: 'o\n', del: 'd\n' },
      { both: `${text}L\n`, one: 'o\n', mine: 'm\n', clash: 'c\n' },
      { both: `R\n${text}`, one: 'O\n', del: 'd\n', 'clash/x': 'x\n' },
    );
    await loseBlob(text);
    const { conflicts, tree } = await mergeTrees(ground.shadow, trees);
    expect(brief(conflicts)).toEqual([
      ['no-base', 'both'],
      ['no-base', 'clash', 'clash/x'],
    ]);
    expect((await entriesOf(ground.shadow, tree, ['both', 'one', 'mine', 'del', 'clash'])).size).toBe(3);
    expect(await textAt(ground.shadow, tree, 'one')).toBe('O\n');
  });

  it('a side that is not whole is an error, and no guess', async () => {
    const text = 'only on one side\n'.repeat(20);
    const trees = await treesOf({ f: lines(1, 9) }, { f: text }, { f: lines(2, 9) });
    await loseBlob(text);
    await expect(mergeTrees(ground.shadow, trees)).rejects.toMatchObject({ code: 'internal' });
  });
});

it('a merge works in a repository of sha256 ids', async () => {
  const long = await makeMergeGround('sha256');
  try {
    const base = await long.tree({ a: lines(1, 9), b: '' });
    const local = await long.tree({ a: lines(1, 9, { 2: 'L' }), b: '' });
    const remote = await long.tree({ a: lines(1, 9, { 8: 'R' }) });
    const { tree, conflicts } = await mergeTrees(long.shadow, { base, local, remote });
    expect(conflicts).toEqual([]);
    expect(tree).toBe(await long.tree({ a: lines(1, 9, { 2: 'L', 8: 'R' }) }));
  } finally {
    long.remove();
  }
});
