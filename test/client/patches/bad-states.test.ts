import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  realpathSync,
  renameSync,
  rmSync,
  statfsSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, describe, expect, it } from 'vitest';
import { readState } from '../../../src/client/patches/state.ts';
import { pull, sync } from '../../../src/client/patches/steps.ts';
import { commitAll, gitIn, put, ZONE } from '../../patch/ground.ts';
import { filesIn } from './random-edits.ts';
import { freely, type Making, makeTwoSides, stepped, type TwoSides } from './two-sides.ts';

/** Repositories, disks and tools in states that people meet: a step goes on, or says why not, and loses nothing. */

let sides: TwoSides;
let clean: (() => void)[] = [];
const start = async (prepare?: (root: string) => void, making?: Making): Promise<void> => {
  // Last of all: a disk may be mounted in there.
  clean.push(() => sides.remove());
  sides = await makeTwoSides(prepare, making);
};
afterEach(() => {
  for (const one of clean.reverse()) one();
  clean = [];
});

const near = (path: string): string => readFileSync(join(sides.near, path), 'utf8');
const far = (path: string): string => readFileSync(join(sides.far, path), 'utf8');
const pullNow = async () => stepped(await pull(sides.place, sides.link, freely));
const syncNow = async () => stepped(await sync(sides.place, sides.link, freely));

/** One change each way, and both sides have both. */
const expectBothWays = async (): Promise<void> => {
  put(sides.near, 'kept.txt', 'near\n');
  put(sides.far, 'edited.txt', 'far\n');
  put(sides.far, 'made/there.txt', 'far\n');
  expect((await syncNow()).refused).toEqual([]);
  expect((await pullNow()).refused).toEqual([]);
  expect([far('kept.txt'), near('edited.txt'), near('made/there.txt')]).toEqual(['near\n', 'far\n', 'far\n']);
};

const isRoot = process.getuid?.() === 0;
/** A small disk at a folder, where this test may make one. */
const canMount = ((): boolean => {
  if (!isRoot) return false;
  const dir = mkdtempSync(join(tmpdir(), 'khlone-mount-'));
  try {
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=1m', 'tmpfs', dir], { stdio: 'ignore' });
    execFileSync('umount', [dir]);
    return true;
  } catch {
    return false;
  } finally {
    rmSync(dir, { recursive: true, force: true });
  }
})();
const smallDisk = (dir: string): void => {
  mkdirSync(dir, { recursive: true });
  execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=3m', 'tmpfs', dir]);
  clean.push(() => execFileSync('umount', ['-l', dir]));
};
const BIG = Buffer.alloc(6_000_000, 'noise ');

