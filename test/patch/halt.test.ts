import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { branchHalts, deletionHalts, operationHalts } from '../../src/patch/halt.ts';
import { holdsOf, MAX_NEW_BYTES, MAX_NEW_FILES, newContents } from '../../src/patch/holds.ts';
import { changesIgnoreRules, ignoredNow } from '../../src/patch/ignored.ts';
import { planPatch } from '../../src/patch/plan.ts';
import { packageChanges, policyFlags } from '../../src/patch/policy.ts';
import { openShadow } from '../../src/patch/shadow.ts';
import { snapshotTree } from '../../src/patch/snapshot.ts';
import { type Change, diffTrees, type Entry, type Tree } from '../../src/patch/tree.ts';
import { commitAll, dirsOf, gitIn, makeGround, makeRepo, put, snapshotWish } from './ground.ts';

let ground: ReturnType<typeof makeGround>;
let root = '';
beforeEach(() => {
  ground = makeGround();
  root = makeRepo(ground.dir);
});
afterEach(() => ground.remove());

const file = (oid: string): Entry => ({ mode: '100644', oid });
const treeOf = (count: number, oid: string): Tree =>
  new Map(Array.from({ length: count }, (_, i) => [`f${i}`, file(oid)]));

describe('a step stops', () => {
  const words = async () => (await operationHalts(dirsOf(root).gitDir)).map(({ message }) => message);

  it('while git is in the middle of something, and goes on afterwards', async () => {
    expect(await words()).toEqual([]);
    gitIn(root, 'switch', '-q', '-c', 'other');
    put(root, 'edited.txt', 'other\n');
    const other = commitAll(root, 'other');
    gitIn(root, 'switch', '-q', 'main');
    put(root, 'edited.txt', 'mine\n');
    commitAll(root, 'mine');
    const stories: [string[], string[], RegExp][] = [
      [['merge', other], ['merge', '--abort'], /merge/u],
      [['rebase', other], ['rebase', '--abort'], /rebase/u],
      [['cherry-pick', other], ['cherry-pick', '--abort'], /cherry-pick/u],
      [['revert', '--no-edit', other], ['revert', '--abort'], /revert/u],
      [['bisect', 'start'], ['bisect', 'reset'], /bisect/u],
    ];
    for (const [begin, end, expected] of stories) {
      try {
        gitIn(root, ...begin);
      } catch {
        // It stops at the conflict.
      }
      expect(await words()).toEqual([expect.stringMatching(expected)]);
      gitIn(root, ...end);
      expect(await words()).toEqual([]);
    }
    writeFileSync(join(root, '.git/index.lock'), '');
    expect(await words()).toEqual([expect.stringContaining('index.lock')]);
  });

  it('only for the worktree that is in the middle of something', async () => {
    const linked = join(ground.dir, 'linked');
    gitIn(root, 'worktree', 'add', '-q', '-b', 'side', linked);
    writeFileSync(join(dirsOf(linked).gitDir, 'MERGE_HEAD'), '');
    expect(await words()).toEqual([]);
    expect(await operationHalts(dirsOf(linked).gitDir)).toHaveLength(1);
  });

  it('when the worktree left the branch of its zone', () => {
    expect(branchHalts('main', 'main')).toEqual([]);
    expect(branchHalts(undefined, undefined)).toEqual([]);
    expect(branchHalts(undefined, 'main')).toEqual([]);
    expect(branchHalts('main', 'other')[0]?.message).toBe("the branch here is other, the zone's is main");
    expect(branchHalts('main', undefined)).toHaveLength(1);
  });

  it.each([
    [10, 5, false],
    [10, 6, true],
    [9, 8, false],
    [9, 9, true],
    [1, 1, true],
    [1000, 501, true],
  ])('of %i files where %i would be deleted: %s', (count, deleted, stops) => {
    const base = treeOf(count, 'a');
    const remote = new Map([...base].slice(deleted));
    const plan = planPatch({
      sides: { base, local: base, remote, merged: remote },
      conflicts: [],
      renames: [],
      held: [],
    });
    expect(deletionHalts(plan, 'toLocal', count).map(({ why }) => why)).toEqual(stops ? ['deletion'] : []);
    expect(deletionHalts(plan, 'toRemote', count)).toEqual([]);
  });

  it('not when everything was moved into a folder', () => {
    const base = treeOf(20, 'a');
    const remote = new Map([...base].map(([path, entry]) => [`src/${path}`, entry]));
    const renames = [...base.keys()].map((path) => ({ from: path, to: `src/${path}` }));
    const sides = { base, local: base, remote, merged: remote };
    const plan = planPatch({ sides, conflicts: [], renames, held: [] });
    expect(deletionHalts(plan, 'toLocal', 20)).toEqual([]);
  });
});

