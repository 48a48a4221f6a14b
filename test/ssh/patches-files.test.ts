import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { sshdMissing } from '../fixtures/sshd.ts';
import { createFarWorld, type FarWorld, write } from './far-world.ts';

/** Commits of clones, patches as files, and what commands about patches say to programs and to slips of the hand. */

describe.skipIf(sshdMissing)(`commits and patch files${sshdMissing ? ` (${sshdMissing})` : ''}`, () => {
  let far: FarWorld;
  const there = (name: string, text: string | Buffer): void => writeFileSync(join(far.zone, name), text);
  const readHere = (name: string): string => readFileSync(join(far.repo, name), 'utf8');
  const gitThere = (...args: string[]): string =>
    execFileSync('git', ['-c', 'user.name=C', '-c', 'user.email=c@example.invalid', ...args], {
      cwd: far.zone,
    }).toString();
  const commitThere = (name: string): string => {
    there(name, `${name}\n`);
    gitThere('add', '-A');
    gitThere('commit', '-qm', name);
    return gitThere('rev-parse', 'HEAD').trim();
  };
  const ref = (name: string): string => far.git(['rev-parse', name]).trim();

  beforeAll(async () => {
    far = await createFarWorld({ files: { 'src/a.ts': 'a\n', 'src/b.ts': 'b\n' } });
    await far.ok(['act', '--who', '@sh', 'true', '--await']);
  });
  afterAll(() => far?.dispose());

  it('brings commits of clones as remote-tracking refs, and moves nothing else', async () => {
    const [head, made] = [ref('HEAD'), commitThere('one')];
    expect(await far.says(['pull'])).toBe('! ✓ 1 commit in khlone/zone/main\n! ✓ 1 file pulled\n');
    expect(ref('refs/remotes/khlone/zone/main')).toBe(made);
    expect(ref('HEAD')).toBe(head);
    expect(readHere('one')).toBe('one\n');
    expect(await far.says(['pull'])).toBe('! ✓ nothing to pull\n');
  });

  it('moves the branch forward to them with --commits, and not while something is staged', async () => {
    const before = ref('HEAD');
    write(far, 'staged', 'mine\n');
    far.git(['add', 'staged']);
    expect(await far.says(['pull', '--commits'])).toBe(
      '! ✓ nothing to pull\n! ✗ the branch stays: something is staged\n!   ↳ git commit or git restore --staged . first\n[exit 3]\n',
    );
    expect(ref('HEAD')).toBe(before);
    far.git(['restore', '--staged', '.']);
    expect(await far.says(['pull', '--commits'])).toMatch(/✓ the branch is at [0-9a-f]{10} now\n/);
    expect(ref('HEAD')).toBe(ref('refs/remotes/khlone/zone/main'));
    expect(far.git(['status', '--porcelain'])).toBe('?? staged\n');
  });

  it('leaves a branch that went another way where it is', async () => {
    far.git(['add', '-A']);
    far.git(['commit', '-qm', 'mine']);
    const mine = ref('HEAD');
    const theirs = commitThere('two');
    const said = await far.says(['pull', '--commits']);
    expect(said).toContain('✗ the branch stays: it has commits that the zone has not');
    expect(said).toContain('✓ 1 file pulled');
    expect(said).toContain('[exit 3]');
    expect(ref('HEAD')).toBe(mine);
    expect(ref('refs/remotes/khlone/zone/main')).toBe(theirs);
    expect(readHere('two')).toBe('two\n');
  });

  it('names what stays in the zone: a large file, a secret, work in a repository that is only there', async () => {
    there('big.bin', Buffer.alloc(10_000_001));
    there('.env.local', 'TOKEN=1\n');
    mkdirSync(join(far.zone, 'inside'));
    execFileSync('git', ['init', '-q'], { cwd: join(far.zone, 'inside') });
    there('inside/work', 'work\n');
    const lines = [
      '! ⚠ not brought inside: nested repository\n',
      '! ⚠ not brought .env.local: looks like a secret\n',
      '! ⚠ not brought big.bin: larger than max_file (10 MB)\n',
    ];
    expect(await far.says(['pull'])).toBe(`${lines.join('')}! ✓ nothing to pull\n`);
    // Who names a file is told of that file.
    expect(await far.says(['pull', 'src'])).toBe('! ✓ nothing to pull\n');
    expect(await far.says(['pull', 'big.bin'])).toMatch(
      /^(! ⚠ not brought big\.bin: .*\n)! ✓ nothing to pull\n! ✗ big\.bin stays in the zone: larger than max_file.*\n! {3}↳ .*\n\[exit 2\]\n$/u,
    );
    expect(await far.says(['pull', 'inside/work'])).toContain('✗ inside/work stays in the zone: nested');
    expect(await far.says(['patch'])).toContain('stays in the zone  .env.local: looks like a secret\n');
    for (const name of ['big.bin', '.env.local', 'inside']) rmSync(join(far.zone, name), { recursive: true });
    expect(await far.says(['pull'])).toBe('! ✓ nothing to pull\n');
  });

  it('exports what a pull would bring, which plain git takes in a fresh clone', async () => {
    await far.ok(['sync']);
    await far.ok(['pull']);
    far.git(['add', '-A']);
    far.git(['commit', '-qm', 'all']);
    there('src/a.ts', 'a\nmore\n');
    there('raw', Buffer.from([0, 1, 2, 255, 254, 10]));
    rmSync(join(far.zone, 'src/b.ts'));
    const odd = 'a "quoted" näme';
    there(odd, 'x\n');
    const told = await far.ok(['patch', 'export', '--to', '../work.patch']);
    expect(told.stderr).toMatch(/^✓ \.\.\/work\.patch: \d+ bytes\n$/);
    const clone = join(far.base, 'clone');
    far.git(['clone', '-q', far.repo, clone]);
    far.git(['apply', join(far.base, 'work.patch')], clone);
    expect(readFileSync(join(clone, 'src/a.ts'), 'utf8')).toBe('a\nmore\n');
    expect(readFileSync(join(clone, 'raw'))).toEqual(Buffer.from([0, 1, 2, 255, 254, 10]));
    expect(readFileSync(join(clone, odd), 'utf8')).toBe('x\n');
    expect(existsSync(join(clone, 'src/b.ts'))).toBe(false);
    expect(existsSync(join(far.repo, 'raw'))).toBe(false);
    expect(await far.says(['patch', 'export', '--to', '../work.patch'])).toMatch(
      /EEXIST.*\n.*\n\[exit 2\]\n$/,
    );
    const some = await far.ok(['patch', 'export', 'in', 'src']);
    expect(some.stdout).toContain('+more\n');
    expect(some.stdout).not.toContain('raw');
    const none = await far.ok(['patch', 'export', 'out', '--to', '../none.patch']);
    expect(none.stderr).toBe('nothing to send: no patch was made\n');
    expect(existsSync(join(far.base, 'none.patch'))).toBe(false);
  });

  it('applies a patch file whole or not at all, and keeps what it replaces', async () => {
    write(far, 'src/a.ts', 'other\n');
    const refused = await far.says(['patch', 'apply', '../work.patch']);
    expect(refused).toContain('✗ the patch does not fit');
    expect(refused).toContain('[exit 3]');
    expect(existsSync(join(far.repo, 'raw'))).toBe(false);
    write(far, 'src/a.ts', 'a\n');
    expect(await far.says(['patch', 'apply', '../work.patch'])).toBe('! ✓ 4 files changed\n');
    expect(readHere('src/a.ts')).toBe('a\nmore\n');
    const piped = await far.khlone(['patch', 'apply', '-', '--json'], {
      stdin: 'diff --git a/new b/new\nnew file mode 100644\n--- /dev/null\n+++ b/new\n@@ -0,0 +1 @@\n+n\n',
    });
    expect(JSON.parse(piped.stdout)).toEqual({ done: ['new'], refused: [] });
    const hostile = await far.khlone(['patch', 'apply', '-'], {
      stdin:
        'diff --git a/../../out b/../../out\nnew file mode 100644\n--- /dev/null\n+++ b/../../out\n@@ -0,0 +1 @@\n+n\n',
    });
    expect(hostile.code).toBe(3);
    await far.ok(['sync']);
    await far.ok(['pull']);
  });

  it('takes files by name, from any folder, and tells a name that neither side knows', async () => {
    write(far, 'src/a.ts', '1\n');
    write(far, 'top', '1\n');
    expect(
      (await far.says(['sync', 'a.ts', '--zone', '@main'])).includes('neither here nor in the zone: a.ts'),
    ).toBe(true);
    const below = await far.khlone(['sync', 'a.ts', '../src/a.ts'], { cwd: join(far.repo, 'src') });
    expect(below.stderr).toBe('✓ 1 file sent\n');
    expect(existsSync(join(far.zone, 'top'))).toBe(false);
    for (const words of [
      ['sync'],
      ['pull'],
      ['diff'],
      ['resolve', '--keep', 'local'],
      ['patch', 'show', 'in'],
    ]) {
      const said = await far.says([...words, '../outside']);
      expect(said).toContain('../outside is not in this worktree');
      expect(said).toContain('[exit 2]');
    }
    for (const word of ['pull', 'diff'])
      expect(await far.says([word, 'nothing-like-it'])).toContain(
        '✗ neither here nor in the zone: nothing-like-it\n',
      );
    expect(await far.says(['resolve', 'src/a.ts', '--keep', 'local'])).toContain('no conflict in src/a.ts');
    expect(await far.says(['resolve', 'src/a.ts'])).toContain('--keep local, --keep remote or --merge');
    expect(await far.says(['patch', 'show', 'zzz'])).toContain('no patch zzz');
    expect(await far.says(['patch', 'show', ''])).toContain('which patch?');
    expect(await far.says(['patch', 'apply', 'no-such'])).toMatch(
      /no-such cannot be read: ENOENT\n! {3}↳ a file that git diff/,
    );
    await far.ok(['sync']);
  });

  it('gives programs one JSON value each', async () => {
    const json = async (...words: string[]) => JSON.parse((await far.khlone([...words, '--json'])).stdout);
    write(far, 'top', '2\n');
    there('src/a.ts', '2\n');
    expect(await json('diff')).toMatchObject({ patch: expect.stringContaining('+2'), conflicts: [] });
    expect(await json('patch')).toMatchObject({ toSend: 1, toPull: 1, conflicts: [], queued: { count: 0 } });
    expect(await json('sync')).toEqual({ sent: ['top'], conflicts: [], held: [], refused: [] });
    expect(await json('pull')).toMatchObject({ pulled: ['src/a.ts'], conflicts: [], commits: [] });
    write(far, 'top', '3\n');
    there('top', '4\n');
    expect(await json('pull')).toMatchObject({ conflicts: [{ path: 'top', paths: ['top'] }] });
    expect(await json('diff', 'top')).toMatchObject({
      path: 'top',
      text: expect.stringContaining('>>>>>>>'),
    });
    expect(await json('resolve', 'top', '--keep', 'local')).toEqual({ resolved: ['top'], refused: [] });
    expect(await json('pull', '../x')).toMatchObject({ code: 'usage' });
    await far.ok(['sync']);
  });

  it('says where there is no repository, and stops where the branch is another one', async () => {
    const outside = join(far.base, 'outside');
    mkdirSync(outside);
    for (const word of ['sync', 'pull', 'diff', 'patch'])
      expect(await far.says([word], { cwd: outside })).toContain('✗ not inside a git repository');
    far.git(['switch', '-q', '-c', 'other']);
    for (const word of ['sync', 'pull']) {
      const said = await far.says([word]);
      expect(said).toContain('this worktree is on other now, its zone on zone is on main');
      expect(said).toContain('git switch main, or khlone zone set --branch');
      expect(said).toContain('[exit 3]');
    }
    far.git(['switch', '-q', 'main']);
  });

  it('stops before it deletes most of the files, until the person says yes', async () => {
    for (let n = 0; n < 12; n += 1) write(far, `many-${n}`, `${n}\n`);
    await far.ok(['sync']);
    for (let n = 0; n < 12; n += 1) rmSync(join(far.repo, `many-${n}`));
    const said = await far.says(['sync']);
    expect(said).toMatch(/✗ nothing was moved: 12 of \d+ files would be deleted in the zone/);
    expect(said).toContain('--yes');
    expect(existsSync(join(far.zone, 'many-3'))).toBe(true);
    expect(await far.says(['sync', '--yes'])).toBe('! ✓ 12 files sent\n');
    writeFileSync(join(far.repo, '.git/MERGE_HEAD'), '');
    expect(await far.says(['pull'])).toContain('a merge is not finished');
    rmSync(join(far.repo, '.git/MERGE_HEAD'));
  });

  it('meet a second laptop whose checkout is behind the commits of clones', async () => {
    const laptop = join(far.base, 'laptop');
    far.git(['clone', '-q', far.repo, laptop]);
    far.git(['remote', 'set-url', 'origin', 'git@nowhere.invalid:org/app.git'], laptop);
    commitThere('by-a-clone');
    writeFileSync(join(laptop, 'mine.txt'), 'mine\n');
    const wish = { cwd: laptop, env: { KHLONE_HOME: join(far.base, 'h2') } };
    try {
      await far.ok(['trust', '--yes'], wish);
      const said = await far.says(['pull'], wish);
      expect(said).toMatch(/✓ \d+ files? pulled/u);
      expect(said).not.toContain('conflict');
      expect(readFileSync(join(laptop, 'by-a-clone'), 'utf8')).toBe('by-a-clone\n');
      expect(await far.says(['sync'], wish)).toBe('! ✓ 1 file sent\n');
      expect(readFileSync(join(far.zone, 'mine.txt'), 'utf8')).toBe('mine\n');
    } finally {
      await far.khlone(['stop'], wish);
    }
  });
});
