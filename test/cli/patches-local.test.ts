import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createWorld, type World } from '../fixtures/khlone.ts';

/** A local zone with a worktree of its own: clones work beside the person, and patches travel as from a host. */

const YML = 'zone: { path: "~/zones/{org}/{repo}/{branch}" }\n';

describe('a local zone beside the worktree', () => {
  let world: World;
  let zone: string;
  const here = (name: string): string => readFileSync(join(world.repo, name), 'utf8');
  const act = (line: string) => world.khlone(['act', '--who', '@sh', '--await', line]);
  const gitThere = (...args: string[]): string =>
    execFileSync('git', ['-c', 'user.name=C', '-c', 'user.email=c@example.invalid', ...args], {
      cwd: zone,
    }).toString();

  beforeAll(async () => {
    world = await createWorld({
      repository: { branch: 'main', origin: 'git@nowhere.invalid:org/app.git', files: { 'khlone.yml': YML } },
    });
    zone = join(world.person, 'zones/org/app/main');
    await world.khlone(['trust', '--yes']);
  });
  afterAll(() => world?.dispose());

  it('is made by the first act, from what is here now', async () => {
    writeFileSync(join(world.repo, 'open'), 'not committed\n');
    const first = await act('cat open; pwd; echo made > made');
    expect(first).toMatchObject({ code: 0, stdout: `not committed\n${zone}\n` });
    expect(existsSync(join(world.repo, 'made'))).toBe(false);
    expect((await world.khlone(['status'])).stdout).toMatch(/^zone @main \(local\)/);
  });

  it('tells programs one value, whatever a command has to say besides', async () => {
    writeFileSync(join(world.repo, 'news'), 'for the zone\n');
    for (const word of ['pull', 'sync']) {
      const ran = await world.khlone([word, 'nosuch', '--json']);
      expect(ran).toMatchObject({ code: 2, stderr: '' });
      expect(JSON.parse(ran.stdout)).toMatchObject({ unknown: 'neither here nor in the zone: nosuch' });
    }
    const file = join(world.base, 'out.patch');
    for (const words of [
      ['show', 'out'],
      ['export', 'out'],
      ['export', 'out', '--to', file],
    ]) {
      const told = JSON.parse((await world.khlone(['patch', ...words, '--json'])).stdout);
      expect(told.file === file ? readFileSync(file, 'utf8') : told.patch).toContain('+for the zone');
    }
    expect(
      JSON.parse((await world.khlone(['config', 'set', 'auto-sync', 'false', '--json'])).stdout),
    ).toEqual({
      'auto-sync': false,
    });
    rmSync(join(world.repo, 'news'));
  });

  it('takes a patch from files only: a pipe by a name would hold the hub', async () => {
    const fifo = join(world.base, 'fifo');
    execFileSync('mkfifo', [fifo]);
    for (const name of [fifo, '/dev/zero'])
      expect(await world.says(['patch', 'apply', name], { limitMs: 10_000 })).toBe(
        `! ✗ ${world.mask(name)} is no file\n!   ↳ - reads standard input\n[exit 2]\n`,
      );
    const large = join(world.base, 'large.patch');
    writeFileSync(large, '');
    truncateSync(large, 257 * 1024 * 1024);
    expect(await world.says(['patch', 'apply', large])).toContain('large.patch is over 256 MB');
  });

  it('exchanges patches with the worktree', async () => {
    expect(await world.says(['pull'])).toBe('! ✓ 1 file pulled\n');
    expect(here('made')).toBe('made\n');
    writeFileSync(join(world.repo, 'made'), 'changed\n');
    expect(await world.says(['sync'])).toBe('! ✓ 1 file sent\n');
    expect(readFileSync(join(zone, 'made'), 'utf8')).toBe('changed\n');
    expect((await act('echo theirs > made')).code).toBe(0);
    writeFileSync(join(world.repo, 'made'), 'mine\n');
    expect(await world.says(['pull'])).toContain('⚠ conflict in made\n');
    expect(await world.says(['resolve', 'made', '--keep', 'local'])).toContain('is decided');
    expect(await world.says(['sync'])).toBe('! ✓ 1 file sent\n');
  });

  it('goes on by itself where that is wanted', async () => {
    await world.khlone(['sync', '--auto']);
    writeFileSync(join(world.repo, 'auto'), '1\n');
    await expect.poll(() => existsSync(join(zone, 'auto')), { timeout: 20_000 }).toBe(true);
    await world.khlone(['sync', '--auto', 'off']);
  });

  it('stops where the branch here is another one', async () => {
    world.git(['switch', '-q', '-c', 'other']);
    const said = await world.says(['act', '--who', '@sh', 'true']);
    expect(said).toContain('this worktree is on other now');
    expect(said).toContain('[exit 3]');
    world.git(['switch', '-q', 'main']);
  });

  it('says what to finish where git took HEAD from the branch for a while', async () => {
    writeFileSync(join(world.repo, 'stops'), '1\n');
    world.git(['add', 'stops']);
    for (const name of ['one', 'two']) world.git(['commit', '-q', '--allow-empty', '-m', name]);
    expect(() => world.git(['rebase', '-q', '--exec', 'false', 'HEAD~1'])).toThrow();
    const said = await world.says(['sync']);
    expect(said).toContain(
      '✗ a rebase of main is not finished here\n!   ↳ git rebase --continue or --abort first',
    );
    expect(said).toContain('[exit 3]');
    world.git(['rebase', '--abort']);
    world.git(['bisect', 'start', 'HEAD', 'HEAD~2']);
    expect(await world.says(['pull'])).toContain(
      '✗ a bisect of main is not finished here\n!   ↳ git bisect reset',
    );
    world.git(['bisect', 'reset']);
    expect(await world.says(['sync'])).toMatch(/✓ 1 file sent/);
  });

  it('is not deleted while work is only there, files or commits, and is after a pull', async () => {
    expect((await act('echo work > work')).code).toBe(0);
    const refused = await world.says(['zone', 'del']);
    expect(refused).toContain('holds work that is only there');
    expect(refused).toContain('[exit 3]');
    await world.khlone(['pull']);
    gitThere('add', '-A');
    gitThere('commit', '-qm', 'by a clone');
    expect(await world.says(['zone', 'del'])).toMatch(/holds work that is only there: .*1 commit/);
    expect(await world.says(['pull'])).toContain('✓ 1 commit in khlone/local/main');
    expect(await world.says(['zone', 'del'])).toBe('! ✓ deleted zone org/app@main\n');
    expect(existsSync(zone)).toBe(false);
    expect(here('work')).toBe('work\n');
    expect(world.git(['log', '--oneline', 'refs/remotes/khlone/local/main'])).toContain('by a clone');
  });

  it('is never made where something else lies, nor around or inside the worktree', async () => {
    mkdirSync(zone, { recursive: true });
    writeFileSync(join(zone, 'precious'), 'x\n');
    const held = await world.khlone(['init']);
    expect(held.code).toBe(3);
    expect(held.stderr).toContain("is not empty and not khlone's");
    expect(readFileSync(join(zone, 'precious'), 'utf8')).toBe('x\n');
    for (const path of [join(world.repo, 'inside'), dirname(world.repo)]) {
      const odd = world.repository('odd', { files: { 'khlone.yml': `zone: { path: ${path} }\n` } });
      const at = path === dirname(world.repo) ? odd : world.repo;
      if (at === world.repo) writeFileSync(join(at, 'khlone.yml'), `zone: { path: ${path} }\n`);
      await world.khlone(['trust', '--yes'], { cwd: at });
      const said = await world.khlone(['init'], { cwd: at });
      expect(said.stderr).toContain('hold each other');
      expect(said.code).toBe(2);
    }
  });
});

