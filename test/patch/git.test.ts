import {
  chmodSync,
  existsSync,
  mkdtempSync,
  readFileSync,
  realpathSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { git } from '../../src/patch/git.ts';

const dir = realpathSync(mkdtempSync(join(tmpdir(), 'khlone-git-')));
afterAll(() => rmSync(dir, { recursive: true, force: true }));
const bounds = { cwd: dir, deadlineMs: 10_000, maxBytes: 1_000_000 };

describe('git', () => {
  it('answers every exit code as data', async () => {
    const good = await git(['hash-object', '--stdin'], { ...bounds, input: 'hello\n' });
    expect(good.code).toBe(0);
    expect(good.stdout.toString()).toBe('ce013625030ba8dba906f756967f9e9ca394464a\n');
    const bad = await git(['rev-parse', '--verify', 'HEAD'], bounds);
    expect(bad.code).toBe(128);
    expect(bad.stderr).toContain('not a git repository');
  });

  it('says why it ended before it had read all', async () => {
    async function* endless(): AsyncGenerator<Uint8Array> {
      for (;;) yield Buffer.alloc(64 * 1024);
    }
    const early = await git(['rev-parse', '--verify', 'HEAD'], { ...bounds, input: endless() });
    expect(early).toMatchObject({ code: 128, stderr: expect.stringContaining('not a git repository') });
    async function* broken(): AsyncGenerator<Uint8Array> {
      yield Buffer.from('x');
      throw new Error('the source broke');
    }
    const cut = git(['hash-object', '--stdin'], { ...bounds, input: broken() });
    await expect(cut).rejects.toMatchObject({ message: 'the source broke' });
  });

  it('is not led away by GIT_DIR of the caller', async () => {
    const other = join(dir, 'other.git');
    await git(['init', '-q', '--bare', other], bounds);
    const before = process.env.GIT_DIR;
    process.env.GIT_DIR = other;
    try {
      expect((await git(['rev-parse', '--git-dir'], bounds)).code).toBe(128);
    } finally {
      if (before === undefined) delete process.env.GIT_DIR;
      else process.env.GIT_DIR = before;
    }
  });

  it('passes words as they are, and variables of the caller', async () => {
    const word = 'a b"\'$(touch pwned)\n;é';
    const said = await git(['-c', `x.y=${word}`, 'config', '--null', 'x.y'], bounds);
    expect(said.stdout.toString()).toBe(`${word}\0`);
    expect(existsSync(join(dir, 'pwned'))).toBe(false);
    const named = await git(['var', 'GIT_AUTHOR_IDENT'], {
      ...bounds,
      env: { GIT_AUTHOR_NAME: 'Zoë', GIT_AUTHOR_EMAIL: 'z@x' },
    });
    expect(named.stdout.toString()).toContain('Zoë <z@x>');
  });

  it('runs no hook and no monitor of the repository', async () => {
    const repo = join(dir, 'hooked');
    await git(['init', '-q', repo], bounds);
    const mark = join(dir, 'ran');
    const program = join(repo, '.git', 'hooks', 'post-index-change');
    writeFileSync(program, `#!/bin/sh\ntouch ${mark}\n`);
    chmodSync(program, 0o755);
    await git(['config', 'core.fsmonitor', program], { ...bounds, cwd: repo });
    writeFileSync(join(repo, 'f'), 'x');
    expect((await git(['add', 'f'], { ...bounds, cwd: repo })).code).toBe(0);
    await git(['status', '--porcelain'], { ...bounds, cwd: repo });
    expect(existsSync(mark)).toBe(false);
  });

  it('ends a git that says too much, and one that takes too long', async () => {
    const many = { ...bounds, input: 'x'.repeat(100_000), maxBytes: 10_000 };
    await expect(git(['stripspace'], many)).rejects.toMatchObject({ code: 'too-large' });
    // The alias records the pid of a sleeping child of git, which would hold our pipes open.
    const pid = join(dir, 'pid');
    const slow = git(['-c', `alias.nap=!echo $$ > '${pid}'; exec sleep 60`, 'nap'], {
      ...bounds,
      deadlineMs: 500,
    });
    await expect(slow).rejects.toMatchObject({ code: 'timeout' });
    process.kill(Number(readFileSync(pid, 'utf8')), 'SIGKILL');
  });

  it('tells a missing folder from a missing git', async () => {
    const nowhere = join(dir, 'nowhere');
    await expect(git(['version'], { ...bounds, cwd: nowhere })).rejects.toMatchObject({ code: 'not-found' });
    const noPath = git(['version'], { ...bounds, env: { PATH: dir } });
    await expect(noPath).rejects.toMatchObject({ code: 'config', hint: 'install git 2.38 or newer' });
  });
});
