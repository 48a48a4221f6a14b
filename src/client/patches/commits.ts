import { createWriteStream } from 'node:fs';
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { proveBundle } from '../../patch/bundle-proof.ts';
import { type GitResult, git, gitFailed } from '../../patch/git.ts';
import { operationHalts } from '../../patch/halt.ts';
import { type Repository, SAFE_NAMES } from '../../patch/shadow.ts';
import { STRICT_FETCH } from '../../patch/strictness.ts';
import { KhloneError } from '../../protocol/error.ts';
import { oneLine } from '../../protocol/sanitize.ts';
import type { Far } from './far.ts';
import { inTurn } from './lock.ts';
import { payloadIn } from './meet.ts';
import type { PatchZone } from './zone.ts';

/**
 * Commits that clones made arrive as `git fetch` would bring them: under refs/remotes/khlone. The person's branch moves
 * only when they ask for it, and only forward.
 */

const DEADLINE_MS = 15 * 60_000;
const MAX_ANSWER_BYTES = 1024 * 1024;
/** Tips that are told to the zone, the latest first: more of them would only save bytes. */
const MAX_TIPS = 256;
const MAX_BUNDLE_BYTES = 8 * 2 ** 30;

const ask = (
  { worktree }: Repository,
  args: readonly string[],
  env?: Record<string, string>,
): Promise<GitResult> =>
  git(args, { cwd: worktree, deadlineMs: DEADLINE_MS, maxBytes: MAX_ANSWER_BYTES, ...(env && { env }) });

const text = ({ stdout }: GitResult): string => stdout.toString('utf8').trim();

const tipsOf = async (repository: Repository): Promise<string[]> => {
  const format = ['--format=%(objectname)', '--sort=-committerdate', `--count=${MAX_TIPS}`];
  const [head, refs] = await Promise.all([
    ask(repository, ['rev-parse', '--verify', '--quiet', 'HEAD^{commit}']),
    ask(repository, ['for-each-ref', ...format, 'refs/heads', 'refs/remotes']),
  ]);
  return [...new Set([text(head), ...text(refs).split('\n')])].filter(Boolean).slice(0, MAX_TIPS);
};

/** `khlone/<host>/<branch>` below refs/remotes. Throws `conflict` for a branch that is no name for a ref. */
const refFor = async (repository: Repository, host: string, branch: string | undefined): Promise<string> => {
  const place = host.replace(/[^A-Za-z0-9._-]+/gu, '-').replace(/^[.-]+|(?:\.lock)?[.-]*$/gu, '') || 'zone';
  const ref = `refs/remotes/khlone/${place}/${branch ?? 'HEAD'}`;
  const checked = await ask(repository, ['check-ref-format', ref]);
  if (checked.code === 0) return ref;
  throw new KhloneError(
    'conflict',
    `the zone's branch ${oneLine(branch ?? '', 100)} is no name for a ref here`,
  );
};

async function* bounded(body: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
  let bytes = 0;
  for await (const piece of body) {
    bytes += piece.length;
    if (bytes > MAX_BUNDLE_BYTES) throw new KhloneError('too-large', 'the zone sends too many commits');
    yield piece;
  }
}

const FETCH = [
  ...STRICT_FETCH,
  ...['-c', 'gc.auto=0'],
  ...SAFE_NAMES,
  ...['fetch', '--quiet', '--no-tags', '--no-prune', '--no-write-fetch-head'],
  ...['--no-recurse-submodules', '--no-auto-maintenance'],
];

/** The files of a pull are here by now, so this is told behind them: `conflict`, as all that a person may mend. */
const notTaken = (what: string, stderr: string): KhloneError => {
  const { code, message, hint } = gitFailed(what, stderr);
  if (code === 'disk-low') return new KhloneError(code, message, hint);
  return new KhloneError(
    'conflict',
    message,
    'git for-each-ref refs/remotes/khlone shows what may be in the way; git update-ref -d removes one',
  );
};

