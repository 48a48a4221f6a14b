import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, readFileSync, readlinkSync, rmSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { Manifest } from '../../src/patch/manifest.ts';
import {
  carry,
  commitAll,
  fingerprint,
  gitIn,
  looseStatus,
  makeDirty,
  makeGround,
  makeRepo,
  pack,
  put,
} from './ground.ts';

let ground: ReturnType<typeof makeGround>;
let near = '';
let far = '';
beforeEach(() => {
  ground = makeGround();
  near = makeRepo(ground.dir);
  far = join(ground.dir, 'zones', 'org', 'repo', 'main');
});
afterEach(() => ground.remove());

/** The files of a worktree that travel, with their bytes. */
const filesIn = (root: string): string[] =>
  fingerprint(root, (path) => path === join(root, '.git') || path.includes('ignored.')).map((line) =>
    line.slice(root.length),
  );

describe('a carried worktree', () => {
  it('shows the same branch, commit, files and uncommitted work on the far side', async () => {
    makeDirty(near);
    const { made, leftOut } = await carry(near, far);
    expect(leftOut).toEqual([]);
    expect(made.head).toBe(gitIn(near, 'rev-parse', 'HEAD').trim());
    expect(filesIn(far)).toEqual(filesIn(near));
    expect(looseStatus(far)).toEqual(looseStatus(near));
    expect(looseStatus(far).length).toBeGreaterThan(15);
    expect(gitIn(far, 'symbolic-ref', 'HEAD')).toBe('refs/heads/main\n');
    expect(gitIn(far, 'diff', '--cached', '--name-only')).toBe('');
    expect(statSync(join(far, 'run.sh')).mode & 0o100).toBe(0o100);
    expect(readlinkSync(join(far, 'folder'))).toBe('elsewhere');
    expect(existsSync(join(far, 'ignored.log'))).toBe(false);
    expect(gitIn(far, 'fsck', '--strict')).not.toMatch(/missing|broken/u);
    expect(readdirSync(join(far, '.git'))).not.toContain('hooks');
    expect(existsSync(join(far, '.git', 'info', 'attributes'))).toBe(false);
    expect(made.files).toBe(filesIn(near).length);
  });

  it('carries an unborn branch, an empty one, and a detached HEAD', async () => {
    const unborn = join(ground.dir, 'unborn');
    mkdirSync(unborn);
    gitIn(unborn, 'init', '-q', '-b', 'feat/é-new');
    await carry(unborn, `${far}-empty`);
    expect(readdirSync(`${far}-empty`)).toEqual(['.git']);
    put(unborn, 'a.txt', 'a\n');
    put(unborn, 'staged.txt', 's\n');
    gitIn(unborn, 'add', 'staged.txt');
    const { made } = await carry(unborn, `${far}-unborn`);
    expect(made).toMatchObject({ head: '', files: 2 });
    expect(Buffer.from(gitIn(`${far}-unborn`, 'symbolic-ref', 'HEAD'), 'latin1').toString()).toBe(
      'refs/heads/feat/é-new\n',
    );
    expect(looseStatus(`${far}-unborn`)).toEqual(looseStatus(unborn));
    commitAll(near, 'second');
    gitIn(near, 'checkout', '-q', '--detach', 'HEAD~1');
    put(near, 'edited.txt', 'detached\n');
    const detached = await carry(near, far);
    expect(detached.manifest.branch).toBeUndefined();
    expect(gitIn(far, 'rev-parse', '--abbrev-ref', 'HEAD')).toBe('HEAD\n');
    expect(gitIn(far, 'rev-parse', 'HEAD')).toBe(gitIn(near, 'rev-parse', 'HEAD'));
    expect(looseStatus(far)).toEqual([' M edited.txt'.trim()]);
  });

  it('carries a linked worktree, a shallow clone, a partial one and sha256', async () => {
    const linked = join(ground.dir, 'linked');
    gitIn(near, 'worktree', 'add', '-q', '-b', 'side', linked);
    put(linked, 'kept.txt', 'changed in the side\n');
    await carry(linked, `${far}-linked`);
    expect(looseStatus(`${far}-linked`)).toEqual(looseStatus(linked));
    for (let i = 0; i < 3; i += 1) commitAll(near, `more ${i}`);
    const clone = join(ground.dir, 'clone');
    gitIn(ground.dir, 'clone', '-q', '--depth', '2', `file://${near}`, clone);
    for (const history of ['branch', 'full'] as const) {
      await carry(clone, `${far}-clone-${history}`, { history });
      expect(gitIn(`${far}-clone-${history}`, 'rev-list', '--count', 'HEAD')).toBe('2\n');
      gitIn(`${far}-clone-${history}`, 'fsck', '--strict');
    }
    put(near, 'kept.txt', 'another version\n');
    commitAll(near, 'so that an old blob is missing');
    gitIn(near, 'config', 'uploadpack.allowFilter', 'true');
    const partial = join(ground.dir, 'partial');
    gitIn(ground.dir, 'clone', '-q', '--filter=blob:none', `file://${near}`, partial);
    await carry(partial, `${far}-partial`);
    expect(gitIn(`${far}-partial`, 'rev-list', '--count', 'HEAD')).toBe('1\n');
    const sha256 = makeRepo(ground.dir, 'sha256', ['--object-format=sha256']);
    makeDirty(sha256);
    await carry(sha256, `${far}-256`);
    expect(looseStatus(`${far}-256`)).toEqual(looseStatus(sha256));
  });

  it('takes 50 commits of the branch, or all of them', async () => {
    for (let i = 0; i < 60; i += 1) gitIn(near, 'commit', '-q', '--allow-empty', '-m', `commit ${i}`);
    const branch = await carry(near, `${far}-branch`);
    expect(branch.manifest.shallow).toHaveLength(1);
    expect(gitIn(`${far}-branch`, 'rev-list', '--count', 'HEAD')).toBe('50\n');
    put(`${far}-branch`, 'more.txt', 'x');
    commitAll(`${far}-branch`, 'works on');
    gitIn(`${far}-branch`, 'fsck', '--strict');
    const full = await carry(near, `${far}-full`, { history: 'full' });
    expect(full.manifest.shallow).toEqual([]);
    expect(gitIn(`${far}-full`, 'rev-list', '--count', 'HEAD')).toBe('61\n');
  });

  it('leaves submodules, large files, secrets and LFS contents out, each as HEAD has it', async () => {
    const lib = makeRepo(ground.dir, 'lib');
    gitIn(near, '-c', 'protocol.file.allow=always', 'submodule', '--quiet', 'add', lib, 'sub');
    put(near, '.gitattributes', '*.lfs filter=lfs\n');
    put(near, 'a.lfs', 'pointer\n');
    commitAll(near, 'sub and pointer');
    put(near, 'a.lfs', 'content\n');
    put(near, 'big.bin', Buffer.alloc(3000));
    put(near, '.env', 'SECRET=1\n');
    const { leftOut } = await carry(near, far, { maxFileBytes: 2000 });
    expect(leftOut.map(({ path }) => path).sort()).toEqual(['.env', 'a.lfs', 'big.bin', 'sub']);
    expect(looseStatus(far)).toEqual([]);
    expect(readFileSync(join(far, 'a.lfs'), 'utf8')).toBe('pointer\n');
    expect(readdirSync(join(far, 'sub'))).toEqual([]);
  });

  it('shows the same status where line ends are converted, with the bytes as they are', async () => {
    put(near, '.gitattributes', '*.txt text\n');
    put(near, 'ends.txt', 'a\r\nb\r\n');
    gitIn(near, 'config', 'core.autocrlf', 'true');
    commitAll(near, 'line ends');
    put(near, 'plain', 'x\r\n');
    await carry(near, far);
    expect(readFileSync(join(far, 'ends.txt'), 'utf8')).toBe('a\r\nb\r\n');
    expect(looseStatus(far)).toEqual(looseStatus(near));
  });

  it('lets clones commit as the person, or as whom the other machine names', async () => {
    const [bare, own] = [join(ground.dir, 'bare'), join(ground.dir, 'own')];
    mkdirSync(bare);
    put(own, '.gitconfig', '[user]\n\tname = There\n\temail = there@example.org\n');
    gitIn(near, 'config', 'user.name', 'Änn "of" Here');
    gitIn(near, 'config', 'user.email', 'ann@example.org');
    const home = process.env.HOME;
    const authors: string[] = [];
    try {
      for (const HOME of [bare, own]) {
        process.env.HOME = HOME;
        const zone = join(HOME, 'zones/org/repo/main');
        await carry(near, zone);
        const run = (...words: string[]): string =>
          execFileSync('git', words, { cwd: zone, env: { PATH: process.env.PATH, HOME }, encoding: 'utf8' });
        run('commit', '-q', '--allow-empty', '-m', 'by a clone');
        authors.push(run('log', '-1', '--format=%an <%ae>').trim());
      }
    } finally {
      process.env.HOME = home;
    }
    expect(authors).toEqual(['Änn "of" Here <ann@example.org>', 'There <there@example.org>']);
  });

  it("leaves the user's repository as it is and runs no hook on either side", async () => {
    const ran = join(ground.dir, 'ran');
    for (const hook of ['post-checkout', 'post-index-change', 'reference-transaction', 'pre-auto-gc']) {
      put(near, `.git/hooks/${hook}`, `#!/bin/sh\ntouch '${ran}'\n`, 0o755);
    }
    const template = join(ground.dir, 'home', 'template', 'hooks');
    put(template, 'post-checkout', `#!/bin/sh\ntouch '${ran}'\n`, 0o755);
    put(join(ground.dir, 'home'), '.gitconfig', `[init]\n\ttemplateDir = ${join(template, '..')}\n`);
    makeDirty(near);
    gitIn(near, 'update-ref', 'refs/notes/x', 'HEAD');
    rmSync(ran, { force: true });
    const ours = join(near, '.git', 'khlone');
    const before = fingerprint(near, (path) => path === ours);
    const home = process.env.HOME;
    process.env.HOME = join(ground.dir, 'home');
    try {
      await carry(near, far);
    } finally {
      process.env.HOME = home;
    }
    expect(fingerprint(near, (path) => path === ours)).toEqual(before);
    expect(existsSync(ran)).toBe(false);
    expect(gitIn(far, 'for-each-ref', '--format=%(refname)')).toBe('refs/heads/main\n');
  });

  it('knows origin without its credentials', async () => {
    const urlFor = async (url: string): Promise<string | undefined> => {
      gitIn(near, 'config', 'remote.origin.url', url);
      return (await pack(near)).manifest.origin;
    };
    expect(await urlFor('https://me:token@example.org/org/repo.git?x=y')).toBe(
      'https://example.org/org/repo.git',
    );
    expect(await urlFor('git@example.org:org/repo.git')).toBe('git@example.org:org/repo.git');
    expect(await urlFor('ssh://git:pw@example.org:22/org/repo.git')).toBe(
      'ssh://git@example.org:22/org/repo.git',
    );
    expect(await urlFor('ext::sh -c "touch x"')).toBeUndefined();
    expect(await urlFor('/srv/repo.git')).toBeUndefined();
    expect(await urlFor('https://-oProxyCommand=x/repo')).toBeUndefined();
    await urlFor('https://me:token@example.org/org/repo.git');
    await carry(near, far);
    expect(gitIn(far, 'config', 'remote.origin.url')).toBe('https://example.org/org/repo.git\n');
    const bad = { version: 1, format: 'sha1', branch: 'main', tree: 'a'.repeat(40), shallow: [] };
    expect(Manifest.safeParse(bad).success).toBe(true);
    expect(Manifest.safeParse({ ...bad, origin: 'https://a:b@c/d' }).success).toBe(false);
    expect(Manifest.safeParse({ ...bad, origin: 'ext::sh' }).success).toBe(false);
    expect(Manifest.safeParse({ ...bad, head: 'HEAD' }).success).toBe(false);
  });
});
