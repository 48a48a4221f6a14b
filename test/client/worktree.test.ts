import { execFileSync } from 'node:child_process';
import {
  chmodSync,
  chownSync,
  mkdirSync,
  mkdtempSync,
  realpathSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { findWorktree, requireWorktree } from '../../src/client/worktree.ts';
import { git, type RunGit } from '../../src/patch/git.ts';

const dir = realpathSync(mkdtempSync(join(tmpdir(), 'khlone-worktree-')));
afterAll(() => rmSync(dir, { recursive: true, force: true }));

const environment = {
  PATH: process.env.PATH,
  HOME: dir,
  GIT_CONFIG_NOSYSTEM: '1',
  GIT_AUTHOR_NAME: 'a',
  GIT_AUTHOR_EMAIL: 'a@b',
  GIT_COMMITTER_NAME: 'a',
  GIT_COMMITTER_EMAIL: 'a@b',
};
const run = (cwd: string, ...args: string[]): string =>
  execFileSync('git', args, { cwd, env: environment, stdio: ['ignore', 'pipe', 'pipe'] })
    .toString()
    .trim();

const make = (name: string, origin?: string): string => {
  const root = join(dir, name);
  mkdirSync(root, { recursive: true });
  run(root, 'init', '-q', '-b', 'main');
  run(root, 'commit', '-q', '--allow-empty', '-m', 'one');
  if (origin !== undefined) run(root, 'remote', 'add', 'origin', origin);
  return root;
};

/** Git that counts how often it was started. */
const counting = (): { git: RunGit; calls: () => number } => {
  let calls = 0;
  return {
    git: (args, options) => {
      calls += 1;
      return git(args, options);
    },
    calls: () => calls,
  };
};

describe('findWorktree', () => {
  let repo = '';
  beforeAll(() => {
    repo = make('my repo', 'git@github.com:ehmpathy/rhachet.git');
  });

  it('finds the worktree from any folder in it, through symlinks', async () => {
    mkdirSync(join(repo, 'a/b'), { recursive: true });
    symlinkSync(join(repo, 'a/b'), join(dir, 'link'));
    const found = await findWorktree(join(dir, 'link'));
    expect(found).toEqual({
      root: repo,
      gitDir: join(repo, '.git'),
      commonDir: join(repo, '.git'),
      branch: 'main',
      detached: false,
      org: 'ehmpathy',
      repo: 'rhachet',
      address: 'ehmpathy/rhachet@main',
      head: run(repo, 'rev-parse', 'HEAD'),
    });
  });

  it('starts git once, and again only after the configuration changed', async () => {
    const root = make('counted', 'https://host/a/b.git');
    const { git: counted, calls } = counting();
    for (let i = 0; i < 3; i += 1) expect((await findWorktree(root, counted))?.org).toBe('a');
    expect(calls()).toBe(1);
    run(root, 'switch', '-q', '-c', 'feat/x');
    expect((await findWorktree(root, counted))?.address).toBe('a/b@feat/x');
    expect(calls()).toBe(1);
    run(root, 'remote', 'set-url', 'origin', 'https://host/c/d.git');
    expect((await findWorktree(root, counted))?.address).toBe('c/d@feat/x');
    expect(calls()).toBe(2);
  });

  it('reads unborn, detached, packed and slashed branches', async () => {
    const root = join(dir, 'states');
    mkdirSync(root);
    run(root, 'init', '-q', '-b', 'trunk');
    const unborn = await findWorktree(root);
    expect(unborn).toMatchObject({ branch: 'trunk', detached: false, address: 'local/states@trunk' });
    expect(unborn).not.toHaveProperty('head');
    run(root, 'commit', '-q', '--allow-empty', '-m', 'one');
    run(root, 'switch', '-q', '-c', 'feat/deep/er');
    run(root, 'pack-refs', '--all');
    const head = run(root, 'rev-parse', 'HEAD');
    expect(await findWorktree(root)).toMatchObject({ branch: 'feat/deep/er', head });
    run(root, 'switch', '-q', '--detach');
    const short = head.slice(0, 7);
    expect(await findWorktree(root)).toMatchObject({
      branch: short,
      detached: true,
      address: `local/states@${short}`,
    });
  });

  it('knows linked worktrees by their repository, also of a bare one and of a hidden one', async () => {
    const linked = join(dir, 'linked tree');
    run(repo, 'worktree', 'add', '-q', linked, '-b', 'side');
    expect(await findWorktree(linked)).toMatchObject({
      root: linked,
      commonDir: join(repo, '.git'),
      gitDir: join(repo, '.git/worktrees/linked-tree'),
      address: 'ehmpathy/rhachet@side',
    });
    const project = join(dir, 'project');
    mkdirSync(project);
    run(project, 'clone', '-q', '--bare', repo, '.bare');
    run(join(project, '.bare'), 'remote', 'remove', 'origin');
    writeFileSync(join(project, '.git'), 'gitdir: ./.bare\n');
    run(project, 'worktree', 'add', '-q', 'main');
    expect(await findWorktree(join(project, 'main'))).toMatchObject({ address: 'local/project@main' });
    expect(await findWorktree(project)).toBeUndefined();
  });

  it('takes a submodule for a repository of its own', async () => {
    const root = make('super', 'ssh://git@host:7999/team/super.git');
    run(root, '-c', 'protocol.file.allow=always', 'submodule', '--quiet', 'add', repo, 'sub');
    const sub = await findWorktree(join(root, 'sub'));
    expect(sub).toMatchObject({
      root: join(root, 'sub'),
      gitDir: join(root, '.git/modules/sub'),
      org: 'local',
    });
    expect(await findWorktree(root)).toMatchObject({ address: 'team/super@main' });
  });

  it('follows includes and insteadOf as git does', async () => {
    const root = make('included');
    writeFileSync(join(root, '.git/extra'), '[remote "origin"]\n\turl = "gh:org \\"x\\"/repo" ; note\n');
    run(root, 'config', 'include.path', 'extra');
    run(root, 'config', 'url.https://host/group/.insteadOf', 'gh:');
    const found = await findWorktree(root);
    expect(found?.org).toMatch(/^group\/org_x_-[0-9a-f]{8}$/u);
    expect(found?.repo).toBe('repo');
  });

  it('says why there is no worktree', async () => {
    const bare = join(dir, 'bare.git');
    run(dir, 'init', '-q', '--bare', bare);
    expect(await findWorktree(bare)).toBeUndefined();
    await expect(requireWorktree(bare)).rejects.toMatchObject({ code: 'no-repository', message: /bare/u });
    expect(await findWorktree(join(repo, '.git', 'objects'))).toBeUndefined();
    const broken = join(dir, 'broken');
    mkdirSync(broken);
    writeFileSync(join(broken, '.git'), 'gitdir: /nowhere/at/all\n');
    expect(await findWorktree(broken)).toBeUndefined();
    await expect(requireWorktree(broken)).rejects.toMatchObject({ message: /leads to no git directory/u });
    expect(await findWorktree(join(dir, 'not there'))).toBeUndefined();
    await expect(requireWorktree(tmpdir())).rejects.toMatchObject({ code: 'no-repository' });
  });

  it('passes by an empty .git folder, as git does', async () => {
    const inner = join(repo, 'vendor');
    mkdirSync(join(inner, '.git'), { recursive: true });
    expect((await findWorktree(inner))?.root).toBe(repo);
  });

  it('refuses a repository whose worktree is set to somewhere else', async () => {
    const root = make('elsewhere');
    run(root, 'config', 'core.worktree', dir);
    expect(await findWorktree(root)).toBeUndefined();
  });

  it('reads a HEAD that is a link to the file of its branch', async () => {
    const root = make('linked head');
    rmSync(join(root, '.git/HEAD'));
    symlinkSync('refs/heads/main', join(root, '.git/HEAD'));
    expect(await findWorktree(root)).toMatchObject({ branch: 'main', detached: false });
  });

  it('does not wait for a HEAD that is a fifo', async () => {
    const root = make('fifo');
    rmSync(join(root, '.git/HEAD'));
    execFileSync('mkfifo', [join(root, '.git/HEAD')]);
    expect(await findWorktree(root)).toBeUndefined();
  });

  it('holds in folders with hostile names', async () => {
    for (const name of ['a"b\'c', 'line\nbreak', 'ünïcode 日本', '-rf', '\u001b]0;x\u0007', '$(id)']) {
      const root = make(name);
      const found = await findWorktree(root);
      expect(found?.root).toBe(root);
      expect(found?.address).toMatch(/^local\/[\p{L}\p{N}_][\p{L}\p{N}._-]*@main$/u);
    }
  });

  it.runIf(process.geteuid?.() === 0)(
    'tells that git does not trust the repository of another user',
    async () => {
      const root = make('foreign');
      chmodSync(root, 0o755);
      chownSync(root, 65_534, 65_534);
      chownSync(join(root, '.git'), 65_534, 65_534);
      await expect(findWorktree(root)).rejects.toMatchObject({ code: 'denied', hint: /safe\.directory/u });
    },
  );
});
