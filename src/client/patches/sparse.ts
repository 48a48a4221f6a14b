import type { Refusal } from '../../patch/apply.ts';
import { git } from '../../patch/git.ts';
import { pathText, records } from '../../patch/listing.ts';
import type { Repository } from '../../patch/shadow.ts';
import { CHANGED } from '../../patch/swap.ts';

/** Files that git keeps out of a sparse checkout: they count as they are in the index, and nothing is there to change. */

const DEADLINE_MS = 30_000;
const MAX_BYTES = 16 * 1024 * 1024;
/** Paths that are asked about; a pull into a sparse checkout leaves more of them with the first reason. */
const MAX_ASKED = 1000;
const WHY = 'outside of the sparse checkout here; git sparse-checkout add takes it in';

/** The same refusals, with what is true of those that found no file because git keeps none there. */
export const tellSparse = async (
  { worktree }: Repository,
  refused: readonly Refusal[],
): Promise<Refusal[]> => {
  const asked = refused.filter(({ why }) => why === CHANGED).slice(0, MAX_ASKED);
  if (asked.length === 0) return [...refused];
  const args = [
    '--literal-pathspecs',
    'ls-files',
    '-t',
    '-z',
    '--',
    ...asked.map(({ path }) => pathText(path)),
  ];
  const said = await git(args, { cwd: worktree, deadlineMs: DEADLINE_MS, maxBytes: MAX_BYTES });
  const skipped = new Set(
    records(said.stdout).flatMap((word) => (word.startsWith('S ') ? [word.slice(2)] : [])),
  );
  return refused.map((one) => (one.why === CHANGED && skipped.has(one.path) ? { ...one, why: WHY } : one));
};
