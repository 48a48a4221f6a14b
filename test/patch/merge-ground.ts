import { execFileSync, spawnSync } from 'node:child_process';
import { mkdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import type { Path } from '../../src/patch/listing.ts';
import { openShadow, type Shadow } from '../../src/patch/shadow.ts';
import { emptyTree, listTree, treeWith } from '../../src/patch/tree.ts';
import { gitIn, makeGround } from './ground.ts';

/** Trees for tests of merges, made from what they hold; and git's own merge of them, to be compared with. */

/** Content with an optional mode: `x` is executable, `l` a link. A path has one character per byte. */
export type Files = Readonly<Record<Path, string | { mode: '100755' | '120000'; text: string }>>;

export const lines = (from: number, to: number, change: Record<number, string> = {}): string =>
  Array.from({ length: to - from + 1 }, (_, i) => `${change[from + i] ?? `line ${from + i}`}\n`).join('');

export const makeMergeGround = async (format: 'sha1' | 'sha256' = 'sha1') => {
  const ground = makeGround();
  const worktree = join(ground.dir, 'repo');
  mkdirSync(worktree);
  gitIn(worktree, 'init', '-q', '-b', 'main', `--object-format=${format}`);
  const gitDir = join(worktree, '.git');
  const shadow = await openShadow(
    { worktree, gitDir, commonDir: gitDir },
    join(ground.dir, 'shadow.git'),
    30_000,
  );
  const empty = await emptyTree(shadow);
  const blob = async (text: string): Promise<string> => {
    const said = await shadow.run(['hash-object', '-w', '--stdin'], { input: Buffer.from(text, 'latin1') });
    return said.stdout.toString('utf8').trim();
  };
  const tree = async (files: Files): Promise<string> => {
    const wishes = Object.entries(files).map(async ([path, file]) => ({
      path,
      after:
        typeof file === 'string'
          ? { mode: '100644', oid: await blob(file) }
          : { mode: file.mode, oid: await blob(file.text) },
    }));
    return treeWith(shadow, empty, await Promise.all(wishes));
  };
  return { ...ground, worktree, shadow, empty, blob, tree };
};

export const textAt = async (shadow: Shadow, tree: string, path: Path): Promise<string | undefined> => {
  const entry = (await listTree(shadow, tree)).get(path);
  if (entry === undefined) return undefined;
  return (await shadow.run(['cat-file', 'blob', entry.oid])).stdout.toString('latin1');
};

/** `git merge` in a worktree of its own, on the default strategy: the tree where it is clean, else the unmerged paths. */
export const gitMerge = (
  dir: string,
  shadow: Shadow,
  trees: { base: string; local: string; remote: string },
): { tree?: string; unmerged: Path[]; index: Map<Path, string> } => {
  const root = join(dir, `merge-${Math.random().toString(36).slice(2)}`);
  const env = {
    PATH: process.env.PATH ?? '',
    HOME: '/nonexistent',
    GIT_CONFIG_NOSYSTEM: '1',
    GIT_ALTERNATE_OBJECT_DIRECTORIES: join(shadow.dir, 'objects'),
    GIT_AUTHOR_NAME: 'a',
    GIT_AUTHOR_EMAIL: 'a@example.org',
    GIT_COMMITTER_NAME: 'c',
    GIT_COMMITTER_EMAIL: 'c@example.org',
  };
  const run = (...args: string[]): string =>
    execFileSync('git', args, { cwd: root, env, encoding: 'latin1', stdio: ['ignore', 'pipe', 'ignore'] });
  mkdirSync(root);
  try {
    run('init', '-q', '.', `--object-format=${trees.base.length === 64 ? 'sha256' : 'sha1'}`);
    const base = run('commit-tree', trees.base, '-m', 'base').trim();
    const local = run('commit-tree', trees.local, '-p', base, '-m', 'local').trim();
    const remote = run('commit-tree', trees.remote, '-p', base, '-m', 'remote').trim();
    run('checkout', '-q', '--detach', local);
    const words = ['merge', '-q', '--no-edit', '--no-ff', remote];
    const { status } = spawnSync('git', words, { cwd: root, env, stdio: 'ignore' });
    const staged = run('ls-files', '-s', '-z').split('\0').filter(Boolean);
    const index = new Map<Path, string>();
    const unmerged = new Set<Path>();
    for (const line of staged) {
      const [facts = '', path = ''] = [line.slice(0, line.indexOf('\t')), line.slice(line.indexOf('\t') + 1)];
      const [mode, oid, stage] = facts.split(' ');
      if (stage === '0') index.set(path, `${mode} ${oid}`);
      else unmerged.add(path);
    }
    return {
      ...(status === 0 && { tree: run('rev-parse', 'HEAD^{tree}').trim() }),
      unmerged: [...unmerged].sort(),
      index,
    };
  } finally {
    rmSync(root, { recursive: true, force: true });
  }
};
