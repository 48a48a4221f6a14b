import type { Stats } from 'node:fs';
import { lstat } from 'node:fs/promises';
import { KhloneError } from '../protocol/error.ts';
import { git, gitFailed } from './git.ts';
import { matcherOf } from './left-out.ts';
import { type Path, pathText, records, toBytes } from './listing.ts';
import type { Held } from './plan.ts';
import { MAX_LISTING_BYTES, type Shadow } from './shadow.ts';
import type { Change } from './tree.ts';

/**
 * Ignore rules that come from a zone must not widen what this worktree sends: a clone could empty .gitignore, and the
 * next sync would carry away what it covered. The same goes for what khlone.yml excludes.
 */

/** khlone's own rules (`sync.exclude`) lie in the root. */
const OUR_RULES: ReadonlySet<Path> = new Set(['khlone.yml', 'khlone.worksite.yml']);

const isRules = (path: Path): boolean =>
  OUR_RULES.has(path) || path === '.gitignore' || path.endsWith('/.gitignore');

/** Whether a step changes which files are ignored or excluded. */
export const changesIgnoreRules = (changes: readonly Change[]): boolean =>
  changes.some(({ path }) => isRules(path));

/** Questions to the disk at once. */
const AT_ONCE = 64;

/** What each path in the worktree is, or the code of why it cannot be told. */
const looks = async <T>(
  worktree: string,
  paths: readonly Path[],
  what: (facts: Stats) => T,
): Promise<Map<Path, T | string>> => {
  const found = new Map<Path, T | string>();
  const look = async (path: Path): Promise<void> => {
    const full = Buffer.concat([Buffer.from(`${worktree}/`), toBytes(path.replace(/\/+$/u, ''))]);
    const said = await lstat(full).then(what, ({ code }: NodeJS.ErrnoException) => code ?? 'unknown');
    found.set(path, said);
  };
  for (let at = 0; at < paths.length; at += AT_ONCE)
    await Promise.all(paths.slice(at, at + AT_ONCE).map(look));
  return found;
};

/** Paths at which nothing lies in the worktree. */
export const missingOf = async (worktree: string, paths: readonly Path[]): Promise<Set<Path>> => {
  const found = await looks(worktree, paths, () => 'there');
  return new Set(paths.filter((path) => ['ENOENT', 'ENOTDIR'].includes(found.get(path) ?? '')));
};

/** A folder is named beside what is in it where only its contents are ignored. */
const withoutParents = (paths: readonly Path[]): Path[] => {
  const parents = new Set<Path>();
  for (const path of paths) {
    for (let at = path.indexOf('/'); at >= 0; at = path.indexOf('/', at + 1)) {
      if (at + 1 < path.length) parents.add(path.slice(0, at + 1));
    }
  }
  return paths.filter((path) => !parents.has(path));
};

/**
 * Everything that is ignored in a worktree now and lies there: files, and whole folders with a "/" at their end. To
 * be asked BEFORE a step that changes ignore rules is applied, and to be kept as held until a person agrees; held
 * paths that stay ignored cost nothing. Throws `too-large` where there are more than a listing holds.
 */
export const ignoredNow = async (worktree: string, deadlineMs: number): Promise<Held[]> => {
  const args = ['ls-files', '-z', '--others', '--ignored', '--exclude-standard', '--directory'];
  const answer = await git(args, { cwd: worktree, deadlineMs, maxBytes: MAX_LISTING_BYTES });
  if (answer.code !== 0) throw gitFailed('git could not list what is ignored', answer.stderr);
  return withoutParents(records(answer.stdout)).map((path) => ({ path, why: 'was ignored until a pull' }));
};

