import { git, gitFailed } from './git.ts';
import type { Shadow } from './shadow.ts';

/** Commits around trees, for the places where git wants a commit and we mean a tree. */

const DEADLINE_MS = 15 * 60_000;
const MAX_ANSWER_BYTES = 64 * 1024;

/** The same commit for the same tree on every machine, so that a bundle's prerequisite is one the receiver can make. */
const NOBODY = {
  ...{ GIT_AUTHOR_NAME: 'khlone', GIT_AUTHOR_EMAIL: 'khlone', GIT_AUTHOR_DATE: '@0 +0000' },
  ...{ GIT_COMMITTER_NAME: 'khlone', GIT_COMMITTER_EMAIL: 'khlone', GIT_COMMITTER_DATE: '@0 +0000' },
};

/** A commit without author, time and history around a tree. The same wish makes the same id. */
export const commitOf = async (
  shadow: Shadow,
  tree: string,
  parents: readonly string[] = [],
): Promise<string> => {
  const args = ['commit-tree', tree, ...parents.flatMap((parent) => ['-p', parent]), '-m', 'khlone'];
  const made = await git([...shadow.config, ...args], {
    ...{ cwd: shadow.dir, deadlineMs: DEADLINE_MS, maxBytes: MAX_ANSWER_BYTES },
    env: { ...shadow.env(), ...NOBODY },
  });
  if (made.code !== 0) throw gitFailed('git could not make a commit around a tree', made.stderr);
  return made.stdout.toString('utf8').trim();
};
