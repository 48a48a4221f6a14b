import { git, gitFailed, gitStream } from '../patch/git.ts';
import { branchOf } from '../patch/head.ts';
import { readLineage } from '../patch/lineage.ts';
import { repositoryAt } from '../patch/unpack.ts';
import type { AnswerOf, Params } from '../protocol/calls.ts';
import type { PatchPlace } from './patch-ground.ts';
import { zoneShadowDir } from './zone-removal.ts';

/** The commits of a zone's branch: those that a person lacks, and the one that both come from. */

const GIT_DEADLINE_MS = 15 * 60_000;
const QUESTION_DEADLINE_MS = 30_000;
const MAX_ANSWER_BYTES = 1024 * 1024;

const hasCommits = async (cwd: string, ids: readonly string[]): Promise<string[]> => {
  if (ids.length === 0) return [];
  const said = await git(['cat-file', '--batch-check=%(objectname) %(objecttype)'], {
    ...{ cwd, deadlineMs: QUESTION_DEADLINE_MS, maxBytes: MAX_ANSWER_BYTES },
    input: `${ids.join('\n')}\n`,
  });
  return said.stdout
    .toString('utf8')
    .split('\n')
    .flatMap((line) => (line.endsWith(' commit') ? [line.split(' ')[0] ?? ''] : []));
};

export type Commits = { answer: AnswerOf<'patch.commits'>; body?: AsyncIterable<Uint8Array> };

/** The commits of the zone's HEAD that the person lacks, as a bundle. */
export const commits = async (
  { path: cwd }: PatchPlace,
  { have }: Params<'patch.commits'>,
): Promise<Commits> => {
  const options = { cwd, deadlineMs: GIT_DEADLINE_MS, maxBytes: MAX_ANSWER_BYTES };
  const asked = await git(['rev-parse', '--verify', '--quiet', 'HEAD^{commit}'], options);
  if (asked.code !== 0) return { answer: {} };
  const head = asked.stdout.toString('utf8').trim();
  const branch = await branchOf(repositoryAt(cwd));
  const answer = { head, ...(branch && { branch }) };
  const without = (await hasCommits(cwd, have)).map((id) => `^${id}`);
  const counted = await git(['rev-list', '--count', head, ...without, '--'], options);
  if (counted.code !== 0) throw gitFailed('git could not list the commits', counted.stderr);
  if (Number(counted.stdout.toString('utf8')) === 0) return { answer };
  const args = ['bundle', 'create', '--quiet', '-', 'HEAD', ...without];
  return { answer, body: gitStream(args, { cwd, deadlineMs: GIT_DEADLINE_MS }) };
};

/** The best ground of the zone's HEAD with any of these, as far as the commits that are here say. */
const mergeBase = async (cwd: string, have: readonly string[]): Promise<string | undefined> => {
  const known = await hasCommits(cwd, have);
  if (known.length === 0) return undefined;
  // Several words are looked at as one merge of them all: the answer is the best ground with any of them.
  const said = await git(['merge-base', 'HEAD', ...known], {
    ...{ cwd, deadlineMs: QUESTION_DEADLINE_MS, maxBytes: MAX_ANSWER_BYTES },
  });
  return said.code === 0 ? said.stdout.toString('utf8').trim() : undefined;
};

/**
 * The commit that the zone's HEAD and those that a person names, the latest first, come from; none where they share
 * no history. What the zone was carried from counts by name where its commits are not here.
 */
export const common = async (
  place: PatchPlace,
  { have }: Params<'patch.common'>,
): Promise<AnswerOf<'patch.common'>> => {
  const [found, isLineage] = await Promise.all([
    mergeBase(place.path, have),
    readLineage(zoneShadowDir(place.zonesDir, place.zone)),
  ]);
  const best = have.find((id) => id === found || isLineage(id)) ?? found;
  return best === undefined ? {} : { common: best };
};