const fetchBundle = async (
  repository: Repository,
  body: AsyncIterable<Uint8Array>,
  ref: string,
): Promise<void> => {
  const file = payloadIn(join(repository.gitDir, 'khlone'));
  try {
    await pipeline(Readable.from(bounded(body)), createWriteStream(file, { mode: 0o600 }));
    // A zone's history is no more trusted than any other remote's.
    await proveBundle(repository, file);
    // The file is ours, and nothing else may be reached.
    const said = await ask(repository, [...FETCH, file, `+HEAD:${ref}`], { GIT_ALLOW_PROTOCOL: 'file' });
    if (said.code !== 0) throw notTaken('git refused the commits of the zone', said.stderr);
  } finally {
    await rm(file, { force: true });
  }
};

/** How many commits of `ref` the branch lacks, in a line for people. */
const tellNew = async (repository: Repository, ref: string): Promise<string[]> => {
  const said = await ask(repository, ['rev-list', '--count', ref, '--not', 'HEAD', '--']);
  const count = Number(text(said));
  if (said.code !== 0 || !(count > 0)) return [];
  return [
    `${count} ${count === 1 ? 'commit' : 'commits'} in ${oneLine(ref.slice('refs/remotes/'.length), 200)}`,
  ];
};

/** Moves the branch forward to the zone's commits; the files are here already, and the index follows. */
const forward = async (repository: Repository, ref: string): Promise<string[]> => {
  const [halted] = await operationHalts(repository.gitDir);
  if (halted) throw new KhloneError('conflict', `the branch stays: ${halted.message}`, 'finish that first');
  const [staged, ahead, behind, head, target] = await Promise.all([
    ask(repository, ['diff', '--cached', '--quiet', '--no-ext-diff']),
    ask(repository, ['merge-base', '--is-ancestor', 'HEAD', ref]),
    ask(repository, ['merge-base', '--is-ancestor', ref, 'HEAD']),
    ask(repository, ['rev-parse', '--verify', '--quiet', 'HEAD^{commit}']),
    ask(repository, ['rev-parse', '--verify', '--quiet', `${ref}^{commit}`]),
  ]);
  if (text(head) === text(target) || behind.code === 0) return [];
  if (staged.code !== 0)
    throw new KhloneError(
      'conflict',
      'the branch stays: something is staged',
      'git commit or git restore --staged . first',
    );
  if (ahead.code !== 0)
    throw new KhloneError(
      'conflict',
      'the branch stays: it has commits that the zone has not',
      `git merge or git rebase onto ${ref.slice('refs/remotes/'.length)}`,
    );
  const moved = await ask(repository, ['reset', '--quiet', '--mixed', ref], {
    GIT_REFLOG_ACTION: 'khlone pull --commits',
  });
  if (moved.code !== 0) throw gitFailed('git could not move the branch', moved.stderr);
  return [`the branch is at ${text(target).slice(0, 10)} now`];
};

/** Fetches the zone's commits and says what is new, in lines for people. */
export const pullCommits = (
  { binding, place }: PatchZone,
  far: Far,
  wish: { forward: boolean },
): Promise<string[]> =>
  inTurn(place.repository.gitDir, async () => {
    const { repository } = place;
    const { answer, body } = await far.commits(await tipsOf(repository));
    if (answer.head === undefined) return [];
    const ref = await refFor(repository, binding.host, answer.branch);
    if (body) await fetchBundle(repository, body, ref);
    const here = await ask(repository, ['rev-parse', '--verify', '--quiet', `${ref}^{commit}`]);
    if (text(here) !== answer.head) {
      // Nothing came, so the commit is one of those that this worktree had.
      const set = await ask(repository, ['update-ref', ref, answer.head]);
      if (set.code !== 0) throw notTaken('git could not note the commit of the zone', set.stderr);
    }
    const news = text(here) !== answer.head || body ? await tellNew(repository, ref) : [];
    return wish.forward ? [...news, ...(await forward(repository, ref))] : news;
  });
