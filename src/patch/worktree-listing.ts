import { git, gitFailed } from './git.ts';
import { isOurs } from './left-out.ts';
import { type Path, records, toBytes } from './listing.ts';
import { lstat } from './near-disk.ts';
import { MAX_LISTING_BYTES } from './shadow.ts';

/** What is in a worktree, as the user's own git and the file system tell it. Nothing is written, no program is run. */

type Place = { worktree: string; deadlineMs: number };

export const GITLINK = '160000';
const LSTATS_AT_ONCE = 64;

export type Tracked = { mode: string; oid: string /** Not checked out, on purpose. */; sparse: boolean };
export type Listing = { tracked: Map<Path, Tracked>; untracked: Set<Path>; nested: Path[] };

/** The user's git lists what is there, by its own index and ignore rules; listing starts no program of anybody. */
const listed = async (place: Place, args: readonly string[]): Promise<Buffer> => {
  const { worktree: cwd, deadlineMs } = place;
  const answer = await git(['ls-files', '-z', ...args], { cwd, deadlineMs, maxBytes: MAX_LISTING_BYTES });
  if (answer.code !== 0) throw gitFailed('git could not list the worktree', answer.stderr);
  return answer.stdout;
};

/** What git does not track, of which a nested repository is told as a folder. */
const othersOf = (paths: readonly Path[]): { untracked: Set<Path>; nested: Path[] } => {
  const untracked = new Set<Path>();
  const nested: Path[] = [];
  for (const path of paths) {
    if (isOurs(path.replace(/\/$/u, ''))) continue;
    if (path.endsWith('/')) nested.push(path.slice(0, -1));
    else untracked.add(path);
  }
  return { untracked, nested };
};

export const listOthers = async (place: Place): Promise<{ untracked: Set<Path>; nested: Path[] }> =>
  othersOf(records(await listed(place, ['--others', '--exclude-standard'])));

export const listWorktree = async (place: Place): Promise<Listing> => {
  const all = await listed(place, ['-t', '--stage', '--others', '--exclude-standard']);
  const tracked = new Map<Path, Tracked>();
  const others: Path[] = [];
  for (const line of records(all)) {
    // "H 100644 <id> 0\t<path>", a path in conflict once per stage; "? <path>" for what is not tracked.
    if (line.startsWith('? ')) {
      others.push(line.slice(2));
      continue;
    }
    const [tag, mode, oid] = line.split(' ', 3);
    const path = line.slice(line.indexOf('\t') + 1);
    if (mode && oid && !isOurs(path)) tracked.set(path, { mode, oid, sparse: tag === 'S' });
  }
  return { tracked, ...othersOf(others.filter((path) => !tracked.has(path))) };
};

/** Sizes by path, for what is there; a few at a time, so that a hub has other work done meanwhile. */
export const sizesOf = async (worktree: string, paths: readonly Path[]): Promise<Map<Path, number>> => {
  const root = Buffer.from(`${worktree}/`);
  const sizes = new Map<Path, number>();
  for (let at = 0; at < paths.length; at += LSTATS_AT_ONCE) {
    const some = paths.slice(at, at + LSTATS_AT_ONCE);
    const facts = await Promise.all(
      some.map((path) => lstat(Buffer.concat([root, toBytes(path)])).catch(() => undefined)),
    );
    for (const [i, path] of some.entries()) {
      const fact = facts[i];
      if (fact?.isFile() || fact?.isSymbolicLink()) sizes.set(path, fact.size);
    }
  }
  return sizes;
};

/** The paths among these that a filter driver makes. Attributes are read, the filter is not run. */
export const filteredOf = async (place: Place, paths: readonly Path[]): Promise<Set<Path>> => {
  if (paths.length === 0) return new Set();
  const { worktree: cwd, deadlineMs } = place;
  const input = toBytes(`${paths.join('\0')}\0`);
  const options = { cwd, deadlineMs, maxBytes: MAX_LISTING_BYTES, input };
  const answer = await git(['check-attr', '-z', '--stdin', 'filter'], options);
  if (answer.code !== 0) throw gitFailed('git could not read the attributes', answer.stderr);
  const words = records(answer.stdout);
  const found = new Set<Path>();
  for (let i = 0; i + 2 < words.length; i += 3) {
    const [path = '', , value = ''] = words.slice(i, i + 3);
    if (!['unspecified', 'unset', 'set', ''].includes(value)) found.add(path);
  }
  return found;
};
