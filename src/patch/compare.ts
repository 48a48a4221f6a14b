import { createHash } from 'node:crypto';
import { KhloneError } from '../protocol/error.ts';
import { git, gitFailed } from './git.ts';
import { pathText, records } from './listing.ts';
import { openShadow, type Repository } from './shadow.ts';
import { snapshotTree } from './snapshot.ts';

/**
 * Where no kernel keeps an ask from writing, the worktree is compared before and after. A change is reported and kept
 * as a patch; nothing is undone. Ignored, secret and too large files are not seen.
 */

/**
 * `shadowDir` is where snapshots are made: for a zone's worktree a place that its clones cannot write to.
 */
export type ComparedPlace = Repository & { shadowDir: string };

/** A worktree at a moment: its files, its commit, and one digest over its refs and what HEAD names. */
export type WorktreeState = { tree: string; head: string | undefined; refs: string };

export type Comparison = {
  changed: boolean;
  /** Changed files; empty where only commits or refs moved. */
  paths: string[];
  /** `git diff --binary` from before to after; empty without changed files, and where it would be over the bound. */
  patch: Buffer;
  /** Whether HEAD or a ref moved. */
  refsMoved: boolean;
};

const MAX_REFS_BYTES = 256 * 1024 * 1024;
/** Larger patches are not kept: the list of paths still is. */
export const MAX_PATCH_BYTES = 64 * 1024 * 1024;
const MAX_PATHS = 10_000;

const digestRefs = async (worktree: string, deadlineMs: number): Promise<string> => {
  const options = { cwd: worktree, deadlineMs, maxBytes: MAX_REFS_BYTES };
  const [refs, head] = await Promise.all([
    git(['for-each-ref', '--format=%(refname) %(objectname) %(symref)'], options),
    git(['symbolic-ref', '--quiet', 'HEAD'], options),
  ]);
  if (refs.code !== 0) throw gitFailed('git could not list the refs', refs.stderr);
  return createHash('sha256').update(head.stdout).update('\0').update(refs.stdout).digest('hex');
};

/** The state of a worktree now. Throws what snapshotTree throws. */
export const captureState = async (place: ComparedPlace, deadlineMs: number): Promise<WorktreeState> => {
  const [snapshot, refs] = await Promise.all([
    snapshotTree({ ...place, deadlineMs }),
    digestRefs(place.worktree, deadlineMs),
  ]);
  return { tree: snapshot.tree, head: snapshot.head, refs };
};

/** What changed between two states of one worktree. Throws `internal` where git lost an object meanwhile. */
export const compareStates = async (
  place: ComparedPlace,
  before: WorktreeState,
  after: WorktreeState,
  deadlineMs: number,
): Promise<Comparison> => {
  const refsMoved = before.head !== after.head || before.refs !== after.refs;
  if (before.tree === after.tree) return { changed: refsMoved, paths: [], patch: Buffer.alloc(0), refsMoved };
  const shadow = await openShadow(place, place.shadowDir, deadlineMs);
  const trees = [before.tree, after.tree, '--'];
  const names = await shadow.run(['diff-tree', '-r', '-z', '--name-only', '--no-renames', ...trees]);
  if (names.code !== 0) throw gitFailed('git could not compare the worktree', names.stderr);
  const args = ['diff-tree', '-p', '--binary', '--full-index', '--no-ext-diff', '--no-textconv', ...trees];
  const patch = await shadow.run(args, { maxBytes: MAX_PATCH_BYTES }).catch((error: unknown) => {
    if (error instanceof KhloneError && error.code === 'too-large') return undefined;
    throw error;
  });
  if (patch && patch.code !== 0) throw gitFailed('git could not make a patch', patch.stderr);
  return {
    changed: true,
    paths: records(names.stdout).slice(0, MAX_PATHS).map(pathText),
    patch: patch?.stdout ?? Buffer.alloc(0),
    refsMoved,
  };
};
