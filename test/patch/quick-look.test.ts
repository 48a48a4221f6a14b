import {
  appendFileSync,
  chmodSync,
  existsSync,
  lstatSync,
  mkdirSync,
  renameSync,
  rmSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { dirname, join } from 'node:path';
import * as fc from 'fast-check';
import { afterEach, expect, it, vi } from 'vitest';
import { snapshotTree } from '../../src/patch/snapshot.ts';
import { gitIn, makeGround, makeRepo, nextTick, put, snapshotWish } from './ground.ts';

/**
 * A snapshot that builds on the last one says what one from nothing says, whatever a person, an editor or git did in
 * between.
 */

const LONG = process.env.KHLONE_LONG === '1';
const RUNS = LONG ? 150 : 5;
const STEPS = 14;

const NAMES = ['a', 'b', 'd/a', 'd/e', 'd/e/f', 'n/a', '.env', 'x.lfs', 'noise', 'd/empty/new'];
const ACTS = [
  ...['edit', 'edit', 'edit', 'new', 'new', 'remove', 'folder', 'link', 'mode', 'touch', 'large'],
  ...['add', 'add', 'commit', 'commit', 'uncache', 'reset', 'restore', 'branch', 'pack'],
  ...[
    'many',
    'many',
    'ignore',
    'ignore-below',
    'ignores-file',
    'exclude',
    'empty',
    'rename-folder',
    'save',
    'nothing',
    'hidden-attributes',
    'attributes-file',
    'attributes',
    'private-attributes',
    'nest',
    'unnest',
  ],
] as const;
type Act = { what: (typeof ACTS)[number]; name: string; n: number };

const acts = fc.array(
  fc.record<Act>({ what: fc.constantFrom(...ACTS), name: fc.constantFrom(...NAMES), n: fc.nat(3) }),
  { minLength: 4, maxLength: STEPS, size: 'max' },
);

/** Git refuses some of these where there is nothing to do. */
const git = (root: string, ...words: string[]): void => {
  try {
    gitIn(root, ...words);
  } catch {}
};

/** What stands in the way of a file goes. */
const clear = (root: string, name: string): void => {
  for (let up = dirname(name); up !== '.'; up = dirname(up))
    if (lstatSync(join(root, up), { throwIfNoEntry: false })?.isDirectory() === false) rmSync(join(root, up));
  rmSync(join(root, name), { recursive: true, force: true });
  mkdirSync(dirname(join(root, name)), { recursive: true });
};

const perform = (root: string, { what, name, n }: Act): void => {
  const path = join(root, name);
  if (what === 'edit' || what === 'new') {
    clear(root, name);
    put(root, name, `${n}\n`);
  } else if (what === 'remove') rmSync(path, { recursive: true, force: true });
  else if (what === 'folder') {
    clear(root, name);
    put(root, `${name}/below`, `${n}\n`);
  } else if (what === 'link') {
    clear(root, name);
    symlinkSync(`to-${n}`, path);
  } else if (what === 'large') {
    clear(root, name);
    put(root, name, 'x'.repeat(300 + n));
  } else if (what === 'many') {
    // More than are read without the index.
    for (let at = 0; at < 40; at += 1) put(root, `many/${at}`, `${n} ${at % (n + 2)}\n`);
  } else if (what === 'mode' && existsSync(path)) chmodSync(path, n % 2 ? 0o755 : 0o644);
  else if (what === 'touch' && existsSync(path)) utimesSync(path, n, n);
  else if (what === 'add') git(root, 'add', '-f', '-A', '--', name);
  else if (what === 'commit') git(root, 'commit', '-q', '-m', 'c', ...(n % 2 ? ['-a'] : []));
  else if (what === 'uncache') git(root, 'rm', '-q', '-r', '--cached', '--', name);
  else if (what === 'reset') git(root, 'reset', '-q', ...(n % 2 ? ['--hard'] : []));
  else if (what === 'restore') git(root, 'checkout', '-q', '-f', '--', name);
  else if (what === 'branch') git(root, 'checkout', '-q', '-B', `b${n}`);
  else if (what === 'pack') git(root, 'pack-refs', '--all');
  else if (what === 'ignore') put(root, '.gitignore', n % 2 ? `${name}\n` : '');
  else if (what === 'ignore-below') {
    // Covers itself as well, as tools write it into their caches.
    clear(root, 'd/.gitignore');
    put(root, 'd/.gitignore', ['*\n', '', '.gitignore\ne\n', '!a\n'][n] ?? '');
  } else if (what === 'ignores-file') {
    put(root, '.git/some-ignores', n % 2 ? `${name}\n` : '');
    git(root, 'config', 'core.excludesFile', join(root, '.git/some-ignores'));
  } else if (what === 'empty') {
    clear(root, name);
    mkdirSync(path);
  } else if (what === 'rename-folder') {
    const [from, to] = n % 2 ? ['d', 'n'] : ['n', 'd'];
    rmSync(join(root, to), { recursive: true, force: true });
    if (existsSync(join(root, from))) renameSync(join(root, from), join(root, to));
  } else if (what === 'save') {
    // As editors do that write a new file and rename it.
    clear(root, name);
    put(root, `${name}.tmp`, `${n}\n`);
    renameSync(join(root, `${name}.tmp`), path);
  } else if (what === 'exclude') put(root, '.git/info/exclude', n % 2 ? `${name}\n` : '');
  else if (what === 'attributes') put(root, '.gitattributes', n % 2 ? '*.lfs filter=lfs\n' : '');
  else if (what === 'private-attributes') put(root, '.git/info/attributes', n % 2 ? 'a filter=x\n' : '');
  else if (what === 'hidden-attributes') {
    put(root, '.gitignore', '.gitattributes\n');
    put(root, `${n % 2 ? 'd/' : ''}.gitattributes`, 'a filter=x\ne filter=x\n');
  } else if (what === 'attributes-file') {
    put(root, '.git/some-attributes', 'b filter=x\n');
    git(
      root,
      'config',
      n % 2 ? '--unset' : 'core.attributesFile',
      ...(n % 2 ? ['core.attributesFile'] : [join(root, '.git/some-attributes')]),
    );
  } else if (what === 'nest') git(root, 'init', '-q', 'nested');
  else if (what === 'unnest') rmSync(join(root, 'nested'), { recursive: true, force: true });
};

/** What changed within two seconds is looked at again in any case: a clock that is ahead makes all of it old. */
const AHEAD_MS = 60_000;
afterEach(() => void vi.useRealTimers());

it(
  'a snapshot that builds on the last one says what one from nothing says',
  async () => {
    await fc.assert(
      fc.asyncProperty(acts, fc.constantFrom('raw', 'head'), fc.boolean(), async (list, filtered, isOld) => {
        const ground = makeGround();
        vi.useFakeTimers({ toFake: ['Date'], now: Date.now() + (isOld ? AHEAD_MS : 0) });
        try {
          const root = makeRepo(ground.dir);
          const wish = { ...snapshotWish(root), maxFileBytes: 200, filtered };
          await snapshotTree(wish);
          for (const [n, act] of list.entries()) {
            nextTick(join(ground.dir, 'probe'));
            perform(root, act);
            const built = await snapshotTree(wish);
            const anew = await snapshotTree({ ...wish, shadowDir: join(ground.dir, `anew-${n}`) });
            const sorted = anew.leftOut.toSorted((one, other) => (one.path < other.path ? -1 : 1));
            built.leftOut.sort((one, other) => (one.path < other.path ? -1 : 1));
            expect({ act, ...built }).toEqual({ act, ...anew, leftOut: sorted });
          }
        } finally {
          vi.useRealTimers();
          ground.remove();
        }
      }),
      { numRuns: RUNS, endOnFailure: !LONG },
    );
  },
  RUNS * STEPS * 4_000,
);

it('sees a tracked file that was away and came back, and one that git took in meanwhile', async () => {
  const ground = makeGround();
  try {
    const root = makeRepo(ground.dir);
    put(root, 'new', 'one\n');
    const treeNow = async () => (await snapshotTree(snapshotWish(root))).tree;
    const first = await treeNow();
    expect(await treeNow()).toBe(first);
    rmSync(join(root, 'edited.txt'));
    expect(await treeNow()).not.toBe(first);
    put(root, 'edited.txt', 'one\ntwo\nthree\n');
    expect(await treeNow()).toBe(first);
    rmSync(join(root, 'new'));
    expect(await treeNow()).not.toBe(first);
    put(root, 'new', 'one\n');
    expect(await treeNow()).toBe(first);
    gitIn(root, 'add', 'new');
    appendFileSync(join(root, 'new'), 'two\n');
    const edited = await treeNow();
    gitIn(root, 'add', '-A');
    expect(edited).toBe(gitIn(root, 'write-tree').trim());
  } finally {
    ground.remove();
  }
});

it('reads a file that was edited before again once it is written, and when its bytes were thrown away', async () => {
  const ground = makeGround();
  vi.useFakeTimers({ toFake: ['Date'], now: Date.now() + AHEAD_MS });
  try {
    const root = makeRepo(ground.dir);
    const wish = snapshotWish(root);
    const treeNow = async () => (await snapshotTree(wish)).tree;
    await treeNow();
    for (const [n, text] of ['one', 'two', 'one'].entries()) {
      nextTick(join(ground.dir, 'probe'));
      writeFileSync(join(root, 'edited.txt'), text);
      const { tree } = await snapshotTree({ ...wish, shadowDir: join(ground.dir, `anew-${n}`) });
      expect([await treeNow(), await treeNow()]).toEqual([tree, tree]);
    }
    const last = gitIn(root, 'hash-object', 'edited.txt').trim();
    const file = join(wish.shadowDir, 'objects', last.slice(0, 2), last.slice(2));
    rmSync(file);
    await treeNow();
    expect(existsSync(file)).toBe(true);
  } finally {
    ground.remove();
  }
});