describe('pull --all', () => {
  let world: World;
  afterAll(() => world?.dispose());

  it('brings the work of every zone into its own worktree, and goes on past one that is gone', async () => {
    world = await createWorld({ repository: false });
    const made = (name: string): string =>
      world.repository(name, {
        branch: 'main',
        origin: `git@nowhere.invalid:org/${name}.git`,
        files: { 'khlone.yml': YML },
      });
    const repos = ['a', 'b', 'c'].map(made);
    for (const cwd of repos) {
      await world.khlone(['trust', '--yes'], { cwd });
      expect((await world.khlone(['act', '--who', '@sh', '--await', 'echo 1 > made'], { cwd })).code).toBe(0);
    }
    execFileSync('mv', [repos[1] ?? '', `${repos[1]}-moved`]);
    const all = await world.khlone(['pull', '--all'], { cwd: world.base });
    expect(all.stderr).toContain('org/a@main\n✓ 1 file pulled\n');
    expect(all.stderr).toMatch(/org\/b@main\n✗ .*is no git worktree any more\n {2}↳ khlone zone del\n/);
    const some = await world.khlone(['pull', '--all', 'made'], { cwd: world.base });
    expect([some.code, some.stderr]).toEqual([
      2,
      '✗ --all is about all files\n  ↳ khlone pull FILE in the worktree of a zone\n',
    ]);
    expect(all.stderr).toContain('org/c@main\n✓ 1 file pulled\n');
    expect(all.code).toBe(2);
    expect(existsSync(join(repos[2] ?? '', 'made'))).toBe(true);
    const told = (await world.khlone(['pull', '--all', '--json'], { cwd: world.base })).stdout.trim();
    expect(JSON.parse(told)).toMatchObject([
      { zone: 'org/a@main', pulled: [] },
      { code: 'no-repository' },
      {},
    ]);
  });
});