/** The same for what `sync.exclude` covers: each file that lies in the worktree and would travel otherwise. */
export const excludedNow = async (
  worktree: string,
  exclude: readonly string[],
  deadlineMs: number,
): Promise<Held[]> => {
  if (exclude.length === 0) return [];
  const args = ['ls-files', '-z', '--cached', '--others', '--exclude-standard'];
  const answer = await git(args, { cwd: worktree, deadlineMs, maxBytes: MAX_LISTING_BYTES });
  if (answer.code !== 0) throw gitFailed('git could not list the files', answer.stderr);
  const isExcluded = matcherOf(exclude);
  return records(answer.stdout)
    .filter((path) => isExcluded(pathText(path)))
    .map((path) => ({ path, why: 'was excluded until a pull' }));
};

/**
 * The same for what is too large: of what HEAD does not have as it is here, which is all that the limit concerns. The
 * shadow is asked what that is, since in the worktree's own index a git would run filters for files that it is not sure
 * of.
 */
export const tooLargeNow = async (
  shadow: Shadow,
  maxFileBytes: number,
  deadlineMs: number,
): Promise<Held[]> => {
  const { worktree } = shadow;
  const options = { cwd: worktree, deadlineMs, maxBytes: MAX_LISTING_BYTES };
  const [others, head] = await Promise.all([
    git(['ls-files', '-z', '--others', '--exclude-standard'], options),
    git(['rev-parse', '--verify', '--quiet', 'HEAD^{commit}'], options),
  ]);
  if (others.code !== 0) throw gitFailed('git could not list the files', others.stderr);
  // Without a commit all that is known is new.
  const more = await (head.code === 0
    ? shadow.run(['diff-index', '-z', '--name-only', head.stdout.toString('utf8').trim(), '--'])
    : git(['ls-files', '-z', '--cached'], options));
  if (more.code !== 0) throw gitFailed('git could not compare the files with HEAD', more.stderr);
  const paths = [...new Set([...records(others.stdout), ...records(more.stdout)])];
  const sizes = await looks(worktree, paths, (facts) => (facts.isFile() ? facts.size : 0));
  return paths
    .filter((path) => Number(sizes.get(path)) > maxFileBytes)
    .map((path) => ({ path, why: 'was larger than max_file until a pull' }));
};

/**
 * Held until a person names it, though it may be gone: `goneMs` says since when, in ms since the epoch. `but`: what a
 * person named of a folder.
 */
export type HeldOnce = Held & { goneMs?: number | undefined; but?: Path[] | undefined };

/** A file that is made anew this long after it was found gone is a new file to everybody. */
export const GONE_MS = 30 * 24 * 3600_000;
/** Paths of files that are gone, the last ones: a build makes and removes as many as it likes. */
export const MAX_GONE = 10_000;
/** Paths that are held in all; each takes some hundred bytes of state.json. */
export const MAX_HELD_ONCE = 200_000;
/**
 * What is held from now on: what was, and what is covered now. A file that is gone stays held for a while, since one
 * that a program makes anew each time would be free whenever rules change between. Throws `too-large`.
 */
export const heldOnce = (
  known: readonly HeldOnce[],
  now: readonly Held[],
  missing: ReadonlySet<Path>,
  nowMs: number,
): HeldOnce[] => {
  const fresh = new Set(now.map(({ path }) => path));
  const earlier = known.filter(({ path }) => !fresh.has(path));
  const there = earlier.filter(({ path }) => !missing.has(path)).map(({ goneMs: _, ...one }) => one);
  const gone = earlier
    .filter(({ path }) => missing.has(path))
    .map(({ goneMs = nowMs, ...one }) => ({ ...one, goneMs: Math.min(goneMs, nowMs) }))
    .filter(({ goneMs }) => nowMs - goneMs <= GONE_MS)
    .sort((one, other) => one.goneMs - other.goneMs)
    .slice(-MAX_GONE);
  const held = [...there, ...gone, ...now];
  if (held.length <= MAX_HELD_ONCE) return held;
  throw new KhloneError(
    'too-large',
    `${held.length} ignored files lie here, and a pull changes what is ignored`,
    'move them into a folder that is ignored as a whole, then pull',
  );
};
