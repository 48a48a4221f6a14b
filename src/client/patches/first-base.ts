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

/** The latest commits, beyond them as many at equal distances as a question holds, and the first of all. */
export const sampled = (commits: readonly string[], max = MAX_COMMON): string[] => {
  const rest = commits.slice(ALL_OF);
  const step = Math.max(1, Math.ceil(rest.length / (max - ALL_OF - 1)));
  return [
    ...commits.slice(0, ALL_OF),
    ...rest.filter((_, n) => n % step === step - 1 || n === rest.length - 1),
  ];
};

type Where = Pick<Repository, 'worktree'>;

const ask = async ({ worktree }: Where, args: readonly string[]): Promise<string | undefined> => {
  const options = { cwd: worktree, deadlineMs: QUESTION_DEADLINE_MS, maxBytes: MAX_ANSWER_BYTES };
  const { code, stdout } = await git(args, options);
  return code === 0 ? stdout.toString('utf8').trim() : undefined;
};

const namedBy = (far: Far, ids: readonly string[]): Promise<string | undefined> =>
  far.common([...ids]).catch((thrown: unknown) => {
    // A server of an earlier build.
    if (asKhloneError(thrown).code === 'unknown-method') return undefined;
    throw thrown;
  });

const isAfter = async (repository: Where, commit: string, other: string): Promise<boolean> =>
  commit !== other && (await ask(repository, ['merge-base', '--is-ancestor', other, commit])) !== undefined;

/** Questions of `MAX_COMMON` ids at most: a straight line needs two, and one to be told that there is no better. */
const MAX_ROUNDS = 5;

/** The latest commits that are reached from some names and not from others, the latest first. */
const listed = async (repository: Where, names: readonly string[]): Promise<string[]> =>
  (await ask(repository, ['rev-list', `--max-count=${MAX_COMMITS}`, ...names, '--']))
    ?.split('\n')
    .filter(Boolean) ?? [];

/**
 * The commit of this worktree's that the zone names, and no other: a zone could name any. First it is found roughly
 * among all, then ever closer among those that come after it; a branch that was fetched tells of it, too.
 */
const commonByFar = async (repository: Where, far: Far): Promise<string | undefined> => {
  const asked = new Set<string>();
  const oneOf = async (ids: readonly string[]): Promise<string | undefined> => {
    for (const id of ids) asked.add(id);
    const named = ids.length > 0 ? await namedBy(far, ids) : undefined;
    return named && ask(repository, ['merge-base', 'HEAD', named]);
  };
  let found = await oneOf(sampled(await listed(repository, ['HEAD'])));
  found ??= await oneOf(sampled(await listed(repository, ['--branches', '--remotes', '--not', 'HEAD'])));
  for (let round = 2; found !== undefined && round < MAX_ROUNDS; round += 1) {
    const after = (await listed(repository, ['HEAD', `^${found}`])).filter((id) => !asked.has(id));
    const closer = await oneOf(after.slice(-MAX_COMMON));
    if (closer === undefined || !(await isAfter(repository, closer, found))) break;
    found = closer;
  }
  return found;
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