describe('both ways work', () => {
  it('with a detached HEAD, and before the first commit', async () => {
    await start();
    gitIn(sides.near, 'switch', '-q', '--detach');
    gitIn(sides.far, 'switch', '-q', '--orphan', 'fresh');
    gitIn(sides.far, 'checkout', '-q', 'main', '--', '.');
    await expectBothWays();
  });

  it('with ids of sha256', async () => {
    await start(undefined, { init: ['--object-format=sha256'] });
    await expectBothWays();
    put(sides.near, 'big.bin', BIG);
    await syncNow();
    expect(statSync(join(sides.far, 'big.bin')).size).toBe(BIG.length);
  });

  it('in a linked worktree, whose git directory is another than the common one', async () => {
    await start(undefined, {
      worktree: (root) => {
        const linked = join(root, '..', 'linked');
        gitIn(root, 'worktree', 'add', '-q', '-b', 'side', linked);
        return linked;
      },
    });
    expect(sides.place.repository.gitDir).not.toBe(sides.place.repository.commonDir);
    await expectBothWays();
    expect(readFileSync(join(sides.dir, 'near/kept.txt'), 'utf8')).toBe('kept\n');
  });

  it('in a worktree of a bare repository', async () => {
    await start(undefined, {
      worktree: (root) => {
        const [bare, linked] = [join(root, '..', 'bare.git'), join(root, '..', 'of-bare')];
        gitIn(root, 'clone', '-q', '--bare', root, bare);
        gitIn(bare, 'worktree', 'add', '-q', linked, 'main');
        return linked;
      },
    });
    await expectBothWays();
  });

  it('in a worktree on another disk than its git directory', async ({ skip }) => {
    const shm = '/dev/shm';
    if (!existsSync(shm) || statSync(shm).dev === statSync(tmpdir()).dev) skip('there is one disk only');
    const place = realpathSync(mkdtempSync(join(shm, 'khlone-')));
    clean.push(() => rmSync(place, { recursive: true, force: true }));
    await start(undefined, {
      worktree: (root) => {
        gitIn(root, 'worktree', 'add', '-q', '-b', 'side', join(place, 'tree'));
        return join(place, 'tree');
      },
    });
    await expectBothWays();
    expect(existsSync(join(sides.near, '.khlone/displaced'))).toBe(true);
  });

  it('beside a nested repository, a submodule and files that are not checked out', async () => {
    await start((root) => {
      mkdirSync(join(root, 'sub'));
      gitIn(join(root, 'sub'), 'init', '-q');
      put(join(root, 'sub'), 'own.txt', 'own\n');
      commitAll(join(root, 'sub'), 'own');
      gitIn(root, 'add', 'sub');
      commitAll(root, 'with a submodule');
      gitIn(root, 'sparse-checkout', 'set', '--no-cone', '/*', '!/folder');
    });
    expect(existsSync(join(sides.near, 'folder/inner.txt'))).toBe(false);
    mkdirSync(join(sides.near, 'nested'));
    gitIn(join(sides.near, 'nested'), 'init', '-q');
    put(sides.near, 'nested/inside.txt', 'stays\n');
    await expectBothWays();
    expect(existsSync(join(sides.far, 'nested'))).toBe(false);
    expect(far('folder/inner.txt')).toBe('inner\n');
    expect(near('sub/own.txt')).toBe('own\n');
  });

  it('never write into a repository inside, and bring what waits for it once it is gone', async () => {
    await start();
    put(sides.near, 'sub/own.txt', 'own\n');
    gitIn(join(sides.near, 'sub'), 'init', '-q');
    commitAll(join(sides.near, 'sub'), 'own');
    gitIn(sides.near, 'add', 'sub');
    mkdirSync(join(sides.near, 'nested'));
    gitIn(join(sides.near, 'nested'), 'init', '-q');
    put(sides.near, 'nested/here.txt', 'mine\n');
    for (const name of ['nested/here.txt', 'nested/made.txt', 'sub/made.txt'])
      put(sides.far, name, 'theirs\n');
    for (let n = 0; n < 2; n += 1) {
      const { done, refused, meeting } = stepped(await pull(sides.place, sides.link, freely));
      expect([done, refused]).toEqual([[], []]);
      expect(meeting.plan.held.map(({ path, why }) => `${path}: ${why}`)).toEqual([
        'nested/here.txt: in a nested repository here',
        'nested/made.txt: in a nested repository here',
        'sub/made.txt: in a submodule here',
      ]);
      stepped(await sync(sides.place, sides.link, freely));
      expect([far('nested/here.txt'), near('nested/here.txt')]).toEqual(['theirs\n', 'mine\n']);
    }
    rmSync(join(sides.near, 'nested'), { recursive: true });
    stepped(await pull(sides.place, sides.link, freely));
    expect(near('nested/made.txt')).toBe('theirs\n');
    expect(existsSync(join(sides.near, 'sub/made.txt'))).toBe(false);
  });

  it('never write into a repository inside the zone, and say so', async () => {
    await start();
    mkdirSync(join(sides.far, 'nested'));
    gitIn(join(sides.far, 'nested'), 'init', '-q');
    put(sides.far, 'nested/there.txt', 'theirs\n');
    for (const name of ['nested/there.txt', 'nested/made.txt']) put(sides.near, name, 'mine\n');
    for (let n = 0; n < 2; n += 1) {
      const { done, refused, meeting } = stepped(await sync(sides.place, sides.link, freely));
      expect([done, refused]).toEqual([[], []]);
      expect(meeting.plan.held.map(({ path, why }) => `${path}: ${why}`)).toEqual([
        'nested/made.txt: in a nested repository of the zone',
        'nested/there.txt: in a nested repository of the zone',
      ]);
      expect((await pullNow()).done).toEqual([]);
      expect([near('nested/made.txt'), far('nested/there.txt')]).toEqual(['mine\n', 'theirs\n']);
      expect(existsSync(join(sides.far, 'nested/made.txt'))).toBe(false);
    }
    rmSync(join(sides.far, 'nested'), { recursive: true });
    expect((await syncNow()).done).toEqual(['nested/made.txt', 'nested/there.txt']);
  });

  it('keep here what was sent and is ignored there, though something else of that sync was refused', async () => {
    await start();
    put(sides.far, '.gitignore', '*.log\n');
    put(sides.near, 'made.log', 'a log of mine\n');
    put(sides.near, 'kept.txt', 'mine\n');
    const late: TwoSides['link'] = {
      ...sides.link,
      apply: (change, payload) => {
        put(sides.far, 'kept.txt', 'saved meanwhile\n');
        return sides.link.apply(change, payload);
      },
    };
    const { done, refused } = stepped(await sync(sides.place, late, freely));
    expect([done, refused.map(({ path }) => path)]).toEqual([['made.log'], ['kept.txt']]);
    expect((await pullNow()).done).toEqual(['.gitignore']);
    expect(near('made.log')).toBe('a log of mine\n');
    expect(far('kept.txt')).toBe('saved meanwhile\n');
  });

  it('without running a filter of the repository', async () => {
    await start((root) => put(root, '.gitattributes', '*.lfs filter=own\n'));
    const ran = join(sides.dir, 'filter-ran');
    for (const root of [sides.near, sides.far]) {
      for (const way of ['clean', 'smudge'])
        gitIn(root, 'config', `filter.own.${way}`, `touch '${ran}'; cat`);
      put(root, 'made.lfs', 'made by a filter\n');
    }
    await expectBothWays();
    expect(existsSync(ran)).toBe(false);
  });
});

