import { git } from '../../patch/git.ts';
import type { Repository } from '../../patch/shadow.ts';
import { asKhloneError } from '../../protocol/error.ts';
import { MAX_COMMON } from '../../protocol/patch.ts';
import type { Far } from './far.ts';

/** What two worktrees had before they ever met: the tree of the commit that both come from. */

const QUESTION_DEADLINE_MS = 30_000;
/** Commits that are looked through for some to name. */
const MAX_COMMITS = 20_000;
const MAX_ANSWER_BYTES = 2 * 1024 * 1024;
/** So many of the latest are all named; of those before them, each one of a row. */
const ALL_OF = 500;

/** The latest commits, and beyond them as many at equal distances as a question holds. */
export const sampled = (commits: readonly string[], max = MAX_COMMON): string[] => {
  const rest = commits.slice(ALL_OF);
  const step = Math.max(1, Math.ceil(rest.length / (max - ALL_OF)));
  return [...commits.slice(0, ALL_OF), ...rest.filter((_, n) => n % step === step - 1)];
};

const ask = async (
  { worktree }: Pick<Repository, 'worktree'>,
  args: readonly string[],
): Promise<string | undefined> => {
  const options = { cwd: worktree, deadlineMs: QUESTION_DEADLINE_MS, maxBytes: MAX_ANSWER_BYTES };
  const { code, stdout } = await git(args, options);
  return code === 0 ? stdout.toString('utf8').trim() : undefined;
};

/** The commit that the zone names of this worktree's, and no other: a zone could name any. */
const commonByFar = async (repository: Repository, far: Far): Promise<string | undefined> => {
  const listed = await ask(repository, ['rev-list', `--max-count=${MAX_COMMITS}`, 'HEAD', '--']);
  if (!listed) return undefined;
  const common = await far.common(sampled(listed.split('\n'))).catch((thrown: unknown) => {
    // A server of an earlier build.
    if (asKhloneError(thrown).code === 'unknown-method') return undefined;
    throw thrown;
  });
  if (common === undefined) return undefined;
  const isOurs = await ask(repository, ['merge-base', '--is-ancestor', common, 'HEAD']);
  return isOurs === undefined ? undefined : common;
};

/**
 * The tree that both sides come from, as far as commits tell. The zone is asked (`far`) where its commit is not here;
 * no commit travels for it. Undefined where they share none: then what differs is for the person to decide.
 */
export const firstBase = async (
  repository: Repository,
  far: Far | undefined,
  head: string | undefined,
): Promise<string | undefined> => {
  if (head === undefined) return undefined;
  const common =
    (await ask(repository, ['merge-base', 'HEAD', head])) ?? (far && (await commonByFar(repository, far)));
  return common && ask(repository, ['rev-parse', '--verify', '--quiet', `${common}^{tree}`]);
};