describe('what is held', () => {
  const choice = { include: ['.env.shared'], exclude: ['*.mp4'] };
  const change = (path: string, oid = 'small', before?: Entry): Change => ({
    path,
    before,
    after: file(oid),
  });
  const sizes = new Map([
    ['small', 10],
    ['large', 20_000_000],
  ]);
  const hold = (changes: Change[], base: Tree = new Map()) =>
    Object.fromEntries(holdsOf({ changes, base, sizes, choice }).map(({ path, why }) => [path, why]));

  it('are new secrets in either direction, excluded and large files, and nothing else', () => {
    const paths = [
      '.env',
      'a/.env.local',
      'id_rsa',
      'k/x.pem',
      '.aws/config',
      'film.mp4',
      '.khlone/zone.yml',
    ];
    const kept = ['.env.example', '.env.shared', 'src/a.ts'];
    const held = hold([...paths, ...kept].map((path) => change(path)));
    expect(Object.keys(held).sort()).toEqual(paths.sort());
    expect(hold([change('big', 'large')])).toEqual({ big: 'larger than max_file (20 MB)' });
    expect(hold([change('big', 'large', file('small'))])).toEqual({});
    // Tracked before: it is on both sides already.
    expect(hold([change('.env', 'small', file('old'))], new Map([['.env', file('old')]]))).toEqual({});
    expect(newContents([change('a'), change('b', 'large', file('small'))])).toEqual(['small']);
  });

  it('are all new files where there are too many at once, and the edits go on', () => {
    const many = (count: number) => Array.from({ length: count }, (_, i) => change(`n${i}`));
    const edit = change('edited', 'small', file('old'));
    expect(Object.keys(hold([...many(MAX_NEW_FILES), edit]))).toHaveLength(0);
    const held = hold([...many(MAX_NEW_FILES + 1), edit]);
    expect(Object.keys(held)).toHaveLength(MAX_NEW_FILES + 1);
    expect(held.n7).toBe('one of 5001 new files at once (0.1 MB): name its folder');
    const each = new Map([['large', 9_999_999]]);
    const few = Array.from({ length: 11 }, (_, i) => change(`n${i}`, 'large'));
    const wish = { changes: few, base: new Map(), sizes: each, choice };
    expect(holdsOf(wish)).toHaveLength(few.length);
    expect(holdsOf({ ...wish, changes: few.slice(1) })).toHaveLength(0);
    expect(MAX_NEW_BYTES).toBe(100_000_000);
    // What the person named, here or in khlone.yml, is no flood; a secret among it waits all the same.
    const named = [...few, change('.env')];
    expect(holdsOf({ ...wish, changes: named, isNamed: () => true })).toMatchObject([{ path: '.env' }]);
    expect(holdsOf({ ...wish, isNamed: (path) => path === 'n0' })).toHaveLength(0);
    expect(holdsOf({ ...wish, choice: { ...choice, include: ['n*'] } })).toHaveLength(0);
  });
});

