import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, lstatSync, readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { join } from 'node:path';
import { expect } from 'vitest';
import { readState } from '../../../src/client/patches/state.ts';
import { gitIn, ZONE } from '../../patch/ground.ts';
import { filesIn } from './random-edits.ts';

/** What an exchange may never do, as checks of the disk before and after it. */

/** A worktree with the places where khlone keeps what belongs to it. */
export type Side = { root: string; shadow: string; displaced: string };

export const nearSide = (root: string): Side => ({
  root,
  shadow: join(root, '.git/khlone/shadow.git'),
  displaced: join(root, '.git/khlone/displaced'),
});

export const farSide = (root: string, zonesDir: string): Side => ({
  root,
  shadow: join(zonesDir, ZONE, 'shadow.git'),
  displaced: join(zonesDir, ZONE, 'patches/displaced'),
});

const blobId = (path: string): string => {
  const bytes = lstatSync(path).isSymbolicLink()
    ? readlinkSync(path, { encoding: 'buffer' })
    : readFileSync(path);
  return createHash('sha1').update(`blob ${bytes.length}\0`).update(bytes).digest('hex');
};

/** Each file with what it holds: its kind, whether it may be run, and its bytes. */
export const contentsOf = (root: string): Map<string, string> =>
  new Map(
    filesIn(root).map((path) => {
      const facts = lstatSync(join(root, path));
      const kind = facts.isSymbolicLink() ? 'link' : facts.mode & 0o100 ? 'run' : 'file';
      return [path, `${kind} ${blobId(join(root, path))}`];
    }),
  );

const everyFile = (dir: string): string[] =>
  existsSync(dir)
    ? readdirSync(dir, { recursive: true, withFileTypes: true })
        .filter((entry) => !entry.isDirectory())
        .map((entry) => join(entry.parentPath, entry.name))
    : [];

const pinnedBlobs = ({ root, shadow }: Side): Set<string> => {
  const said = execFileSync(
    'git',
    [`--git-dir=${shadow}`, 'rev-list', '--objects', '--all', '--no-object-names'],
    { cwd: root, encoding: 'utf8', maxBuffer: 1e9, stdio: ['ignore', 'pipe', 'ignore'] },
  );
  return new Set(said.split('\n'));
};

/** Index, HEAD, refs, configuration and hooks: what git holds of the person's. */
const gitFacts = (root: string): string[] => {
  const git = join(root, '.git');
  const names = ['index', 'HEAD', 'config', 'packed-refs', 'info/exclude', 'info/attributes', 'ORIG_HEAD'];
  const hooks = everyFile(join(git, 'hooks'));
  return [
    ...[...names.map((name) => join(git, name)), ...hooks].map((path) =>
      existsSync(path) ? `${path} ${blobId(path)}` : `${path} -`,
    ),
    ...readdirSync(git)
      .filter((name) => name !== 'khlone')
      .sort(),
    gitIn(root, 'for-each-ref'),
    existsSync(join(root, '..', 'hook-ran')) ? 'a hook ran' : 'no hook ran',
  ];
};

export type Contents = { contents: Map<string, string> };
export type Moment = Contents & { git: string[] };

export const momentOf = ({ root }: Side): Moment => ({ contents: contentsOf(root), git: gitFacts(root) });

/** Paths that are not as they were. */
export const changedPaths = (before: Contents, after: Contents): string[] =>
  [...new Set([...before.contents.keys(), ...after.contents.keys()])].filter(
    (path) => before.contents.get(path) !== after.contents.get(path),
  );

const idsIn = ({ contents }: Contents): string[] =>
  [...contents.values()].map((content) => content.split(' ')[1] ?? '');

/**
 * Every byte sequence that was there before is there now, among the displaced files, or in a pinned state. `owed` is
 * what earlier steps displaced: it has to be found for as long as it is kept.
 */
export const expectNothingLost = (
  side: Side,
  before: Contents,
  after: Contents,
  owed: Set<string> = new Set(),
): void => {
  const now = new Set(idsIn(after));
  for (const id of idsIn(before)) if (!now.has(id)) owed.add(id);
  if (owed.size === 0) return;
  const kept = new Set([...everyFile(side.displaced).map(blobId), ...now]);
  const lost = [...owed].filter((id) => !kept.has(id));
  if (lost.length === 0) return;
  const pins = pinnedBlobs(side);
  const gone = lost.filter((id) => !pins.has(id));
  expect([...before.contents].filter(([, content]) => gone.includes(content.split(' ')[1] ?? ''))).toEqual(
    [],
  );
  expect(gone).toEqual([]);
};

/** Git's own files of a worktree are as they were. */
export const expectGitUntouched = (before: Moment, after: Moment): void =>
  expect(after.git).toEqual(before.git);

/** The trees that a worktree's state names are whole in its own store. */
export const expectStateWhole = async (side: Side): Promise<void> => {
  const { base, remote, pending } = await readState(join(side.root, '.git'), ZONE);
  const trees = [base, remote, pending?.base, pending?.local, pending?.remote].filter(
    (tree) => tree !== undefined,
  );
  if (trees.length === 0) return;
  const args = [`--git-dir=${side.shadow}`, 'rev-list', '--objects', '--quiet', ...trees, '--'];
  expect(() => execFileSync('git', args, { cwd: side.root, stdio: 'ignore' })).not.toThrow();
};
