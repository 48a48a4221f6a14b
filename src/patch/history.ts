import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { KhloneError } from '../protocol/error.ts';
import { git, gitFailed } from './git.ts';
import { lineageText, MAX_LINEAGE } from './lineage.ts';
import { MAX_SHALLOW } from './manifest.ts';
import type { Repository } from './shadow.ts';

/** How much of a branch's history travels: a shallow boundary, given as the commits whose parents stay behind. */

export type History = 'branch' | 'full';

/** Commits deep, counted from HEAD along every parent. */
export const BRANCH_DEPTH = 50;
/** Commits looked at for a boundary: 50 deep in a history of many merges is seldom more, and the rest is cut. */
const MAX_LOOKED_AT = 5_000;
const MAX_LIST_BYTES = 512 * 1024 * 1024;

/** Commits with their parents, newest first, as `git rev-list --parents` gives them. */
export type Commits = ReadonlyMap<string, readonly string[]>;

/** Commits at which a walk from `head` has to stop: those at the full depth, and those with a parent not listed. */
export const boundaryOf = (commits: Commits, head: string, depth: number): string[] => {
  const boundary: string[] = [];
  const seen = new Set([head]);
  let level = [head];
  for (let deep = 1; level.length > 0; deep += 1) {
    const next: string[] = [];
    for (const commit of level) {
      const parents = commits.get(commit) ?? [];
      if (parents.length === 0) continue;
      if (deep >= depth || parents.some((parent) => !commits.has(parent))) {
        boundary.push(commit);
        continue;
      }
      for (const parent of parents) {
        if (seen.has(parent)) continue;
        seen.add(parent);
        next.push(parent);
      }
    }
    level = next;
  }
  return boundary;
};

const parseCommits = (text: string): Commits =>
  new Map(
    text
      .split('\n')
      .filter(Boolean)
      .map((line) => {
        const [commit = '', ...parents] = line.split(' ');
        return [commit, parents];
      }),
  );

/** Where the user's own history ends, if theirs is a shallow clone. */
const ownShallow = async ({ commonDir }: Repository): Promise<Set<string>> =>
  new Set((await readFile(join(commonDir, 'shallow'), 'utf8').catch(() => '')).split('\n').filter(Boolean));

/** How many commits deep each history goes. */
export const depthOf = (history: History): number => (history === 'full' ? Infinity : BRANCH_DEPTH);

/** The shallow boundary of what is carried with `head`. Throws `too-large` beyond what a manifest holds. */
export const shallowOf = async (
  repository: Repository,
  head: string,
  depth: number,
  deadlineMs: number,
): Promise<string[]> => {
  const own = await ownShallow(repository);
  if (depth === Infinity && own.size === 0) return [];
  const limit = depth === Infinity ? [] : [`--max-count=${MAX_LOOKED_AT}`];
  const answer = await git(['rev-list', '--topo-order', '--parents', ...limit, head, '--'], {
    cwd: repository.worktree,
    env: { GIT_NO_REPLACE_OBJECTS: '1' },
    deadlineMs,
    maxBytes: MAX_LIST_BYTES,
  });
  if (answer.code !== 0) throw gitFailed('git could not list the history', answer.stderr);
  const commits = parseCommits(answer.stdout.toString('latin1'));
  const cut = boundaryOf(commits, head, depth);
  const shallow = [...new Set([...cut, ...[...own].filter((commit) => commits.has(commit))])];
  if (shallow.length <= MAX_SHALLOW) return shallow;
  throw new KhloneError(
    'too-large',
    'the history has too many ends',
    'repo: { history: full } in khlone.yml',
  );
};

/** What `head` comes from, for a manifest: whoever joins the zone with fewer commits than it carries is known by it. */
export const lineageOf = async (
  { worktree }: Repository,
  head: string,
  deadlineMs: number,
): Promise<string> => {
  const answer = await git(['rev-list', `--max-count=${MAX_LINEAGE}`, head, '--'], {
    cwd: worktree,
    env: { GIT_NO_REPLACE_OBJECTS: '1' },
    deadlineMs,
    maxBytes: MAX_LIST_BYTES,
  });
  if (answer.code !== 0) throw gitFailed('git could not list the history', answer.stderr);
  return lineageText(answer.stdout.toString('latin1').split('\n').filter(Boolean));
};
