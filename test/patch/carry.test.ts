import { spawn } from 'node:child_process';
import { once as event } from 'node:events';
import {
  existsSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  statSync,
  symlinkSync,
} from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { Manifest } from '../../src/patch/manifest.ts';
import {
  bytesOf,
  carry,
  commitAll,
  dirsOf,
  fingerprint,
  gitIn,
  looseStatus,
  makeDirty,
  makeGround,
  makeRepo,
  once,
  pack,
  put,
  unpackAt,
  ZONE,
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
    expect(made).toEqual({ head: '', files: 2 });
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

describe('unpacking', () => {
  const parts = async () => {
    makeDirty(near);
    const { manifest, body } = await pack(near);
    return { manifest, bytes: await bytesOf(body) };
  };
  const siblings = (): string[] => readdirSync(join(far, '..')).filter((name) => name !== 'main');

  it('recognises what it finished, and leaves the work that was done there', async () => {
    const { manifest, bytes } = await parts();
    await unpackAt(far, manifest, once(bytes));
    put(far, 'work.txt', 'by a clone\n');
    const head = commitAll(far, 'by a clone');
    put(far, 'uncommitted.txt', 'too\n');
    const again = await unpackAt(far, manifest, once(bytes));
    expect(again.head).toBe(head);
    expect(readFileSync(join(far, 'uncommitted.txt'), 'utf8')).toBe('too\n');
    const other = unpackAt(far, manifest, once(bytes), 'z-ffffffffffffffff');
    await expect(other).rejects.toMatchObject({ code: 'conflict' });
  });

  it("takes an empty folder, and refuses what is not khlone's", async () => {
    const { manifest, bytes } = await parts();
    const at = (path: string) => unpackAt(path, manifest, once(bytes));
    mkdirSync(far, { recursive: true });
    await at(far);
    put(join(ground.dir, 'theirs'), 'thesis.txt', 'mine\n');
    await expect(at(join(ground.dir, 'theirs'))).rejects.toThrow(/is not empty and not khlone's/u);
    await expect(at(near)).rejects.toMatchObject({ code: 'conflict' });
    put(ground.dir, 'file', 'x');
    await expect(at(join(ground.dir, 'file'))).rejects.toMatchObject({ code: 'conflict' });
    symlinkSync(far, join(ground.dir, 'link'));
    await expect(at(join(ground.dir, 'link'))).rejects.toMatchObject({ code: 'conflict' });
    expect(readdirSync(join(ground.dir, 'theirs'))).toEqual(['thesis.txt']);
  });

  it('leaves nothing behind when the pack breaks off, is damaged, or lacks something', async () => {
    const { manifest, bytes } = await parts();
    const at = (body: AsyncIterable<Uint8Array>, more: Partial<Manifest> = {}) =>
      unpackAt(far, { ...manifest, ...more }, body);
    async function* lost(): AsyncGenerator<Uint8Array> {
      yield bytes.subarray(0, bytes.length / 2);
      throw new Error('the link went down');
    }
    await expect(at(lost())).rejects.toThrow(/the link went down/u);
    await expect(at(once(bytes.subarray(0, bytes.length - 30)))).rejects.toThrow(/early EOF/u);
    const flipped = Buffer.from(bytes);
    flipped.writeUInt8(flipped.readUInt8(bytes.length >> 1) ^ 1, bytes.length >> 1);
    await expect(at(once(flipped))).rejects.toThrow(/refused the carried code/u);
    await expect(at(once(bytes), { tree: 'a'.repeat(40) })).rejects.toThrow(/refused/u);
    await expect(at(once(bytes), { head: 'b'.repeat(40) })).rejects.toThrow(/refused/u);
    await expect(at(once(bytes), { branch: '../../x' })).rejects.toThrow(/check-ref-format/u);
    const noCommit = gitIn(near, 'rev-parse', 'HEAD^{tree}').trim();
    await expect(at(once(bytes), { head: noCommit })).rejects.toThrow(/refused/u);
    expect(existsSync(far)).toBe(false);
    expect(siblings()).toEqual([]);
    expect((await at(once(bytes))).head).toBe(manifest.head);
    expect(looseStatus(far)).toEqual(looseStatus(near));
  });

  it('ends right after a process died in its middle, and removes what that one left', async () => {
    const { manifest, bytes } = await parts();
    put(ground.dir, 'pack.bin', bytes);
    const program = `
      import { readFileSync } from 'node:fs';
      import { unpackWorktree } from ${JSON.stringify(join(import.meta.dirname, '../../src/patch/unpack.ts'))};
      async function* body() {
        yield readFileSync(${JSON.stringify(join(ground.dir, 'pack.bin'))}).subarray(0, 400);
        process.stdout.write('half');
        await new Promise((resolve) => setTimeout(resolve, 60_000));
      }
      await unpackWorktree({ manifest: ${JSON.stringify(manifest)}, body: body(), path: ${JSON.stringify(far)}, zone: ${JSON.stringify(ZONE)}, shadowDir: ${JSON.stringify(join(ground.dir, 'shadows', ZONE))} });`;
    const child = spawn(process.execPath, ['--input-type=module-typescript', '-e', program], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    await event(child.stdout, 'data');
    child.kill('SIGKILL');
    await event(child, 'exit');
    expect(siblings()).toHaveLength(1);
    expect(existsSync(far)).toBe(false);
    await unpackAt(far, manifest, once(bytes));
    expect(siblings()).toEqual([]);
    expect(looseStatus(far)).toEqual(looseStatus(near));
  });

  it('refuses hostile trees', async () => {
    const blob = gitIn(near, 'hash-object', '-w', 'kept.txt').trim();
    const raw = (mode: string, name: string, id: string): Buffer =>
      Buffer.concat([Buffer.from(`${mode} ${name}\0`), Buffer.from(id, 'hex')]);
    const treeOf = (...entries: Buffer[]): string => {
      put(ground.dir, 'tree.raw', Buffer.concat(entries));
      const file = join(ground.dir, 'tree.raw');
      return gitIn(near, 'hash-object', '-t', 'tree', '-w', '--literally', file).trim();
    };
    const inner = treeOf(raw('100644', 'config', blob));
    const hostile = {
      dotGit: treeOf(raw('40000', '.git', inner)),
      upper: treeOf(raw('40000', '.GIT', inner)),
      short: treeOf(raw('40000', 'git~1', inner)),
      hfs: treeOf(raw('40000', '.g\u200cit', inner)),
      ntfs: treeOf(raw('40000', '.git.', inner)),
      dotdot: treeOf(raw('40000', '..', inner)),
      dot: treeOf(raw('40000', '.', inner)),
      slash: treeOf(raw('100644', 'a/b', blob)),
      absolute: treeOf(raw('100644', '/etc/x', blob)),
      empty: treeOf(raw('100644', '', blob)),
      linkAndFolder: treeOf(raw('120000', 'a', blob), raw('40000', 'a', inner)),
      modules: treeOf(raw('120000', '.gitmodules', blob)),
    };
    for (const [what, tree] of Object.entries(hostile)) {
      const env = { ...process.env, GIT_DIR: dirsOf(near).gitDir };
      const packing = spawn('git', ['pack-objects', '--stdout', '-q'], { env });
      packing.stdin.end(`${[...new Set([tree, inner, blob])].join('\n')}\n`);
      const body = await bytesOf(packing.stdout);
      const manifest: Manifest = { version: 1, format: 'sha1', branch: 'main', tree, shallow: [] };
      expect(body.length, what).toBeGreaterThan(60);
      const made = unpackAt(far, manifest, once(body));
      await expect(made, what).rejects.toThrow(/fsck error in packed object/u);
      expect(lstatSync(far, { throwIfNoEntry: false }), what).toBeUndefined();
    }
    expect(siblings()).toEqual([]);
  });
});
