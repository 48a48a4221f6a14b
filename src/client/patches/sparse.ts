import { git, gitFailed } from '../../patch/git.ts';
import { type Path, records } from '../../patch/listing.ts';
import type { Held } from '../../patch/plan.ts';
import { MAX_LISTING_BYTES, type Repository } from '../../patch/shadow.ts';
import type { Change } from '../../patch/tree.ts';
import { sizesOf } from '../../patch/worktree-listing.ts';

/** Files that git keeps out of a sparse checkout: they count as they are in the index, and nothing is there to change. */

const DEADLINE_MS = 30_000;
const WHY = 'outside of the sparse checkout here; git sparse-checkout add takes it in';

/**
 * What of these changes concerns a file that git keeps no copy of here, as paths that are held: an edit of it finds
 * nothing, and a removal that seemed done would be taken back by the next sync, because the index has the file still.
 */
export const heldBySparse = async ({ worktree }: Repository, changes: readonly Change[]): Promise<Held[]> => {
  const known = changes.flatMap(({ path, before }) => (before ? [path] : []));
  const there = await sizesOf(worktree, known);
  const absent = known.filter((path) => !there.has(path));
  if (absent.length === 0) return [];
  const options = { cwd: worktree, deadlineMs: DEADLINE_MS, maxBytes: MAX_LISTING_BYTES };
  const said = await git(['ls-files', '-t', '-z'], options);
  if (said.code !== 0) throw gitFailed('git could not list the worktree', said.stderr);
  const skipped = new Set<Path>(
    records(said.stdout).flatMap((word) => (word.startsWith('S ') ? [word.slice(2)] : [])),
  );
  return absent.flatMap((path) => (skipped.has(path) ? [{ path, why: WHY }] : []));
};
