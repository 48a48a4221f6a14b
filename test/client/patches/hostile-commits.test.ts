import { execFileSync } from 'node:child_process';
import { createReadStream, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { pullCommits } from '../../../src/client/patches/commits.ts';
import type { Far } from '../../../src/client/patches/far.ts';
import type { PatchZone } from '../../../src/client/patches/zone.ts';
import { commitAll, gitIn, put } from '../../patch/ground.ts';
import { makeTwoSides, type TwoSides } from './two-sides.ts';

/** A zone that answers with a history of its own making. */

let sides: TwoSides;
beforeEach(async () => {
  sides = await makeTwoSides();
});
afterEach(() => sides.remove());

const git = (input: string | undefined, ...args: string[]): string =>
  execFileSync('git', ['-C', sides.far, '-c', 'user.name=n', '-c', 'user.email=e@e', ...args], {
    ...(input !== undefined && { input }),
    encoding: 'utf8',
  }).trim();

const tree = (...entries: string[]): string =>
  git(entries.map((one) => `${one}\n`).join(''), 'mktree', '--missing');

const commitOf = (root: string): string => git(undefined, 'commit-tree', root, '-p', 'HEAD', '-m', 'mine');

/** A bundle of `commit` as its HEAD, as the bytes of a file. */
const bundleOf = (commit: string, more: string[] = []): string => {
  const file = join(sides.dir, 'hostile.bundle');
  git(undefined, 'update-ref', '--no-deref', 'HEAD', commit);
  git(undefined, 'bundle', 'create', '-q', '--version=3', file, ...more, 'HEAD', `^${commit}^`);
  return file;
};

const fetchFrom = (
  answer: Awaited<ReturnType<Far['commits']>>['answer'],
  file?: string,
): Promise<string[]> => {
  const zone = { binding: { host: 'devbox' }, place: sides.place } as PatchZone;
  const commits: Far['commits'] = async () => ({ answer, ...(file && { body: createReadStream(file) }) });
  return pullCommits(zone, { ...sides.link, commits }, { forward: false });
};

const refs = (): string =>
  gitIn(sides.near, 'for-each-ref', '--format=%(refname)', 'refs/remotes/khlone').trim();
const leftovers = (): string[] =>
  readdirSync(join(sides.near, '.git', 'khlone')).filter((name) => /^(payload|proof)-/.test(name));

describe('commits of a zone', () => {
  it('are taken in where they are honest', async () => {
    put(sides.far, 'made.txt', 'by a clone\n');
    commitAll(sides.far, 'work of a clone');
    const head = git(undefined, 'rev-parse', 'HEAD');
    await fetchFrom({ head, branch: 'main' }, bundleOf(head));
    expect(refs()).toBe('refs/remotes/khlone/devbox/main');
    expect(leftovers()).toEqual([]);
  });

  it('are refused where a tree holds a .git, whatever this git checks of bundles', async () => {
    const blob = git('#!/bin/sh\n', 'hash-object', '-w', '--stdin');
    const hooks = tree(`100755 blob ${blob}\tpost-checkout`);
    const head = commitOf(tree(`040000 tree ${tree(`040000 tree ${hooks}\thooks`)}\t.git`));
    await expect(fetchFrom({ head, branch: 'main' }, bundleOf(head))).rejects.toMatchObject({
      code: 'conflict',
      message: expect.stringContaining('refused'),
    });
    expect(refs()).toBe('');
    expect(() => gitIn(sides.near, 'cat-file', '-e', head)).toThrow();
    expect(leftovers()).toEqual([]);
  });

  it('are refused where objects are missing and a filter excuses it', async () => {
    const blob = git('much', 'hash-object', '-w', '--stdin');
    const head = commitOf(tree(`100644 blob ${blob}\tlarge`));
    const file = bundleOf(head, ['--filter=blob:none']);
    await expect(fetchFrom({ head, branch: 'main' }, file)).rejects.toMatchObject({ code: 'conflict' });
    expect(refs()).toBe('');
    expect(
      readdirSync(join(sides.near, '.git', 'objects', 'pack')).some((n) => n.endsWith('.promisor')),
    ).toBe(false);
  });

  it('cost no tag, even where the person has git prune tags', async () => {
    gitIn(sides.near, 'tag', 'mine');
    gitIn(sides.near, 'config', 'fetch.prune', 'true');
    gitIn(sides.near, 'config', 'fetch.pruneTags', 'true');
    put(sides.far, 'made.txt', 'by a clone\n');
    commitAll(sides.far, 'work of a clone');
    const head = git(undefined, 'rev-parse', 'HEAD');
    await fetchFrom({ head, branch: 'main' }, bundleOf(head));
    expect(gitIn(sides.near, 'tag').trim()).toBe('mine');
  });

  it('of a branch below the name of an earlier one are told as a conflict, with the way out', async () => {
    const first = git(undefined, 'rev-parse', 'HEAD');
    await fetchFrom({ head: first, branch: 'work' });
    await expect(fetchFrom({ head: first, branch: 'work/more' })).rejects.toMatchObject({
      code: 'conflict',
      hint: expect.stringContaining('update-ref -d'),
    });
  });
});
