import { execFile, execFileSync } from 'node:child_process';
import {
  appendFileSync,
  chmodSync,
  closeSync,
  existsSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { type ApplyPlace, applyChanges, type Move, recoverApplications } from '../../src/patch/apply.ts';
import { displacedIn, sweepDisplaced } from '../../src/patch/displaced.ts';
import { openShadow, type Shadow } from '../../src/patch/shadow.ts';
import { snapshotTree } from '../../src/patch/snapshot.ts';
import { type Change, diffTrees } from '../../src/patch/tree.ts';
import { fingerprint, gitIn, makeDirty, makeGround, makeRepo, put, snapshotWish } from './ground.ts';

let ground: ReturnType<typeof makeGround>;
let root = '';
let shadow: Shadow;
let place: ApplyPlace;

beforeEach(async () => {
  ground = makeGround();
  root = makeRepo(ground.dir);
  const wish = snapshotWish(root);
  shadow = await openShadow(wish, wish.shadowDir, 60_000);
  place = { worktree: root, keep: join(root, '.git/khlone/displaced') };
});
afterEach(() => ground.remove());

const treeNow = async (): Promise<string> => (await snapshotTree(snapshotWish(root))).tree;
const plain = { note: null, moves: [] };
const read = (path: string): string => readFileSync(join(root, path), 'utf8');
const MOVED = { from: 'kept.txt', to: 'moved.txt' };
const IN = { from: 'edited.txt', to: 'kept.txt/in.txt' };
const inGit = (path: string): boolean => path.endsWith('/.git');

/** The worktree after `edit`, as a tree; the worktree itself goes back to how it was. */
const treeAfter = async (edit: () => void): Promise<string> => {
  const before = await treeNow();
  edit();
  const tree = await treeNow();
  const back = await applyChanges(place, shadow, await diffTrees(shadow, tree, before), plain);
  expect(back.refused).toEqual([]);
  await back.settle();
  return tree;
};

const apply = async (from: string, to: string, note: unknown = null, moves: Move[] = []) => {
  const applied = await applyChanges(place, shadow, await diffTrees(shadow, from, to), { note, moves });
  await applied.settle();
  return applied;
};

describe('an application', () => {
  it('makes every kind of change, and its reverse', async () => {
    const before = await treeNow();
    const files = fingerprint(root, inGit);
    makeDirty(root);
    rmSync(join(root, 'ignored.log'));
    const after = await treeNow();
    const dirty = fingerprint(root, inGit);
    const back = await apply(after, before);
    expect(back.refused).toEqual([]);
    expect(fingerprint(root, inGit)).toEqual(files);
    expect((await apply(before, after)).refused).toEqual([]);
    expect(fingerprint(root, inGit)).toEqual(dirty);
    expect(readlinkSync(join(root, 'folder'))).toBe('elsewhere');
    expect(statSync(join(root, 'tool')).mode & 0o777).toBe(0o755);
  });

  it('leaves a path that was changed meanwhile, and goes on with the others', async () => {
    const before = await treeNow();
    const after = await treeAfter(() => {
      put(root, 'kept.txt', 'theirs\n');
      put(root, 'edited.txt', 'theirs\n');
      rmSync(join(root, 'staged.txt'));
      put(root, 'fresh.txt', 'theirs\n');
    });
    put(root, 'kept.txt', 'mine\n');
    put(root, 'staged.txt', 'mine\n');
    put(root, 'fresh.txt', 'mine\n');
    const { refused, done } = await apply(before, after);
    expect(refused.map(({ path }) => path).sort()).toEqual(['fresh.txt', 'kept.txt', 'staged.txt']);
    expect(done).toEqual(['edited.txt']);
    expect([read('kept.txt'), read('staged.txt'), read('fresh.txt')]).toEqual(['mine\n', 'mine\n', 'mine\n']);
    expect(read('edited.txt')).toBe('theirs\n');
  });

  it('keeps what it displaced, also what an open editor writes to it afterwards', async () => {
    const before = await treeNow();
    const after = await treeAfter(() => put(root, 'kept.txt', 'theirs\n'));
    const editor = openSync(join(root, 'kept.txt'), 'a');
    const { folder } = await apply(before, after);
    writeSync(editor, 'typed late\n');
    closeSync(editor);
    const [kept] = await displacedIn(folder);
    expect(kept?.path).toBe('kept.txt');
    expect(readFileSync(kept?.kept ?? '', 'utf8')).toBe('kept\ntyped late\n');
    expect(read('kept.txt')).toBe('theirs\n');
  });

  it('puts back what had to make room for others when its own new place is taken', async () => {
    const before = await treeNow();
    // KEPT.txt is one name with kept.txt on some disks, so kept.txt has to go first.
    const after = await treeAfter(() => {
      renameSync(join(root, 'kept.txt'), join(root, 'moved.txt'));
      put(root, 'KEPT.txt', 'another\n');
    });
    put(root, 'moved.txt', 'mine\n');
    const { refused, done } = await apply(before, after, null, [MOVED]);
    expect(refused.map(({ path }) => path).sort()).toEqual(['kept.txt', 'moved.txt']);
    expect(done).toEqual(['KEPT.txt']);
    expect(['kept.txt', 'moved.txt', 'KEPT.txt'].map(read)).toEqual(['kept\n', 'mine\n', 'another\n']);
  });

  it('puts it back before another file takes its place', async () => {
    const before = await treeNow();
    const after = await treeAfter(() => {
      renameSync(join(root, 'kept.txt'), join(root, 'moved.txt'));
      put(root, 'kept.txt/inner.txt', 'a folder now\n');
    });
    put(root, 'moved.txt', 'mine\n');
    const { refused } = await apply(before, after, null, [MOVED]);
    expect(refused.map(({ path }) => path).sort()).toEqual(['kept.txt', 'kept.txt/inner.txt', 'moved.txt']);
    expect([read('kept.txt'), read('moved.txt')]).toEqual(['kept\n', 'mine\n']);
  });

  it('keeps a copy of what had to make room where something stands in its place by then', async () => {
    const before = await treeNow();
    const after = await treeAfter(() => {
      renameSync(join(root, 'kept.txt'), join(root, 'moved.txt'));
      mkdirSync(join(root, 'kept.txt'));
      renameSync(join(root, 'edited.txt'), join(root, 'kept.txt/in.txt'));
      put(root, 'edited.txt/below', 'new\n');
    });
    put(root, 'moved.txt', 'mine\n');
    const applied = await apply(before, after, null, [MOVED, IN]);
    expect(applied.refused.map(({ path }) => path).sort()).toEqual(['kept.txt', 'moved.txt']);
    const kept = (await displacedIn(applied.folder)).map(({ kept: at }) => readFileSync(at, 'utf8'));
    expect(kept).toContain('kept\n');
    expect(read('kept.txt/in.txt')).toContain('one\n');
  });

  it('leaves a file at its old place when its new one is taken', async () => {
    const before = await treeNow();
    const after = await treeAfter(() => renameSync(join(root, 'kept.txt'), join(root, 'moved.txt')));
    put(root, 'moved.txt', 'mine\n');
    const { refused } = await apply(before, after, null, [MOVED]);
    expect(refused.map(({ path }) => path)).toEqual(['moved.txt', 'kept.txt']);
    expect([read('kept.txt'), read('moved.txt')]).toEqual(['kept\n', 'mine\n']);
  });

  it('counts a path that is already as it shall be', async () => {
    const before = await treeNow();
    const after = await treeAfter(() => put(root, 'kept.txt', 'the same edit\n'));
    put(root, 'kept.txt', 'the same edit\n');
    expect((await apply(before, after)).refused).toEqual([]);
  });

  it('touches neither index nor HEAD, runs no hook and no filter', async () => {
    const before = await treeNow();
    for (const hook of ['post-index-change', 'reference-transaction', 'post-checkout']) {
      put(root, `.git/hooks/${hook}`, `#!/bin/sh\ntouch ${ground.dir}/hook-ran\n`, 0o755);
    }
    gitIn(root, 'config', 'filter.canary.smudge', `touch ${ground.dir}/filter-ran`);
    put(root, '.git/info/attributes', '* filter=canary\n');
    const index = readFileSync(join(root, '.git/index'));
    const refs = gitIn(root, 'for-each-ref') + gitIn(root, 'rev-parse', 'HEAD');
    const after = await treeAfter(() => {
      put(root, 'kept.txt', 'theirs\n');
      rmSync(join(root, 'deleted.txt'));
    });
    await apply(before, after);
    expect(readFileSync(join(root, '.git/index'))).toEqual(index);
    expect(gitIn(root, 'for-each-ref') + gitIn(root, 'rev-parse', 'HEAD')).toBe(refs);
    expect(readdirSync(ground.dir).filter((name) => name.endsWith('-ran'))).toEqual([]);
  });

  it('gives a file to nobody who may not read the worktree', async () => {
    const before = await treeNow();
    const after = await treeAfter(() => put(root, 'fresh.sh', 'x\n', 0o755));
    chmodSync(root, 0o700);
    await apply(before, after);
    expect(statSync(join(root, 'fresh.sh')).mode & 0o777).toBe(0o700);
  });
});

describe('a path that leads elsewhere', () => {
  const change = async (path: string): Promise<Change> => {
    const oid = gitIn(root, 'rev-parse', 'HEAD:kept.txt').trim();
    return { path, before: undefined, after: { mode: '100644', oid } };
  };

  it.each([
    '../out',
    '/tmp/out',
    '.git/config2',
    '.GIT/x',
    'a/../../out',
    'git~1/x',
    '.git./x',
    'a//b',
    './x',
  ])('%j is refused', async (path) => {
    const { refused } = await applyChanges(place, shadow, [await change(path)], plain);
    expect(refused).toHaveLength(1);
    expect(existsSync(join(ground.dir, 'out'))).toBe(false);
    expect(existsSync(join(root, '.git/config2'))).toBe(false);
  });

  it('through a link is refused, and one through a file', async () => {
    mkdirSync(join(ground.dir, 'outside'));
    symlinkSync(join(ground.dir, 'outside'), join(root, 'door'));
    const changes = [await change('door/in.txt'), await change('kept.txt/in.txt')];
    const { refused } = await applyChanges(place, shadow, changes, plain);
    expect(refused).toHaveLength(2);
    expect(readdirSync(join(ground.dir, 'outside'))).toEqual([]);
  });

  it('stays in its folder when a parent becomes a link in the middle', async () => {
    const outside = join(ground.dir, 'outside');
    mkdirSync(outside);
    mkdirSync(join(root, 'deep'));
    // The folder changes between a link and a folder as fast as another process can.
    const swapper = `const fs=require('fs');const [d,l,o]=process.argv.slice(1);for(;;){try{fs.renameSync(d,o);fs.symlinkSync(${JSON.stringify(outside)},d);fs.unlinkSync(d);fs.renameSync(o,d)}catch{}}`;
    const child = execFile(process.execPath, [
      '-e',
      swapper,
      join(root, 'deep'),
      '',
      join(root, 'deep.away'),
    ]);
    try {
      for (let n = 0; n < 40; n += 1) {
        const applied = await applyChanges(place, shadow, [await change(`deep/in-${n}.txt`)], plain);
        await applied.settle();
      }
    } finally {
      child.kill('SIGKILL');
    }
    expect(readdirSync(outside)).toEqual([]);
  });
});

describe('an editor that saves between look and write', () => {
  const saves: Record<string, (path: string) => void> = {
    'by replacing the file': (path) => {
      writeFileSync(`${path}.tmp`, 'mine\n');
      renameSync(`${path}.tmp`, path);
    },
    'in place': (path) => writeFileSync(path, 'mine\n'),
    'by appending': (path) => appendFileSync(path, 'mine\n'),
    'through an open descriptor': (path) => {
      const editor = openSync(path, 'r+');
      writeSync(editor, 'mine\n');
      closeSync(editor);
    },
    'with a backup, as vim does': (path) => {
      renameSync(path, `${path}~`);
      writeFileSync(path, 'mine\n');
      rmSync(`${path}~`);
    },
  };
  const ROUNDS = process.env.KHLONE_LONG === '1' ? 120 : 8;

  it.each(Object.entries(saves))('%s loses nothing', async (_, save) => {
    for (let round = 0; round < ROUNDS; round += 1) {
      put(root, 'kept.txt', `kept ${round}\n`);
      const before = await treeNow();
      const after = await treeAfter(() => put(root, 'kept.txt', `theirs ${round}\n`));
      const changes = await diffTrees(shadow, before, after);
      const applying = applyChanges(place, shadow, changes, plain);
      // Anywhere in the application, which takes a few milliseconds.
      for (let turn = 0; turn < (round % 12) * 7; turn += 1) await new Promise(setImmediate);
      if (existsSync(join(root, 'kept.txt'))) save(join(root, 'kept.txt'));
      else save(join(root, 'kept.txt.late'));
      const { refused, folder, settle } = await applying;
      await settle();
      const kept = (await displacedIn(folder)).map(({ kept: at }) => readFileSync(at, 'utf8')).join('');
      const late = existsSync(join(root, 'kept.txt.late')) ? read('kept.txt.late') : '';
      expect(read('kept.txt') + kept + late).toContain('mine\n');
      if (refused.length > 0) expect(read('kept.txt')).toContain('mine\n');
    }
  });
});

describe('a killed application', () => {
  const program = join(import.meta.dirname, 'apply-program.ts');
  const run = (from: string, to: string, fault: string): Promise<{ killed: boolean; refused: string[] }> =>
    new Promise((resolve, reject) => {
      const wish = snapshotWish(root);
      const args = [program, root, wish.gitDir, wish.shadowDir, place.keep, from, to];
      execFile(process.execPath, args, { env: { ...process.env, KHLONE_FAULT: fault } }, (error, stdout) => {
        if (error && error.signal !== 'SIGKILL') reject(error);
        else resolve({ killed: !!error, refused: error ? [] : JSON.parse(stdout) });
      });
    });

  it('is finished by the next one, wherever it was killed', async () => {
    const before = await treeNow();
    const after = await treeAfter(() => makeDirty(root));
    const steps = (await diffTrees(shadow, before, after)).length;
    const at = (name: string, count: number) => Array.from({ length: count }, (_, n) => `${name}:${n + 1}`);
    const faults = [
      'apply.staged:1',
      'apply.journal:1',
      ...at('apply.aside', 3),
      ...at('apply.placed', steps).filter((_, n) => n % 6 === 0),
    ];
    for (const fault of faults) {
      expect(await run(before, after, fault)).toMatchObject({ killed: true });
      expect(await run(before, after, 'none:1')).toEqual({ killed: false, refused: [] });
      expect(await treeNow()).toBe(after);
      const back = await apply(after, before);
      expect(back.refused).toEqual([]);
    }
  }, 120_000);

  it('does not take an edit that was made after it for one made before', async () => {
    const before = await treeNow();
    const after = await treeAfter(() => {
      put(root, 'edited.txt', 'theirs\n');
      put(root, 'kept.txt', 'theirs\n');
      rmSync(join(root, 'deleted.txt'));
    });
    // edited.txt is in place, kept.txt moved aside, and deleted.txt not reached.
    expect((await run(before, after, 'apply.aside:2')).killed).toBe(true);
    rmSync(join(root, 'edited.txt'));
    put(root, 'edited.txt', 'theirs, and mine\n');
    put(root, 'deleted.txt', 'made anew\n');
    put(root, 'kept.txt', 'mine\n');
    const { refused } = await run(before, after, 'none:1');
    expect(refused).toEqual(['kept.txt', 'deleted.txt']);
    expect([read('edited.txt'), read('deleted.txt'), read('kept.txt')]).toEqual([
      'theirs, and mine\n',
      'made anew\n',
      'mine\n',
    ]);
  });

  it('comes back with its note until it is settled', async () => {
    const before = await treeNow();
    const after = await treeAfter(() => put(root, 'kept.txt', 'theirs\n'));
    await applyChanges(place, shadow, await diffTrees(shadow, before, after), {
      note: { base: after },
      moves: [],
    });
    const [again] = await recoverApplications(place, shadow);
    expect(again?.note).toEqual({ base: after });
    expect(again?.done).toEqual(['kept.txt']);
    await again?.settle();
    expect(await recoverApplications(place, shadow)).toEqual([]);
  });
});

describe('what was displaced', () => {
  it('goes when its time is over', async () => {
    const { folder } = await apply(await treeNow(), await treeAfter(() => put(root, 'kept.txt', 'theirs\n')));
    await sweepDisplaced(place, Date.now());
    utimesSync(join(folder, 'done.json'), 0, 0);
    await sweepDisplaced(place, Date.now());
    expect(existsSync(folder)).toBe(true);
    await sweepDisplaced(place, Date.now() + 60_000);
    expect(existsSync(folder)).toBe(false);
  });

  it('lies in the worktree where git’s folder is on another file system', async () => {
    const other = '/dev/shm';
    if (!existsSync(other) || statSync(other).dev === statSync(root).dev) return;
    const keep = join(other, `khlone-apply-${process.pid}`);
    try {
      place = { worktree: root, keep };
      const before = await treeNow();
      const after = await treeAfter(() => put(root, 'kept.txt', 'theirs\n'));
      const { folder } = await apply(before, after);
      expect(folder.startsWith(join(root, '.khlone/displaced'))).toBe(true);
      expect(await treeNow()).toBe(after);
    } finally {
      rmSync(keep, { recursive: true, force: true });
    }
  });
});

it('starts as a program, so that the tests above mean something', () => {
  expect(execFileSync(process.execPath, ['--version'], { encoding: 'utf8' })).toMatch(/^v2[4-9]/u);
});
