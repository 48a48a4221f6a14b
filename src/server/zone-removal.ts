import { randomBytes } from 'node:crypto';
import { createWriteStream } from 'node:fs';
import { chmod, lstat, mkdir, open, readdir, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { git, gitFailed, gitStream } from '../patch/git.ts';
import { type MadeBy, readMadeBy } from '../patch/made-by.ts';
import { openShadow, type Shadow } from '../patch/shadow.ts';
import { repositoryAt, wholeSnapshot } from '../patch/unpack.ts';
import { KhloneError } from '../protocol/error.ts';
import { recoveryDir } from '../protocol/leave.ts';
import type { ZoneRow } from './store/zones.ts';

/** Removing a zone removes only what khlone made: never the person's own worktree, and no work without a saved copy. */

const GIT_DEADLINE_MS = 15 * 60_000;
const MAX_LIST_BYTES = 64 * 1024 * 1024;

/** Where snapshots of a zone are made: not in its worktree, since clones could name programs in there. */
export const zoneShadowDir = (zonesDir: string, zone: string): string => join(zonesDir, zone, 'shadow.git');

/** What is in a zone that did not come from the person. `nested`: repositories inside, which no patch can hold. */
type Work = { tree: string; files: number; commits: number; nested: number };
type Place = { zone: ZoneRow; mark: MadeBy; shadow: Shadow };

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

const isFilled = (path: string): Promise<boolean> =>
  readdir(path).then(
    (names) => names.length > 0,
    () => false,
  );

const workIn = async ({ zone: { path }, mark, shadow }: Place): Promise<Work> => {
  const { tree, leftOut } = await wholeSnapshot(path, shadow.dir);
  const filled = await Promise.all(leftOut.map((left) => isFilled(join(path, left.path))));
  const nested = filled.filter(Boolean).length;
  const commits = (await lines(path, ['rev-list', ...(await sinceCarried(path, mark)), '--'])).length;
  if (tree === mark.tree) return { tree, files: 0, commits, nested };
  const names = await shadow.run([
    'diff-tree',
    '-r',
    '-z',
    '--name-only',
    '--no-renames',
    mark.tree,
    tree,
    '--',
  ]);
  if (names.code !== 0) throw gitFailed('git could not compare the zone', names.stderr);
  return { tree, files: names.stdout.toString('latin1').split('\0').length - 1, commits, nested };
};

const counted = (count: number, one: string, many = `${one}s`): string[] =>
  count === 0 ? [] : [`${count} ${count === 1 ? one : many}`];

const refusal = (zone: ZoneRow, { files, commits, nested }: Work): KhloneError => {
  const what = [
    ...counted(files, 'changed file'),
    ...counted(commits, 'commit'),
    ...counted(nested, 'repository inside', 'repositories inside'),
  ];
  return new KhloneError(
    'conflict',
    `${zone.address} holds work that is only there: ${what.join(' and ')}`,
    'khlone pull first, or khlone zone del --force, which saves a recovery patch',
  );
};

const PATCH = ['diff-tree', '-p', '--binary', '--full-index', '--no-ext-diff', '--no-textconv'];

/** Writes a patch durably, and only for its owner. */
const savePatch = async ({ zone, mark, shadow }: Place, tree: string, to: string): Promise<void> => {
  const patch = gitStream([...shadow.config, ...PATCH, mark.tree, tree, '--'], {
    cwd: zone.path,
    env: shadow.env(),
    deadlineMs: GIT_DEADLINE_MS,
  });
  await pipeline(patch, createWriteStream(to, { mode: 0o600, flags: 'wx', flush: true }));
};

const saveBundle = async ({ zone, mark }: Place, to: string): Promise<void> => {
  await lines(zone.path, ['bundle', 'create', '--quiet', to, ...(await sinceCarried(zone.path, mark))]);
  await chmod(to, 0o600);
  const file = await open(to, 'r');
  await file.sync().finally(() => file.close());
};

/** Saves the zone's files as a patch and its commits as a bundle of the same name; the path of the first of them. */
const save = async (serverDir: string, place: Place, work: Work): Promise<string> => {
  const folder = recoveryDir(serverDir);
  await mkdir(folder, { recursive: true, mode: 0o700 });
  const base = join(folder, `${place.zone.id}-${stamp()}`);
  if (work.commits > 0) await saveBundle(place, `${base}.bundle`);
  if (work.files === 0) return `${base}.bundle`;
  await savePatch(place, work.tree, `${base}.patch`);
  return `${base}.patch`;
};

/** The time, and letters that keep two of one second apart. */
const stamp = (): string =>
  `${new Date().toISOString().replace(/[-:]|\.\d+/gu, '')}-${randomBytes(2).toString('hex')}`;

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

/** A repository inside may hold commits, stashes and ignored files of its own: the whole folder is kept. */
const setAside = async (path: string): Promise<string> => {
  const kept = `${path}.khlone-kept-${stamp()}`;
  await rename(path, kept);
  return kept;
};

/**
 * Removes the worktree of a zone if khlone made it, and answers with the path of what was saved: a recovery patch, a
 * bundle where there are only commits, or the folder under another name where repositories lie inside it. Throws
 * `conflict` while it holds work that was not carried there, unless `force`; with `force` the work is saved first, and
 * where it cannot be saved nothing is removed.
 */
export const removeZone =
  (serverDir: string) =>
  async (zone: ZoneRow, force: boolean): Promise<string | undefined> => {
    // A symbolic link at the path is somebody else's doing: neither it nor its target is ours to remove.
    const facts = await lstat(zone.path).catch(() => undefined);
    if (!facts?.isDirectory()) return undefined;
    const mark = await readMadeBy(zone.path);
    if (mark?.zone !== zone.id) return undefined;
    const shadowDir = zoneShadowDir(join(serverDir, 'zones'), zone.id);
    const shadow = await openShadow(repositoryAt(zone.path), shadowDir, GIT_DEADLINE_MS);
    const place: Place = { zone, mark, shadow };
    const work = await workIn(place);
    const isClean = work.files + work.commits + work.nested === 0;
    if (!isClean && !force) throw refusal(zone, work);
    const kept =
      work.nested > 0 ? await setAside(zone.path) : isClean ? undefined : await save(serverDir, place, work);
    if (work.nested === 0) await removeFolder(zone.path);
    await rm(shadowDir, { recursive: true, force: true });
    return kept;
  };
