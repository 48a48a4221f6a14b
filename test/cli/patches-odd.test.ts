import {
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { dirname, join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createWorld, type World } from '../fixtures/khlone.ts';

/** Slips of the hand and odd files, with a zone beside the worktree. */

const YML = 'zone: { path: "~/zones/{org}/{repo}/{branch}" }\n';

describe('patches, at their edges', () => {
  let world: World;
  let zone: string;
  const put = (root: string, name: string, text: string): void => {
    mkdirSync(dirname(join(root, name)), { recursive: true });
    writeFileSync(join(root, name), text);
  };
  const here = (name: string, text: string): void => put(world.repo, name, text);
  const there = (name: string, text: string): void => put(zone, name, text);
  const readHere = (name: string): string => readFileSync(join(world.repo, name), 'utf8');
  /** Each of these files is on both sides, and then each side has its own. */
  const collide = async (...names: string[]): Promise<void> => {
    for (const name of names) here(name, 'before\n');
    await world.khlone(['sync']);
    for (const name of names) here(name, 'mine\n');
    for (const name of names) there(name, 'theirs\n');
  };

  beforeAll(async () => {
    world = await createWorld({
      repository: { branch: 'main', origin: 'git@nowhere.invalid:org/app.git', files: { 'khlone.yml': YML } },
    });
    zone = join(world.person, 'zones/org/app/main');
    await world.khlone(['trust', '--yes']);
    await world.khlone(['act', '--who', '@sh', '--await', 'true']);
  });
  afterAll(() => world?.dispose());

  it('a file that is a folder here is a conflict by a name that is there, and can be decided by it', async () => {
    here('kind', 'a file\n');
    await world.khlone(['sync']);
    rmSync(join(world.repo, 'kind'));
    here('kind/inside', 'mine\n');
    there('kind', 'theirs\n');
    const said = await world.says(['pull']);
    expect(said).toContain('⚠ conflict in kind (of another kind on each side)\n');
    expect(said).toContain('khlone resolve kind --keep');
    expect(await world.says(['pull', '--force'])).toContain('✓ kind is the zone’s; yours is kept');
    expect(readHere('kind')).toBe('theirs\n');
    expect(await world.says(['sync'])).toBe('! ✓ nothing to send\n');
  });

  it('pull --force takes the zone’s version of the files that are named, and of no others', async () => {
    await collide('one', 'other');
    const said = await world.says(['pull', '--force', 'one']);
    expect(said).toContain('✓ one is the zone’s');
    expect(said).toContain('⚠ conflict in other\n');
    expect([readHere('one'), readHere('other')]).toEqual(['theirs\n', 'mine\n']);
    await world.khlone(['resolve', 'other', '--keep', 'local']);
    await world.khlone(['sync']);
  });

  it('names the next step as it is typed where one stands', async () => {
    await collide("it's here");
    const cwd = join(world.repo, 'in');
    mkdirSync(cwd, { recursive: true });
    for (const word of ['pull', 'sync', 'diff', 'patch']) {
      const { stdout, stderr } = await world.khlone([word], { cwd });
      const next = /khlone resolve (.*) --keep local\|remote\|--merge\n/u.exec(stdout + stderr)?.[1];
      expect(next).toBe("'../it'\\''s here'");
    }
    expect(await world.says(['resolve', "../it's here", '--keep', 'local'], { cwd })).toContain('is decided');
    await world.khlone(['sync']);
  });

  it('a file whose name is no text is decided by the name that is shown', async () => {
    const name = Buffer.from([...Buffer.from('bad'), 0xff, 0xfe]);
    const [mine, theirs] = [world.repo, zone].map((root) => Buffer.concat([Buffer.from(`${root}/`), name]));
    if (!mine || !theirs) throw new Error('no names');
    writeFileSync(mine, 'before\n');
    await world.khlone(['sync']);
    writeFileSync(mine, 'mine\n');
    writeFileSync(theirs, 'theirs\n');
    expect(await world.says(['pull'])).toContain("khlone resolve $'bad\\xff\\xfe' --keep");
    expect((await world.khlone(['diff', 'bad\ufffd\ufffd'])).stdout).toContain('\nmine\n');
    expect(await world.says(['resolve', 'bad\ufffd\ufffd', '--keep', 'remote'])).toContain('is decided');
    expect(readFileSync(mine, 'utf8')).toBe('theirs\n');
    await world.khlone(['sync']);
  });

  it('files whose names look the same as text are no word for one conflict, and pull --force decides them', async () => {
    const inRoot = (root: string, byte: number): Buffer =>
      Buffer.concat([Buffer.from(`${root}/odd`), Buffer.from([byte])]);
    for (const text of ['before\n', 'mine\n']) {
      for (const byte of [0xfd, 0xfe]) writeFileSync(inRoot(world.repo, byte), text);
      if (text === 'before\n') await world.khlone(['sync']);
    }
    for (const byte of [0xfd, 0xfe]) writeFileSync(inRoot(zone, byte), 'theirs\n');
    await world.khlone(['pull']);
    const keep = ['--keep', 'remote'];
    expect(await world.says(['resolve', 'odd\ufffd', ...keep])).toContain('✗ 2 conflicts are in files that ');
    expect(await world.says(['pull', '--force'])).not.toContain('conflict');
    for (const byte of [0xfd, 0xfe]) expect(readFileSync(inRoot(world.repo, byte), 'utf8')).toBe('theirs\n');
    await world.khlone(['sync']);
  });

  it('a file that stays here is told with each sync, and when it is named', async () => {
    here('.env', 'A=1\n');
    here('data.bin', 'x'.repeat(11_000_000));
    here('.gitignore', 'made/\n');
    here('made/by', 'a tool\n');
    mkdirSync(join(world.repo, 'empty'));
    const held = '! ⚠ held .env: looks like a secret\n! ⚠ held data.bin: larger than max_file (11 MB)\n';
    expect(await world.says(['sync'])).toBe(`${held}! ✓ 1 file sent\n`);
    expect(JSON.parse((await world.khlone(['sync', '--json'])).stdout).held).toHaveLength(2);
    for (const word of ['sync', 'pull', 'diff']) {
      const said = async (file: string): Promise<string> => (await world.khlone([word, file])).stderr;
      expect(await said('.env')).toContain('✗ .env stays here: looks like a secret\n  ↳ sync.include');
      expect(await said('data.bin')).toContain('✗ data.bin stays here: larger than max_file (11 MB)\n');
      expect(await said('made/by')).toContain('✗ made/by stays here: git ignores it\n');
      expect(await said('empty')).toContain('✗ empty stays here: it holds no file that travels\n');
      expect(await said('nowhere')).toContain('✗ neither here nor in the zone: nowhere\n');
    }
    for (const name of ['.env', 'data.bin']) rmSync(join(world.repo, name));
  });

  it('a file is found by a path through a link to the worktree, and one outside is not', async () => {
    const link = join(world.base, 'link');
    symlinkSync(world.repo, link);
    here('by-link', 'x\n');
    here('in/deep', 'x\n');
    expect(await world.says(['sync', join(link, 'by-link'), join(link, 'in/deep')])).toContain(
      '✓ 2 files sent',
    );
    symlinkSync(world.base, join(world.repo, 'out'));
    for (const file of ['out/outside', join(link, '../outside'), '/etc/passwd'])
      expect(await world.says(['sync', file])).toMatch(
        /is not in this worktree|neither here nor in the zone/u,
      );
    rmSync(join(world.repo, 'out'));
    await world.khlone(['sync']);
  });

  it('pull --commits has nothing to do where only the person committed', async () => {
    world.git(['add', '-A']);
    world.git(['commit', '-qm', 'mine']);
    await world.khlone(['sync']);
    here('staged', 'x\n');
    world.git(['add', 'staged']);
    expect(await world.says(['pull', '--commits'])).toBe('! ✓ nothing to pull\n');
  });

  it('what the zone does to files outside of a sparse checkout waits, and no sync takes it back', async () => {
    const names = ['far-off/a b', 'far-off/gone', 'far-off/moved'];
    for (const name of names) here(name, `before ${name}\n`);
    world.git(['add', '-A']);
    world.git(['commit', '-qm', 'far-off']);
    await world.khlone(['sync']);
    world.git(['sparse-checkout', 'set', 'in']);
    expect(await world.says(['sync'])).toBe('! ✓ nothing to send\n');
    there('far-off/a b', 'theirs\n');
    rmSync(join(zone, 'far-off/gone'));
    renameSync(join(zone, 'far-off/moved'), join(zone, 'far-off/here now'));
    there('far-off/new', 'new\n');
    const outside = 'outside of the sparse checkout here; git sparse-checkout add takes it in';
    expect(await world.says(['pull'])).toBe(
      [
        `! ⚠ held far-off/a b: ${outside}\n`,
        `! ⚠ held far-off/gone: ${outside}\n`,
        `! ⚠ held far-off/here now: moves with "far-off/moved": ${outside}\n`,
        `! ⚠ held far-off/moved: ${outside}\n`,
        '! ✓ 1 file pulled\n',
      ].join(''),
    );
    expect(readHere('far-off/new')).toBe('new\n');
    await world.khlone(['sync']);
    expect(readdirSync(join(zone, 'far-off')).sort()).toEqual(['a b', 'here now', 'new']);
    world.git(['sparse-checkout', 'add', 'far-off']);
    expect(await world.says(['pull'])).toBe('! ✓ 4 files pulled\n');
    expect(readHere('far-off/a b')).toBe('theirs\n');
    expect(readdirSync(join(world.repo, 'far-off')).sort()).toEqual(['a b', 'here now', 'new']);
    world.git(['sparse-checkout', 'disable']);
  });
});
