import { git, gitFailed } from './git.ts';
import { matcherOf } from './left-out.ts';
import { type Path, pathText, records } from './listing.ts';
import type { Held } from './plan.ts';
import { MAX_LISTING_BYTES } from './shadow.ts';
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
