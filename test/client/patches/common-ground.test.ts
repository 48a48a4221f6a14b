import { execFileSync } from 'node:child_process';
import { existsSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { Far } from '../../../src/client/patches/far.ts';
import { pull, sync } from '../../../src/client/patches/steps.ts';
import { viewPatches } from '../../../src/client/patches/view.ts';
import { KhloneError } from '../../../src/protocol/error.ts';
import { commitAll, gitIn, makeRepo, put } from '../../patch/ground.ts';
import { contentsOf } from './invariants.ts';
import { freely, makeTwoSides, placeAt, stepped, type TwoSides } from './two-sides.ts';

/** A second worktree joins a zone that it never exchanged anything with, and whose commit it may not have. */

let sides: TwoSides;
let other: string;

const text = (root: string, path: string): string => readFileSync(join(root, path), 'utf8');
const lines = (changed: Record<number, string> = {}): string =>
  Array.from({ length: 30 }, (_, n) => `${changed[n] ?? `line ${n}`}\n`).join('');

beforeEach(async () => {
  sides = await makeTwoSides((root) => {
    put(root, 'long.txt', lines());
    put(root, 'old.txt', 'soon gone\n');
    commitAll(root, 'second');
  });
  other = join(sides.dir, 'other');
  gitIn(sides.dir, 'clone', '-q', sides.near, other);
});
afterEach(() => sides.remove());

const pullNow = async (link: Far = sides.link) => stepped(await pull(placeAt(other), link, freely));
const syncNow = async (link: Far = sides.link) => stepped(await sync(placeAt(other), link, freely));
const pathsInConflict = (conflicts: readonly { paths: readonly string[] }[]) =>
  conflicts.flatMap(({ paths }) => [...paths]).sort();

/** The zone goes on by some commits, of which `other` has none. */
const zoneCommits = (): void => {
  put(sides.far, 'long.txt', lines({ 3: 'the zone' }));
  gitIn(sides.far, 'rm', '-q', 'old.txt');
  commitAll(sides.far, 'by a clone');
  put(sides.far, 'more.txt', 'more\n');
  commitAll(sides.far, 'by a clone again');
};

/** The zone has nothing of what is before this commit, and was told of none. */
const cutHistory = (root: string, commit: string): void => {
  writeFileSync(join(root, '.git', 'shallow'), `${commit}\n`);
  gitIn(root, 'reflog', 'expire', '--expire=now', '--all');
  gitIn(root, 'repack', '-q', '-a', '-d');
  for (const pack of readdirSync(join(root, '.git/objects/pack')).filter((name) => name.endsWith('.keep')))
    rmSync(join(root, '.git/objects/pack', pack));
  gitIn(root, 'repack', '-q', '-a', '-d');
  gitIn(root, 'prune', '--expire=now');
};

/** What git holds of the person's, and that nothing came to its objects. */
const gitSide = (): string[] => [
  gitIn(other, 'rev-parse', 'HEAD'),
  gitIn(other, 'for-each-ref'),
  gitIn(other, 'count-objects', '-v'),
  gitIn(other, 'diff', '--cached', '--name-only'),
];

const expectAlike = async (): Promise<void> => {
  await syncNow();
  await pullNow();
  const [here, there] = [contentsOf(other), contentsOf(sides.far)];
  expect(here).toEqual(there);
};

describe('a worktree that joins', () => {
  it('takes what only the zone changed, where it is behind its commits', async () => {
    zoneCommits();
    const before = gitSide();
    const { conflicts, done } = await pullNow();
    expect(conflicts).toEqual([]);
    expect(done.sort()).toEqual(['long.txt', 'more.txt', 'old.txt']);
    expect(text(other, 'long.txt')).toBe(lines({ 3: 'the zone' }));
    expect(gitSide()).toEqual(before);
    expect((await syncNow()).done).toEqual([]);
    await expectAlike();
  });

  it('sends only its own edits, where it syncs first', async () => {
    zoneCommits();
    put(other, 'mine.txt', 'mine\n');
    put(other, 'long.txt', lines({ 20: 'mine' }));
    const { conflicts, done } = await syncNow();
    expect(conflicts).toEqual([]);
    expect(done.sort()).toEqual(['long.txt', 'mine.txt']);
    expect(text(sides.far, 'long.txt')).toBe(lines({ 3: 'the zone', 20: 'mine' }));
    expect(text(sides.far, 'more.txt')).toBe('more\n');
    await expectAlike();
  });

  it('merges where both went on by commits of their own', async () => {
    zoneCommits();
    put(sides.far, 'uncommitted.txt', 'of the zone\n');
    put(other, 'long.txt', lines({ 20: 'mine' }));
    put(other, 'kept.txt', 'mine\n');
    commitAll(other, 'mine');
    put(other, 'edited.txt', 'not committed\n');
    const { conflicts } = await pullNow();
    expect(conflicts).toEqual([]);
    expect(text(other, 'long.txt')).toBe(lines({ 3: 'the zone', 20: 'mine' }));
    await expectAlike();
    expect(text(sides.far, 'kept.txt')).toBe('mine\n');
    expect(text(sides.far, 'edited.txt')).toBe('not committed\n');
  });

  it('merges where the zone is behind it', async () => {
    put(other, 'kept.txt', 'mine\n');
    commitAll(other, 'mine');
    put(sides.far, 'edited.txt', 'of the zone\n');
    const { conflicts, done } = await syncNow();
    expect(conflicts).toEqual([]);
    expect(done).toEqual(['kept.txt']);
    await expectAlike();
    expect(text(other, 'edited.txt')).toBe('of the zone\n');
  });

  it('has a conflict where both changed the same lines since, and nowhere else', async () => {
    zoneCommits();
    put(other, 'long.txt', lines({ 3: 'mine' }));
    put(other, 'old.txt', 'still used\n');
    const before = contentsOf(other);
    const { conflicts } = await pullNow();
    expect(pathsInConflict(conflicts)).toEqual(['long.txt', 'old.txt']);
    for (const path of ['long.txt', 'old.txt']) expect(contentsOf(other).get(path)).toBe(before.get(path));
    expect(text(other, 'more.txt')).toBe('more\n');
  });

  it('finds the ground also where only a commit far back is known on both sides', async () => {
    zoneCommits();
    put(other, 'kept.txt', 'mine\n');
    for (let n = 0; n < 3; n += 1) gitIn(other, 'commit', '-q', '--allow-empty', '-am', `mine ${n}`);
    const root = gitIn(other, 'rev-parse', 'HEAD').trim();
    const many = Array.from(
      { length: 1_200 },
      (_, n) => `commit refs/heads/main\ncommitter a <a@example.org> ${2e9 + n} +0000\ndata 1\nx\n`,
    );
    many[0] = `${many[0]}from ${root}\n`;
    execFileSync('git', ['fast-import', '--quiet', '--force'], { cwd: other, input: many.join('\n') });
    const { conflicts } = await pullNow();
    expect(conflicts).toEqual([]);
    expect(text(other, 'kept.txt')).toBe('mine\n');
    expect(text(other, 'more.txt')).toBe('more\n');
  });

  it('finds the ground by a branch that was fetched and not merged, where the zone knows no more', async () => {
    put(sides.near, 'newer.txt', 'newer\n');
    commitAll(sides.near, 'newer');
    gitIn(sides.near, 'push', '-q', sides.far, 'HEAD:refs/heads/pushed');
    gitIn(sides.far, 'reset', '-q', '--hard', 'pushed');
    gitIn(other, 'fetch', '-q', 'origin');
    zoneCommits();
    cutHistory(sides.far, gitIn(sides.near, 'rev-parse', 'HEAD').trim());
    const { conflicts, done } = await pullNow();
    expect(conflicts).toEqual([]);
    expect(done.sort()).toEqual(['long.txt', 'more.txt', 'newer.txt', 'old.txt']);
  });

  it('tells by a look what would travel, with the same ground', async () => {
    zoneCommits();
    put(other, 'mine.txt', 'mine\n');
    const view = await viewPatches(placeAt(other), sides.link);
    expect(view).toMatchObject({ conflicts: [], toSend: 1, toPull: 3 });
    gitIn(other, 'fetch', '-q', sides.far, 'main:refs/remotes/khlone/far/main');
    expect(await viewPatches(placeAt(other), undefined)).toMatchObject({
      ...{ conflicts: [], toSend: 1, toPull: 3 },
    });
  });
});

/** Commits that change nothing, on top of what is checked out. */
const commitMany = (root: string, count: number): void => {
  const first = gitIn(root, 'rev-parse', 'HEAD').trim();
  const nowS = Math.ceil(Date.now() / 1000);
  const input = Array.from({ length: count }, (_, n) =>
    [
      `commit refs/heads/main\ncommitter a <a@example.org> ${nowS + n} +0000\ndata 1\nx\n`,
      n === 0 ? `from ${first}\n` : '',
    ].join(''),
  );
  execFileSync('git', ['fast-import', '--quiet', '--force'], { cwd: root, input: input.join('') });
};

describe.each([51, 500, 5_000])('a worktree that is %i commits away', (count) => {
  /** The last commit of both changed a line that the zone changes again: an older ground would make a conflict of it. */
  const together = lines({ 3: 'together' });

  const expectMerged = async (): Promise<void> => {
    put(other, 'mine.txt', 'mine\n');
    put(other, 'long.txt', lines({ 3: 'together', 20: 'mine' }));
    expect((await pullNow()).conflicts).toEqual([]);
    expect(text(other, 'long.txt')).toBe(lines({ 3: 'the zone', 20: 'mine' }));
    expect(existsSync(join(other, 'old.txt'))).toBe(false);
    await expectAlike();
    expect(text(sides.far, 'mine.txt')).toBe('mine\n');
  };

  const makeAnew = async (meanwhile: (near: string) => void): Promise<void> => {
    sides.remove();
    sides = await makeTwoSides((root) => {
      put(root, 'old.txt', 'soon gone\n');
      put(root, 'long.txt', lines());
      commitAll(root, 'second');
      put(root, 'long.txt', together);
      commitAll(root, 'third');
      other = join(root, '..', 'other');
      gitIn(root, 'clone', '-q', root, other);
      meanwhile(root);
    });
    zoneCommits();
  };

  it('finds the very ground where it is behind what was carried', async () => {
    await makeAnew((root) => commitMany(root, count));
    await expectMerged();
  });

  it('finds it where it is ahead of what was carried', async () => {
    await makeAnew(() => {});
    commitMany(other, count);
    await expectMerged();
  });

  it('finds it where both went on so far', async () => {
    await makeAnew((root) => commitMany(root, count));
    put(other, 'own.txt', 'own\n');
    commitAll(other, 'own');
    commitMany(other, count);
    await expectMerged();
  });

  it('finds it where the clones went on so far', async () => {
    await makeAnew(() => {});
    commitMany(sides.far, count);
    await expectMerged();
  });
});

/** Every difference waits for the person, and nothing of theirs moved. */
const expectAllInConflict = async (link?: Far): Promise<void> => {
  zoneCommits();
  put(other, 'kept.txt', 'mine\n');
  const before = contentsOf(other);
  const { conflicts, done } = await pullNow(link);
  expect(done).toEqual([]);
  expect(pathsInConflict(conflicts)).toEqual(['kept.txt', 'long.txt', 'more.txt', 'old.txt']);
  expect(contentsOf(other)).toEqual(before);
};

describe('without a common commit', () => {
  it('leaves every difference to the person', async () => {
    const strange = makeRepo(sides.dir, 'strange');
    put(strange, 'kept.txt', 'of another history\n');
    gitIn(strange, 'commit', '-q', '--amend', '-am', 'not the same');
    const { conflicts, done } = stepped(await pull(placeAt(strange), sides.link, freely));
    expect(done).toEqual([]);
    expect(pathsInConflict(conflicts)).toEqual(['kept.txt', 'long.txt', 'old.txt']);
  });

  it('believes no zone that names a commit which is none of ours', async () => {
    const stray = gitIn(other, 'commit-tree', '-m', 'stray', 'HEAD^{tree}').trim();
    await expectAllInConflict({ ...sides.link, common: () => Promise.resolve(stray) });
  });

  it('believes no zone that names what is not here', () =>
    expectAllInConflict({ ...sides.link, common: () => Promise.resolve('f'.repeat(40)) }));

  it('goes on where the server does not know the question', () =>
    expectAllInConflict({
      ...sides.link,
      common: () => Promise.reject(new KhloneError('unknown-method', 'no patch.common here')),
    }));

  it.each(['the zone can say it', 'git fetch brought its commits'])(
    'merges what waited for a ground as soon as there is one: %s',
    async (how) => {
      put(sides.far, 'both.txt', 'of the zone\n');
      put(other, 'both.txt', 'mine\n');
      const silent = { ...sides.link, common: () => Promise.resolve(undefined) };
      zoneCommits();
      put(other, 'kept.txt', 'mine\n');
      put(other, 'long.txt', lines({ 20: 'mine' }));
      expect(pathsInConflict((await pullNow(silent)).conflicts)).toHaveLength(5);
      expect(pathsInConflict((await syncNow(silent)).conflicts)).toHaveLength(5);
      const [fetched, asked] = [how.startsWith('git'), how.startsWith('the')];
      if (fetched) gitIn(other, 'fetch', '-q', sides.far, 'main:refs/remotes/origin/zone');
      const { conflicts } = await pullNow(asked ? sides.link : silent);
      expect(pathsInConflict(conflicts)).toEqual(['both.txt']);
      expect(text(other, 'long.txt')).toBe(lines({ 3: 'the zone', 20: 'mine' }));
      expect(existsSync(join(other, 'old.txt'))).toBe(false);
      expect((await syncNow(silent)).done.sort()).toEqual(['kept.txt', 'long.txt']);
      expect(text(sides.far, 'kept.txt')).toBe('mine\n');
      expect([text(other, 'both.txt'), text(sides.far, 'both.txt')]).toEqual(['mine\n', 'of the zone\n']);
    },
  );

  it('ends, with nothing moved, where the link breaks at the question', async () => {
    zoneCommits();
    const broken = { ...sides.link, common: () => Promise.reject(new KhloneError('unreachable', 'gone')) };
    const before = contentsOf(other);
    await expect(pullNow(broken)).rejects.toThrow('gone');
    expect(contentsOf(other)).toEqual(before);
    expect((await pullNow()).conflicts).toEqual([]);
  });
});