describe('ignore rules from a zone', () => {
  it('cannot make this worktree send what they covered', async () => {
    put(root, '.gitignore', 'ignored*\nhidden\nbuild/\n');
    commitAll(root, 'rules');
    put(root, 'hidden', 'a password\n');
    put(root, 'build/deep/out', 'out\n');
    put(root, 'mixed/ignored.x', 'x\n');
    const snapshot = () => snapshotTree(snapshotWish(root));
    const base = (await snapshot()).tree;

    // A pull that empties the rules: what they cover is written down before it is applied.
    const pull: Change[] = [{ path: '.gitignore', before: file('a'), after: file('b') }];
    expect(changesIgnoreRules(pull)).toBe(true);
    const held = await ignoredNow(root, 30_000);
    expect(held.map(({ path }) => path).sort()).toEqual(['build/', 'hidden', 'mixed/ignored.x']);
    put(root, '.gitignore', '');

    put(root, 'mixed/new', 'new\n');
    const local = (await snapshot()).tree;
    const wish = snapshotWish(root);
    const changes = await diffTrees(await openShadow(wish, wish.shadowDir, 30_000), base, local);
    const side = (which: 'before' | 'after'): Tree =>
      new Map(changes.flatMap((one) => (one[which] ? [[one.path, one[which]]] : [])));
    const sides = {
      base: side('before'),
      local: side('after'),
      remote: side('before'),
      merged: side('after'),
    };
    const sent = (holding: typeof held) =>
      planPatch({ sides, conflicts: [], renames: [], held: holding }).toRemote.map(({ path }) => path);
    // Without the guard all of it would go.
    expect(sent([])).toEqual(['.gitignore', 'build/deep/out', 'hidden', 'mixed/ignored.x', 'mixed/new']);
    expect(sent(held)).toEqual(['.gitignore', 'mixed/new']);
  });

  it('are seen in any folder, also when they go or become a link', () => {
    const rules = (path: string, after?: Entry): boolean =>
      changesIgnoreRules([{ path, before: file('a'), after }]);
    expect(rules('deep/er/.gitignore')).toBe(true);
    expect(rules('.gitignore', { mode: '120000', oid: 'x' })).toBe(true);
    expect(rules('not.gitignore', file('b'))).toBe(false);
  });
});

describe('a pull flags', () => {
  const flags = (paths: string[], hooksPath?: string) =>
    policyFlags(
      paths.map((path) => ({ path, before: undefined, after: file('a') })),
      new Map(),
      hooksPath,
    ).map(({ path }) => path);

  it('files that run by themselves once they are here', () => {
    const runs = [
      '.husky/pre-commit',
      'web/.envrc',
      '.vscode/tasks.json',
      '.claude/settings.json',
      '.mcp.json',
    ];
    const more = [
      '.githooks/x',
      '.pre-commit-config.yaml',
      'lefthook.yml',
      '.devcontainer/devcontainer.json',
    ];
    expect(flags([...runs, ...more, 'src/a.ts', 'Makefile', 'envrc', '.vscode/x.md'])).toEqual([
      ...runs,
      ...more,
    ]);
    expect(flags(['tools/hooks/pre-push', 'tools/hooksx'], './tools/hooks/')).toEqual([
      'tools/hooks/pre-push',
    ]);
    const gone = { path: '.envrc', before: file('a'), after: undefined };
    expect(policyFlags([gone], new Map())).toEqual([]);
  });

  it('a package.json only when its scripts changed, or cannot be read', () => {
    const before = '{"scripts":{"a":"1"},"version":"1"}';
    const flagged = (after: string, old: string | undefined = before): boolean => {
      const changes = [{ path: 'web/package.json', before: file('a'), after: file('b') }];
      expect(packageChanges(changes)).toEqual(changes);
      const texts = new Map([['web/package.json', { after, ...(old !== undefined && { before: old }) }]]);
      return policyFlags(changes, texts).length > 0;
    };
    expect(flagged('{"scripts":{"a":"1"},"version":"2"}')).toBe(false);
    expect(flagged('{"scripts":{"postinstall":"evil","a":"1"}}')).toBe(true);
    expect(flagged('{"scripts":')).toBe(true);
    expect(flagged('null')).toBe(true);
    expect(flags(['package.json'])).toEqual(['package.json']);
  });
});
