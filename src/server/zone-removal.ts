import { randomBytes } from 'node:crypto';
import { createWriteStream } from 'node:fs';
import { chmod, lstat, mkdir, open, readdir, rename, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { git, gitFailed, gitStream } from '../patch/git.ts';
import { type MadeBy, readMadeBy } from '../patch/made-by.ts';
import { openShadow, type Repository, shadowDirOf } from '../patch/shadow.ts';
import { wholeTree } from '../patch/unpack.ts';
import { KhloneError } from '../protocol/error.ts';
import type { ZoneRow } from './store/zones.ts';

/** Removing a zone removes only what khlone made: never the person's own worktree, and no work without a saved copy. */

const GIT_DEADLINE_MS = 15 * 60_000;
const MAX_LIST_BYTES = 64 * 1024 * 1024;

const repositoryAt = (path: string): Repository => {
  const gitDir = join(path, '.git');
  return { worktree: path, gitDir, commonDir: gitDir };
};

type Work = { tree: string; files: number; commits: number };

const lines = async (path: string, args: readonly string[]): Promise<string[]> => {
  const answer = await git(args, { cwd: path, deadlineMs: GIT_DEADLINE_MS, maxBytes: MAX_LIST_BYTES });
  if (answer.code !== 0) throw gitFailed(`git ${args[0]} failed in the zone`, answer.stderr);
  return answer.stdout.toString('utf8').split('\n').filter(Boolean);
};

const hasHead = async (path: string): Promise<boolean> =>
  lines(path, ['rev-parse', '--verify', '--quiet', 'HEAD']).then(
    (found) => found.length > 0,
    () => false,
  );

/** Everything that a ref or HEAD (stashes included) reaches beyond what was carried. */
const sinceCarried = async (path: string, { head }: MadeBy): Promise<string[]> => [
  '--all',
  ...((await hasHead(path)) ? ['HEAD'] : []),
  ...(head ? ['--not', head] : []),
];

/** What is in the zone that did not come from the person. */
const workIn = async (path: string, mark: MadeBy): Promise<Work> => {
  const tree = await wholeTree(path);
  const commits = await lines(path, ['rev-list', ...(await sinceCarried(path, mark)), '--']);
  if (tree === mark.tree) return { tree, files: 0, commits: commits.length };
  const shadow = await openShadow(repositoryAt(path), shadowDirOf(join(path, '.git')), GIT_DEADLINE_MS);
  const args = ['diff-tree', '-r', '-z', '--name-only', '--no-renames', mark.tree, tree, '--'];
  const names = await shadow.run(args);
  if (names.code !== 0) throw gitFailed('git could not compare the zone', names.stderr);
  return { tree, files: names.stdout.toString('latin1').split('\0').length - 1, commits: commits.length };
};

const counted = (count: number, one: string): string => `${count} ${one}${count === 1 ? '' : 's'}`;

const refusal = (zone: ZoneRow, { files, commits }: Work): KhloneError => {
  const what = [
    ...(files > 0 ? [`${counted(files, 'changed file')}`] : []),
    ...(commits > 0 ? [`${counted(commits, 'commit')}`] : []),
  ];
  return new KhloneError(
    'conflict',
    `${zone.address} holds work that is only there: ${what.join(' and ')}`,
    'khlone zone del --force saves a recovery patch first',
  );
};

/** Writes a patch durably, and only for its owner. */
const savePatch = async (path: string, mark: MadeBy, tree: string, to: string): Promise<void> => {
  const shadow = await openShadow(repositoryAt(path), shadowDirOf(join(path, '.git')), GIT_DEADLINE_MS);
  const args = [
    'diff-tree',
    '-p',
    '--binary',
    '--full-index',
    '--no-ext-diff',
    '--no-textconv',
    mark.tree,
    tree,
  ];
  const patch = gitStream([...shadow.config, ...args, '--'], {
    cwd: path,
    env: shadow.env(),
    deadlineMs: GIT_DEADLINE_MS,
  });
  await pipeline(patch, createWriteStream(to, { mode: 0o600, flags: 'wx', flush: true }));
};

const saveBundle = async (path: string, mark: MadeBy, to: string): Promise<void> => {
  await lines(path, ['bundle', 'create', '--quiet', to, ...(await sinceCarried(path, mark))]);
  await chmod(to, 0o600);
  const file = await open(to, 'r');
  await file.sync().finally(() => file.close());
};

/** Saves the zone's work under the server's directory; the path of what was saved. */
const save = async (serverDir: string, zone: ZoneRow, mark: MadeBy, work: Work): Promise<string> => {
  const folder = join(serverDir, 'recovery');
  await mkdir(folder, { recursive: true, mode: 0o700 });
  const time = new Date().toISOString().replace(/[-:]|\.\d+/gu, '');
  const base = join(folder, `${zone.id}-${time}-${randomBytes(2).toString('hex')}`);
  const saved: string[] = [];
  if (work.commits > 0) {
    await saveBundle(zone.path, mark, `${base}.bundle`);
    saved.unshift(`${base}.bundle`);
  }
  if (work.files > 0) {
    await savePatch(zone.path, mark, work.tree, `${base}.patch`);
    saved.unshift(`${base}.patch`);
  }
  return saved[0] ?? base;
};

/** Folders without write permission (module caches) would keep their contents from being removed. */
const openFolders = async (folder: string): Promise<void> => {
  await chmod(folder, 0o700);
  for (const entry of await readdir(folder, { withFileTypes: true })) {
    if (entry.isDirectory()) await openFolders(join(folder, entry.name));
  }
};

/** Out of its place first, in one step: a removal that is interrupted leaves no half of a zone there. */
const removeFolder = async (path: string): Promise<void> => {
  const gone = `${path}.khlone-gone-${randomBytes(6).toString('hex')}`;
  await rename(path, gone);
  try {
    await rm(gone, { recursive: true, force: true });
  } catch {
    await openFolders(gone);
    await rm(gone, { recursive: true, force: true });
  }
};

/**
 * Removes the worktree of a zone if khlone made it, and answers with the path of the recovery patch or bundle if one
 * was saved. Throws `conflict` while it holds work that was not carried there, unless `force`; with `force` the work
 * is saved first, and where it cannot be saved nothing is removed.
 */
export const removeZone =
  (serverDir: string) =>
  async (zone: ZoneRow, force: boolean): Promise<string | undefined> => {
    if (zone.mode === 'local') return undefined;
    // A symbolic link at the path is somebody else's doing: neither it nor its target is ours to remove.
    const facts = await lstat(zone.path).catch(() => undefined);
    if (!facts?.isDirectory()) return undefined;
    const mark = await readMadeBy(zone.path);
    if (mark?.zone !== zone.id) return undefined;
    const work = await workIn(zone.path, mark);
    const isClean = work.files === 0 && work.commits === 0 && work.tree === mark.tree;
    if (!isClean && !force) throw refusal(zone, work);
    const kept = isClean ? undefined : await save(serverDir, zone, mark, work);
    if (kept !== undefined && (await stat(kept)).size === 0) {
      throw new KhloneError(
        'conflict',
        `the work of ${zone.address} could not be saved`,
        `look at ${zone.path}`,
      );
    }
    await removeFolder(zone.path);
    return kept;
  };
