import { copyFile, rm } from 'node:fs/promises';
import { asKhloneError, KhloneError } from '../protocol/error.ts';
import { heldPaths, lookAtFiles, readIn, said, setEntries, type Work, writeTree } from './entries.ts';
import { git } from './git.ts';
import { type LastSeen, noteSeen, type Seen, sweepIndexes, withIndex, withKept } from './last-snapshot.ts';
import {
  type Carried,
  EXCLUDED,
  isOurs,
  type LeftOut,
  limitOf,
  matcherOf,
  NESTED,
  refusalOfNew,
  SUBMODULE,
  tooLarge,
} from './left-out.ts';
import { type Path, pathText, records } from './listing.ts';
import { beginSeen, endSeen, lookQuick, takeByHand, takeIn } from './quick-look.ts';
import { openShadow, type Repository, type Shadow } from './shadow.ts';
import { emptyTree } from './tree.ts';
import { filteredOf, GITLINK, type Listing, listWorktree, sizesOf } from './worktree-listing.ts';

/**
 * The present state of a worktree as a tree id: tracked and untracked files as raw bytes, ignored ones not. What is
 * left out stands in the tree as HEAD has it, or not at all where HEAD does not have it.
 */

export type SnapshotWish = Repository &
  Carried & {
    /** The shadow repository, made when first needed. */
    shadowDir: string;
    deadlineMs: number;
    /** What is done with files that a filter (LFS, git-crypt) makes: their raw bytes, or HEAD's version. */
    filtered?: 'raw' | 'head';
    /** Files that are taken in although rules cover them: both sides have them already. */
    also?: readonly Path[];
  };

export type Snapshot = { tree: string; head: string | undefined; leftOut: LeftOut[] };

const ATTEMPTS = 3;

type Round = Work & { wish: SnapshotWish; left: Map<Path, string> };

/**
 * Makes the shadow's index hold the same paths as the worktree's listing, without looking at files yet. Answers the
 * paths, and whether they are the ones that it had.
 */
const alignIndex = async (
  round: Round,
  { tracked, untracked }: Listing,
  held: Set<Path>,
): Promise<{ held: Set<Path>; same: boolean }> => {
  const { shadow } = round;
  const gone = [...held].filter((path) => {
    const entry = tracked.get(path);
    return entry ? entry.mode === GITLINK : !untracked.has(path);
  });
  const fresh = [...tracked].filter(([path, entry]) => !held.has(path) && entry.mode !== GITLINK);
  if (gone.length + fresh.length === 0) return { held, same: true };
  const lines = [
    ...gone.map((path) => `0 ${shadow.zeroId}\t${path}`),
    ...fresh.map(([path, entry]) => `${entry.mode} ${entry.oid} 0\t${path}`),
  ];
  await setEntries(round, lines);
  // A tracked file that became a folder takes the folder's entries out again: they are read anew.
  return { held: await heldPaths(round), same: false };
};

type Stale = { gone: Path[]; dirty: Path[] };

const staleEntries = (words: readonly Path[], { tracked }: Listing): Stale => {
  const stale: Stale = { gone: [], dirty: [] };
  for (let i = 0; i + 1 < words.length; i += 2) {
    const [facts = '', path = ''] = words.slice(i, i + 2);
    if (!facts.endsWith(' D')) stale.dirty.push(path);
    else if (!tracked.get(path)?.sparse) stale.gone.push(path);
  }
  return stale;
};

/** What the shadow's index says, asked while the worktree is listed: both take as long as there are files. */
type Before = { held: Set<Path>; words: Path[] };

const lookBefore = async (round: Round): Promise<Before> => {
  const [held, words] = await Promise.all([heldPaths(round), lookAtFiles(round)]);
  return { held, words };
};

/**
 * Reads what changed into the shadow. New files are judged before a byte of them is read. Answers whether the index
 * holds all that is listed now.
 */
const readChanges = async (round: Round, listing: Listing, before: Before): Promise<boolean> => {
  const { wish, shadow, left } = round;
  const { held, same } = await alignIndex(round, listing, before.held);
  const { gone, dirty } = staleEntries(same ? before.words : await lookAtFiles(round), listing);
  const fresh = [...listing.untracked].filter((path) => !held.has(path));
  const sizes = await sizesOf(wish.worktree, [...dirty, ...fresh]);
  const large = dirty.filter((path) => (sizes.get(path) ?? 0) > limitOf(wish));
  const filtered = await filteredOf(wish, large);
  const refused = refusalOfNew(wish);
  const read: Path[] = [];
  for (const [path, bytes] of sizes) {
    const why = listing.untracked.has(path) ? refused(path, bytes) : undefined;
    if (why !== undefined) left.set(path, why);
    // What a filter made large (LFS) is not stored a second time.
    else if (filtered.has(path)) left.set(path, tooLarge(bytes));
    else read.push(path);
  }
  const drop = [...gone, ...[...left.keys()].filter((path) => held.has(path))];
  if (drop.length > 0) {
    await setEntries(
      round,
      drop.map((path) => `0 ${shadow.zeroId}\t${path}`),
    );
  }
  const isRead = await readIn(round, read);
  const isSparse = [...listing.tracked.values()].some(({ sparse }) => sparse);
  return isRead && drop.length === 0 && read.length === dirty.length + fresh.length && !isSparse;
};

type Change = { path: Path; mode: string; oid: string; status: string };

