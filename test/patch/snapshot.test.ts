import { chmodSync, existsSync, mkdirSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { snapshotTree } from '../../src/patch/snapshot.ts';
import {
  commitAll,
  fingerprint,
  gitIn,
  makeDirty,
  makeGround,
  makeRepo,
  put,
  snapshotWish,
} from './ground.ts';

let ground: ReturnType<typeof makeGround>;
let root = '';
beforeEach(() => {
  ground = makeGround();
  root = makeRepo(ground.dir);
});
afterEach(() => ground.remove());

/** What a tree holds, read with the objects of both the user and the shadow. */
const shadowGit = (...args: string[]): string =>
  gitIn(root, '-c', 'core.quotePath=false', `--git-dir=${sharedView()}`, ...args);

/** A look at both object stores that leaves either as it is. */
const sharedView = (): string => {
  const { shadowDir, commonDir } = snapshotWish(root);
  const view = join(ground.dir, 'view.git');
  if (!existsSync(view)) gitIn(root, 'init', '-q', '--bare', view);
  const stores = [join(shadowDir, 'objects'), join(commonDir, 'objects')];
  writeFileSync(join(view, 'objects', 'info', 'alternates'), `${stores.join('\n')}\n`);
  return view;
};
const namesIn = (tree: string): string[] =>
  shadowGit('ls-tree', '-r', '-z', '--name-only', tree).split('\0').filter(Boolean);
const contentOf = (tree: string, path: string): string => shadowGit('cat-file', 'blob', `${tree}:${path}`);

describe('a snapshot', () => {
  it("is HEAD's own tree where nothing changed", async () => {
    const { tree, head, leftOut } = await snapshotTree(snapshotWish(root));
    expect(tree).toBe(gitIn(root, 'rev-parse', 'HEAD^{tree}').trim());
    expect(head).toBe(gitIn(root, 'rev-parse', 'HEAD').trim());
    expect(leftOut).toEqual([]);
  });

  it('is what git itself would add, for every kind of change', async () => {
    await snapshotTree(snapshotWish(root));
    makeDirty(root);
    const { tree } = await snapshotTree(snapshotWish(root));
    gitIn(root, 'add', '-A');
    expect(tree).toBe(gitIn(root, 'write-tree').trim());
    expect(await snapshotTree(snapshotWish(root))).toMatchObject({ tree });
  });

  it('sees a change of the same size in the same instant, and a file that is ignored later', async () => {
    for (const letter of ['a', 'b', 'c', 'd', 'e', 'f']) {
      put(root, 'edited.txt', `${letter}\n`);
      const { tree } = await snapshotTree(snapshotWish(root));
      expect(contentOf(tree, 'edited.txt')).toBe(`${letter}\n`);
    }
    put(root, 'noise.txt', 'x');
    expect(namesIn((await snapshotTree(snapshotWish(root))).tree)).toContain('noise.txt');
    put(root, '.git/info/exclude', 'noise.txt\n');
    expect(namesIn((await snapshotTree(snapshotWish(root))).tree)).not.toContain('noise.txt');
  });

  it('keeps ignored files that are tracked', async () => {
    put(root, 'ignored.but.tracked', 'one\n');
    gitIn(root, 'add', '-f', 'ignored.but.tracked');
    gitIn(root, 'commit', '-q', '-m', 'tracked');
    put(root, 'ignored.but.tracked', 'two\n');
    const { tree } = await snapshotTree(snapshotWish(root));
    expect(contentOf(tree, 'ignored.but.tracked')).toBe('two\n');
  });

  it("leaves the user's git directory as it is and runs neither hooks nor filters", async () => {
    const ran = join(ground.dir, 'ran');
    const program = join(ground.dir, 'canary.sh');
    put(ground.dir, 'canary.sh', `#!/bin/sh\necho "$0 $*" >> '${ran}'\ncat\n`, 0o755);
    for (const hook of ['post-index-change', 'reference-transaction', 'pre-commit', 'post-checkout']) {
      put(root, `.git/hooks/${hook}`, `#!/bin/sh\nexec '${program}' ${hook} </dev/null\n`, 0o755);
    }
    put(root, '.gitattributes', '*.dat filter=canary text eol=lf ident\n');
    put(root, 'x.dat', 'raw $Id$\r\n');
    gitIn(root, 'config', 'filter.canary.clean', program);
    gitIn(root, 'config', 'filter.canary.smudge', program);
    gitIn(root, 'config', 'filter.canary.required', 'true');
    gitIn(root, 'config', 'core.fsmonitor', program);
    gitIn(root, 'config', 'core.autocrlf', 'true');
    makeDirty(root);
    rmSync(ran, { force: true });
    const ours = join(root, '.git', 'khlone');
    const before = fingerprint(join(root, '.git'), (path) => path === ours);
    const { tree } = await snapshotTree(snapshotWish(root));
    expect(existsSync(ran)).toBe(false);
    expect(fingerprint(join(root, '.git'), (path) => path === ours)).toEqual(before);
    expect(contentOf(tree, 'x.dat')).toBe('raw $Id$\r\n');
    expect(statSync(ours).mode & 0o777).toBe(0o700);
    expect(statSync(join(ours, 'shadow.git')).mode & 0o777).toBe(0o700);
    // The canary would have sung.
    gitIn(root, 'add', 'x.dat');
    expect(existsSync(ran)).toBe(true);
  });

  it("leaves secrets, large files, nested repositories, submodules and khlone's own folder out", async () => {
    const lib = makeRepo(ground.dir, 'lib');
    gitIn(root, '-c', 'protocol.file.allow=always', 'submodule', '--quiet', 'add', lib, 'sub');
    put(root, 'big-tracked.bin', 'small\n');
    commitAll(root, 'with a submodule');
    const committed = gitIn(root, 'rev-parse', 'HEAD^{tree}').trim();
    put(root, 'sub/more.txt', 'in the submodule\n');
    makeRepo(root, 'nested');
    mkdirSync(join(root, 'unborn-nested'));
    gitIn(join(root, 'unborn-nested'), 'init', '-q');
    put(root, 'big-tracked.bin', Buffer.alloc(2000));
    put(root, 'big.bin', Buffer.alloc(2000));
    for (const name of ['.env', '.env.local', 'id_rsa', 'key.pem', 'conf/.aws/credentials', '.npmrc'])
      put(root, name, 's');
    put(root, '.khlone/.bind.worksite/zone.yml', 'zone: x\n');
    put(root, '.env.staged', 's');
    gitIn(root, 'add', '-f', '.env.staged');
    const { tree, leftOut } = await snapshotTree(snapshotWish(root, { maxFileBytes: 1000 }));
    expect(tree).toBe(committed);
    expect(leftOut.map(({ path }) => path).sort()).toEqual(
      [
        ...['.env', '.env.local', '.env.staged', '.npmrc', 'big-tracked.bin', 'big.bin'],
        ...['conf/.aws/credentials', 'id_rsa', 'key.pem', 'nested', 'sub', 'unborn-nested'],
      ].sort(),
    );
    expect(leftOut.find(({ path }) => path === 'sub')?.why).toBe('submodule');
    put(root, '.env.example', 'KEY=\n');
    put(root, 'id_generator.ts', 'code\n');
    put(root, 'film.mp4', 'film');
    const choice = { include: ['.env.local', 'conf/**'], exclude: ['*.mp4'] };
    const chosen = await snapshotTree(snapshotWish(root, { choice }));
    const names = namesIn(chosen.tree);
    for (const name of [
      '.env.example',
      '.env.local',
      'id_generator.ts',
      'conf/.aws/credentials',
      'big.bin',
    ]) {
      expect(names).toContain(name);
    }
    expect(names).not.toContain('.env');
    expect(chosen.leftOut).toContainEqual({ path: 'film.mp4', why: 'excluded by sync.exclude' });
  });

  it('gives filtered files as HEAD has them where that is asked for, and a secret that HEAD has', async () => {
    put(root, '.gitattributes', '*.lfs filter=lfs\n');
    put(root, 'a.lfs', 'pointer\n');
    put(root, '.env', 'in history\n');
    commitAll(root, 'pointers');
    put(root, 'a.lfs', 'the large content itself\n');
    put(root, '.env', 'edited\n');
    const { tree, leftOut } = await snapshotTree(snapshotWish(root, { filtered: 'head' }));
    expect(contentOf(tree, 'a.lfs')).toBe('pointer\n');
    expect(contentOf(tree, '.env')).toBe('edited\n');
    expect(leftOut).toEqual([{ path: 'a.lfs', why: 'made by a filter (LFS)' }]);
    const raw = await snapshotTree(snapshotWish(root));
    expect(contentOf(raw.tree, 'a.lfs')).toBe('the large content itself\n');
  });

  it('works before the first commit, in a linked worktree, with sha256 and in a folder with an odd name', async () => {
    const odd = join(ground.dir, 'o"d:d \\ é\nname');
    mkdirSync(odd);
    gitIn(odd, 'init', '-q', '--object-format=sha256');
    expect((await snapshotTree(snapshotWish(odd))).tree).toHaveLength(64);
    put(odd, 'a', 'a\n');
    commitAll(odd, 'one');
    rmSync(join(odd, 'a'));
    put(odd, 'b', 'b\n');
    const { tree } = await snapshotTree(snapshotWish(odd));
    gitIn(odd, 'add', '-A');
    expect(tree).toBe(gitIn(odd, 'write-tree').trim());
    const linked = join(ground.dir, 'linked');
    gitIn(root, 'worktree', 'add', '-q', linked);
    put(linked, 'only-here', 'x\n');
    const there = await snapshotTree(snapshotWish(linked));
    gitIn(linked, 'add', '-A');
    expect(there.tree).toBe(gitIn(linked, 'write-tree').trim());
    expect(existsSync(join(root, '.git', 'worktrees', 'linked', 'khlone', 'shadow.git'))).toBe(true);
  });

  it("goes on after the user's git pruned an object it counted on, and after its index broke", async () => {
    put(root, 'fleeting.txt', 'staged, then thrown away by git\n');
    gitIn(root, 'add', 'fleeting.txt');
    await snapshotTree(snapshotWish(root));
    gitIn(root, 'rm', '-q', '--cached', 'fleeting.txt');
    gitIn(root, 'prune', '--expire=now');
    put(root, 'other.txt', 'so that the tree is written anew\n');
    const { tree } = await snapshotTree(snapshotWish(root));
    expect(contentOf(tree, 'fleeting.txt')).toBe('staged, then thrown away by git\n');
    writeFileSync(join(snapshotWish(root).shadowDir, 'index'), 'no index');
    expect((await snapshotTree(snapshotWish(root))).tree).toBe(tree);
  });

  it('makes the shadow anew when somebody wrote a program into it', async () => {
    const { shadowDir } = snapshotWish(root);
    const ran = join(ground.dir, 'ran');
    put(ground.dir, 'canary.sh', `#!/bin/sh\ntouch '${ran}'\ncat\n`, 0o755);
    await snapshotTree(snapshotWish(root));
    for (const [path, text] of [
      ['config', `[filter "x"]\n\tclean = ${join(ground.dir, 'canary.sh')}\n`],
      ['info/attributes', '* filter=x\n'],
      ['commondir', `${join(root, '.git')}\n`],
    ] as const) {
      put(shadowDir, 'info/attributes', '* filter=x\n');
      put(shadowDir, path, text);
      put(shadowDir, 'info/attributes', '* filter=x\n');
      put(root, 'kept.txt', `${path}\n`);
      const { tree } = await snapshotTree(snapshotWish(root));
      expect(contentOf(tree, 'kept.txt')).toBe(`${path}\n`);
      expect(existsSync(join(shadowDir, 'commondir'))).toBe(false);
    }
    expect(existsSync(ran)).toBe(false);
  });

  it('may be taken several times at once, and again without a difference', async () => {
    makeDirty(root);
    const all = await Promise.all(Array.from({ length: 4 }, () => snapshotTree(snapshotWish(root))));
    expect(new Set(all.map(({ tree }) => tree)).size).toBe(1);
    const later = await snapshotTree(snapshotWish(root));
    expect(later.tree).toBe(all[0]?.tree);
  });

  it('leaves sparse files in the tree and says what git said where it cannot read', async () => {
    gitIn(root, 'update-index', '--skip-worktree', 'kept.txt');
    rmSync(join(root, 'kept.txt'));
    expect(namesIn((await snapshotTree(snapshotWish(root))).tree)).toContain('kept.txt');
    if (process.getuid?.() === 0) return;
    put(root, 'locked.txt', 'x');
    chmodSync(join(root, 'locked.txt'), 0);
    await expect(snapshotTree(snapshotWish(root))).rejects.toThrow(/locked\.txt/u);
  });
});