describe('a step that cannot be', () => {
  it.each(['MERGE_HEAD', 'rebase-merge', 'index.lock'])('waits while git has %s', async (name) => {
    await start();
    put(sides.near, 'kept.txt', 'near\n');
    put(sides.near, `.git/${name}`, '');
    const outcome = await sync(sides.place, sides.link, { yes: false, branch: undefined });
    expect('halts' in outcome && outcome.halts.map(({ why }) => why)).toEqual(['operation']);
    expect(far('kept.txt')).toBe('kept\n');
    rmSync(join(sides.near, '.git', name));
    await syncNow();
    expect(far('kept.txt')).toBe('near\n');
  });

  it('waits on another branch, and when one side has nothing left', async () => {
    await start();
    gitIn(sides.near, 'switch', '-q', '-c', 'another');
    put(sides.near, 'kept.txt', 'near\n');
    const wish = { yes: false, branch: 'main' };
    expect(await sync(sides.place, sides.link, wish)).toMatchObject({ halts: [{ why: 'branch' }] });
    gitIn(sides.near, 'switch', '-q', 'main');
    put(sides.near, 'kept.txt', 'kept\n');
    for (const path of filesIn(sides.far)) rmSync(join(sides.far, path));
    expect(await pull(sides.place, sides.link, wish)).toMatchObject({ halts: [{ why: 'deletion' }] });
    expect(near('edited.txt')).toBe('one\ntwo\nthree\n');
  });

  it('names the git that it needs', async () => {
    await start();
    put(sides.near, 'kept.txt', 'near\n');
    put(sides.far, 'edited.txt', 'far\n');
    const real = execFileSync('sh', ['-c', 'command -v git']).toString().trim();
    const bin = join(sides.dir, 'bin');
    put(
      bin,
      'git',
      `#!/bin/sh\nfor word; do case "$word" in version) echo git version 2.30.2; exit;; merge-tree) exit 129;; esac; done\nexec '${real}' "$@"\n`,
      0o755,
    );
    const { PATH } = process.env;
    clean.push(() => {
      process.env.PATH = PATH;
    });
    process.env.PATH = `${bin}:${PATH}`;
    await expect(pullNow()).rejects.toMatchObject({ code: 'config', hint: 'install git 2.38 or newer' });
    process.env.PATH = PATH;
    await pullNow();
    expect(near('edited.txt')).toBe('far\n');
  });

  it('leaves what may not be written, brings the rest, and is told', async ({ skip }) => {
    await start();
    put(sides.far, 'folder/inner.txt', 'far\n');
    put(sides.far, 'folder/new.txt', 'far\n');
    put(sides.far, 'kept.txt', 'far\n');
    const folder = join(sides.near, 'folder');
    try {
      if (isRoot) execFileSync('chattr', ['+i', folder], { stdio: 'ignore' });
      else chmodSync(folder, 0o500);
    } catch {
      skip('no folder can be closed to this user');
    }
    const open = (): void => {
      if (isRoot) execFileSync('chattr', ['-i', folder]);
      else chmodSync(folder, 0o700);
    };
    clean.push(open);
    const { refused } = await pullNow();
    expect(refused.map(({ path }) => path).sort()).toEqual(['folder/inner.txt', 'folder/new.txt']);
    expect([near('kept.txt'), near('folder/inner.txt')]).toEqual(['far\n', 'inner\n']);
    open();
    expect((await pullNow()).refused).toEqual([]);
    expect([near('folder/inner.txt'), near('folder/new.txt')]).toEqual(['far\n', 'far\n']);
  });

  it('changes nothing where the disk of this side is full', async ({ skip }) => {
    if (!canMount) skip('no small disk can be mounted');
    await start(undefined, {
      worktree: (root) => {
        const disk = join(root, '..', 'disk');
        smallDisk(disk);
        gitIn(root, 'worktree', 'add', '-q', '-b', 'side', join(disk, 'tree'));
        return join(disk, 'tree');
      },
    });
    put(sides.far, 'big.bin', BIG);
    put(sides.far, 'kept.txt', 'far\n');
    await expect(pullNow()).rejects.toMatchObject({ code: 'disk-low' });
    expect([near('kept.txt'), existsSync(join(sides.near, 'big.bin'))]).toEqual(['kept\n', false]);
    rmSync(join(sides.far, 'big.bin'));
    await pullNow();
    expect(near('kept.txt')).toBe('far\n');
  });

  it('changes nothing where the disk of the zone is full', async ({ skip }) => {
    if (!canMount) skip('no small disk can be mounted');
    await start();
    renameSync(sides.far, `${sides.far}.old`);
    smallDisk(sides.far);
    execFileSync('cp', ['-a', `${sides.far}.old/.`, sides.far]);
    put(sides.near, 'big.bin', BIG);
    put(sides.near, 'kept.txt', 'near\n');
    await expect(syncNow()).rejects.toMatchObject({ code: 'disk-low' });
    expect([far('kept.txt'), existsSync(join(sides.far, 'big.bin'))]).toEqual(['kept\n', false]);
    rmSync(join(sides.near, 'big.bin'));
    await syncNow();
    expect(far('kept.txt')).toBe('near\n');
  });

  it('changes nothing where the disk that khlone has on the machine of the zone is full', async ({
    skip,
  }) => {
    if (!canMount) skip('no small disk can be mounted');
    await start();
    const own = join(sides.patchPlace.zonesDir, ZONE);
    renameSync(own, `${own}.old`);
    smallDisk(own);
    execFileSync('cp', ['-a', `${own}.old/.`, own]);
    await pullNow();
    put(sides.near, 'kept.txt', 'near\n');
    const full = (room: number): void => {
      const ballast = join(own, 'ballast');
      rmSync(ballast, { force: true });
      const { bavail, bsize } = statfsSync(own);
      writeFileSync(ballast, Buffer.alloc(Math.max(0, bavail * bsize - room), 1));
    };
    for (const room of [0, 4096, 16_384, 65_536]) {
      full(room);
      put(sides.near, 'noise.bin', randomBytes(200_000));
      await expect(syncNow()).rejects.toMatchObject({
        code: 'disk-low',
        // Not the disk of this side, which knows no more than what it is told.
        message: expect.stringMatching(/zones\/z-[0-9a-f]+$|the disk is full$/u),
      });
      expect([far('kept.txt'), existsSync(join(sides.far, 'noise.bin'))]).toEqual(['kept\n', false]);
    }
    full(3_000_000);
    await syncNow();
    expect(far('kept.txt')).toBe('near\n');
  });

  it('says so where its state is not what khlone wrote', async () => {
    await start();
    const file = join(sides.near, '.git/khlone/state.json');
    const before = readFileSync(file);
    writeFileSync(file, 'half');
    await expect(syncNow()).rejects.toMatchObject({ code: 'conflict' });
    writeFileSync(file, before);
    await expectBothWays();
    expect((await readState(join(sides.near, '.git'), ZONE)).conflicts).toEqual([]);
  });
});