/** Where the read state differs from HEAD, each with what HEAD has. */
const changesSince = async (work: Work, against: string): Promise<Change[]> => {
  const args = ['diff-index', '--cached', '-z', '--raw', '--no-renames', '--no-abbrev', against];
  const words = records(await said(work, args));
  const changes: Change[] = [];
  for (let i = 0; i + 1 < words.length; i += 2) {
    const [facts = '', path = ''] = words.slice(i, i + 2);
    const [mode = '', , oid = '', , status = ''] = facts.replace(/^:/u, '').split(' ');
    changes.push({ path, mode, oid, status });
  }
  return changes;
};

const whyNotCarried = async (
  { wish, left }: Round,
  listing: Listing,
  changes: readonly Change[],
): Promise<(change: Change) => string | undefined> => {
  const present = changes.filter(({ status }) => status !== 'D').map(({ path }) => path);
  const sizes = await sizesOf(wish.worktree, present);
  const filtered = wish.filtered === 'head' ? await filteredOf(wish, present) : new Set<Path>();
  const refused = refusalOfNew(wish);
  const excluded = wish.everything ? () => false : matcherOf(wish.choice?.exclude ?? []);
  return ({ path, status }) => {
    const known = left.get(path);
    if (known !== undefined) return known;
    if (isOurs(path)) return '';
    if (listing.tracked.get(path)?.mode === GITLINK) return SUBMODULE;
    if (status === 'D') return undefined;
    const bytes = sizes.get(path) ?? 0;
    if (status === 'A') return refused(path, bytes);
    if (excluded(pathText(path))) return EXCLUDED;
    if (bytes > limitOf(wish)) return tooLarge(bytes);
    return filtered.has(path) ? 'made by a filter (LFS)' : undefined;
  };
};

/** Puts what is left out back to HEAD's version, in an index of its own: the kept one stays the worktree's state. */
const asHead = async (round: Round, back: readonly Change[]): Promise<string> => {
  const { shadow, index } = round;
  const side = `${index}.side`;
  try {
    await copyFile(index, side);
    const lines = back.map(({ path, mode, oid, status }) =>
      status === 'A' ? `0 ${shadow.zeroId}\t${path}` : `${mode} ${oid} 0\t${path}`,
    );
    await setEntries({ shadow, index: side }, lines);
    return await writeTree({ shadow, index: side });
  } finally {
    await rm(side, { force: true });
  }
};

const headOf = async ({ worktree: cwd, deadlineMs }: SnapshotWish): Promise<string | undefined> => {
  const args = ['rev-parse', '--verify', '--quiet', 'HEAD^{commit}'];
  const answer = await git(args, { cwd, deadlineMs, maxBytes: 64 * 1024 });
  return answer.code === 0 ? answer.stdout.toString('utf8').trim() : undefined;
};

/** `whole`: the tree of the index; `seen`: what the next snapshot may build on. */
export type Taken = Snapshot & { whole: string; seen: Seen | undefined };

const takeRound = async (round: Round, last: LastSeen | undefined): Promise<Taken> => {
  const { wish, shadow, left } = round;
  const begun = await beginSeen(wish, last);
  const [listing, head, before] = await Promise.all([listWorktree(wish), headOf(wish), lookBefore(round)]);
  for (const path of wish.also ?? []) if (!listing.tracked.has(path)) listing.untracked.add(path);
  for (const path of listing.nested) left.set(path, NESTED);
  for (const [path, { mode }] of listing.tracked) if (mode === GITLINK) left.set(path, SUBMODULE);
  const isWhole = await readChanges(round, listing, before);
  const whole = await writeTree(round);
  const changes = await changesSince(round, head ?? (await emptyTree(shadow)));
  const why = await whyNotCarried(round, listing, changes);
  const back = changes.filter((change) => {
    const reason = why(change);
    if (reason) left.set(change.path, reason);
    return reason !== undefined;
  });
  const tree = back.length === 0 ? whole : await asHead(round, back);
  const leftOut = [...left].map(([path, reason]) => ({ path: pathText(path), why: reason }));
  const isPlain = isWhole && back.length + left.size === 0;
  const seen = isPlain ? await endSeen(wish, begun, head, listing) : undefined;
  return { tree, head, leftOut, whole, seen };
};

/** By what the last snapshot noted, where edits and new files are all that came since; else from a look at everything. */
const takeOnce = async (wish: SnapshotWish, shadow: Shadow, fresh: boolean): Promise<Snapshot> => {
  const kept = fresh
    ? undefined
    : await withKept(shadow, (index, last) => lookQuick({ shadow, index }, wish, last));
  const byHand = kept && (await takeByHand(shadow, kept.last, kept.found));
  if (byHand) {
    await noteSeen(shadow, kept.last, byHand.seen);
    return byHand;
  }
  return withIndex(shadow, fresh, async (index, last) => {
    const round = { wish, shadow, index, left: new Map() };
    const isSame = kept !== undefined && last?.index === kept.last.index;
    return (isSame && (await takeIn(round, last, kept.found))) || takeRound(round, last);
  });
};

/**
 * The tree id of the worktree's present state. A file that changes its kind meanwhile, or an object that the user's
 * git pruned, makes it begin anew; then it throws what git said. Throws `timeout` when one git takes over `deadlineMs`.
 */
export const snapshotTree = async (wish: SnapshotWish): Promise<Snapshot> => {
  const [shadow] = await Promise.all([
    openShadow(wish, wish.shadowDir, wish.deadlineMs),
    sweepIndexes(wish.shadowDir),
  ]);
  let last: KhloneError = new KhloneError('internal', 'no snapshot was taken');
  for (let attempt = 0; attempt < ATTEMPTS; attempt += 1) {
    try {
      const { tree, head, leftOut } = await takeOnce(wish, shadow, attempt > 0);
      return { tree, head, leftOut };
    } catch (thrown) {
      last = asKhloneError(thrown);
      if (last.code !== 'internal') throw last;
    }
  }
  throw last;
};
