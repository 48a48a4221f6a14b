import { randomBytes } from 'node:crypto';
import { copyFile, readdir, readFile, rename, rm, stat, utimes, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { asKhloneError, KhloneError } from '../protocol/error.ts';
import { git, gitFailed } from './git.ts';
import { type Choice, isOurs, type LeftOut, looksSecret, matcherOf } from './left-out.ts';
import { type Path, pathText, records, toBytes } from './listing.ts';
import { openShadow, type Repository, type Shadow } from './shadow.ts';
import { filteredOf, GITLINK, type Listing, listWorktree, sizesOf } from './worktree-listing.ts';

/**
 * The present state of a worktree as a tree id: tracked and untracked files as raw bytes, ignored ones not. What is
 * left out stands in the tree as HEAD has it, or not at all where HEAD does not have it.
 */

export type SnapshotWish = Repository & {
  /** The shadow repository, made when first needed. */
  shadowDir: string;
  deadlineMs: number;
  /** Larger files that HEAD does not have as they are now are left out (default: 10 MB). */
  maxFileBytes?: number;
  choice?: Choice;
  /** What is done with files that a filter (LFS, git-crypt) makes: their raw bytes, or HEAD's version. */
  filtered?: 'raw' | 'head';
  /** Files that are taken in although rules cover them: both sides have them already. */
  also?: readonly Path[];
  /** Nothing is left out but submodules and nested repositories: for saving before a removal. */
  everything?: boolean;
};

export type Snapshot = { tree: string; head: string | undefined; leftOut: LeftOut[] };

export const MAX_FILE_BYTES = 10_000_000;
const ATTEMPTS = 3;
const STALE_INDEX_MS = 60 * 60_000;

type Round = { wish: SnapshotWish; shadow: Shadow; index: string; left: Map<Path, string> };

const said = async (shadow: Shadow, index: string, args: string[], input?: Buffer): Promise<Buffer> => {
  const answer = await shadow.run(args, { index, ...(input && { input }) });
  if (answer.code !== 0) throw gitFailed(`git ${args[0]} failed in the shadow repository`, answer.stderr);
  return answer.stdout;
};

const limitOf = (wish: SnapshotWish): number =>
  wish.everything ? Infinity : (wish.maxFileBytes ?? MAX_FILE_BYTES);

const tooLarge = (bytes: number): string => `larger than max_file (${Math.round(bytes / 100_000) / 10} MB)`;

/** Why a file that HEAD does not have stays here, if it does. */
const refusalOfNew = (wish: SnapshotWish): ((path: Path, bytes: number) => string | undefined) => {
  if (wish.everything) return () => undefined;
  const included = matcherOf(wish.choice?.include ?? []);
  const excluded = matcherOf(wish.choice?.exclude ?? []);
  return (path, bytes) => {
    const text = pathText(path);
    if (excluded(text)) return 'excluded by sync.exclude';
    if (looksSecret(text) && !included(text)) return 'looks like a secret';
    return bytes > limitOf(wish) ? tooLarge(bytes) : undefined;
  };
};

const heldPaths = async ({ shadow, index }: Round): Promise<Set<Path>> =>
  new Set(records(await said(shadow, index, ['ls-files', '-z'])));

/**
 * Makes the shadow's index hold the same paths as the worktree's listing, without looking at files yet. Answers the
 * paths, and whether they are the ones that it had.
 */
const alignIndex = async (
  round: Round,
  { tracked, untracked }: Listing,
  held: Set<Path>,
): Promise<{ held: Set<Path>; same: boolean }> => {
  const { shadow, index } = round;
  const gone = [...held].filter((path) => {
    const entry = tracked.get(path);
    return entry ? entry.mode === GITLINK : !untracked.has(path);
  });
  const fresh = [...tracked].filter(([path, entry]) => !held.has(path) && entry.mode !== GITLINK);
  if (gone.length + fresh.length === 0) return { held, same: true };
  const lines = [
    ...gone.map((path) => `0 ${shadow.zeroId}\t${path}\0`),
    ...fresh.map(([path, entry]) => `${entry.mode} ${entry.oid} 0\t${path}\0`),
  ];
  await said(shadow, index, ['update-index', '-z', '--index-info'], toBytes(lines.join('')));
  // A tracked file that became a folder takes the folder's entries out again: they are read anew.
  return { held: await heldPaths(round), same: false };
};

type Stale = { gone: Path[]; dirty: Path[] };

/** Where the worktree differs from the shadow's index: by stat, the files are not read. */
const lookAtFiles = async ({ shadow, index }: Round): Promise<Path[]> =>
  records(await said(shadow, index, ['diff-files', '-z', '--raw', '--no-renames']));

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

/** Reads what changed into the shadow. New files are judged before a byte of them is read. */
const readChanges = async (round: Round, listing: Listing, before: Before): Promise<void> => {
  const { wish, shadow, index, left } = round;
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
    const lines = drop.map((path) => `0 ${shadow.zeroId}\t${path}\0`).join('');
    await said(shadow, index, ['update-index', '-z', '--index-info'], toBytes(lines));
  }
  if (read.length === 0) return;
  const args = ['update-index', '-z', '--add', '--remove', '--replace', '--stdin'];
  await said(shadow, index, args, toBytes(`${read.join('\0')}\0`));
};

type Change = { path: Path; mode: string; oid: string; status: string };

/** Where the read state differs from HEAD, each with what HEAD has. */
const changesSince = async ({ shadow, index }: Round, against: string): Promise<Change[]> => {
  const args = ['diff-index', '--cached', '-z', '--raw', '--no-renames', '--no-abbrev', against];
  const words = records(await said(shadow, index, args));
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
    if (listing.tracked.get(path)?.mode === GITLINK) return 'submodule';
    if (status === 'D') return undefined;
    const bytes = sizes.get(path) ?? 0;
    if (status === 'A') return refused(path, bytes);
    if (excluded(pathText(path))) return 'excluded by sync.exclude';
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
      status === 'A' ? `0 ${shadow.zeroId}\t${path}\0` : `${mode} ${oid} 0\t${path}\0`,
    );
    await said(shadow, side, ['update-index', '-z', '--index-info'], toBytes(lines.join('')));
    return (await said(shadow, side, ['write-tree'])).toString('utf8').trim();
  } finally {
    await rm(side, { force: true });
  }
};

const headOf = async ({ worktree: cwd, deadlineMs }: SnapshotWish): Promise<string | undefined> => {
  const args = ['rev-parse', '--verify', '--quiet', 'HEAD^{commit}'];
  const answer = await git(args, { cwd, deadlineMs, maxBytes: 64 * 1024 });
  return answer.code === 0 ? answer.stdout.toString('utf8').trim() : undefined;
};

const takeRound = async (round: Round): Promise<Snapshot & { whole: string }> => {
  const { wish, shadow, index, left } = round;
  const [listing, head, before] = await Promise.all([listWorktree(wish), headOf(wish), lookBefore(round)]);
  for (const path of wish.also ?? []) if (!listing.tracked.has(path)) listing.untracked.add(path);
  for (const path of listing.nested) left.set(path, 'nested repository');
  for (const [path, { mode }] of listing.tracked) if (mode === GITLINK) left.set(path, 'submodule');
  await readChanges(round, listing, before);
  const whole = (await said(shadow, index, ['write-tree'])).toString('utf8').trim();
  const empty = async (): Promise<string> =>
    (await said(shadow, index, ['hash-object', '-t', 'tree', '-w', '--stdin'])).toString('utf8').trim();
  const changes = await changesSince(round, head ?? (await empty()));
  const why = await whyNotCarried(round, listing, changes);
  const back = changes.filter((change) => {
    const reason = why(change);
    if (reason) left.set(change.path, reason);
    return reason !== undefined;
  });
  const tree = back.length === 0 ? whole : await asHead(round, back);
  const leftOut = [...left].map(([path, reason]) => ({ path: pathText(path), why: reason }));
  return { tree, head, leftOut, whole };
};

/** Git tells files that changed right after it looked by the index's own time: a copy must not look younger. */
const copyIndex = async (from: string, to: string): Promise<void> => {
  const { mtimeMs } = await stat(from);
  await copyFile(from, to);
  const seconds = Math.floor(mtimeMs) / 1000;
  await utimes(to, seconds, seconds);
};

/** Which tree the kept index holds: a hint, for whoever checks what comes of it. */
const treeNote = (shadowDir: string): string => join(shadowDir, 'index-tree');

/** Copies the last snapshot's index to `to` where it seems to hold this very tree; false where not. */
export const copySnapshotIndex = async (shadowDir: string, tree: string, to: string): Promise<boolean> => {
  const noted = await readFile(treeNote(shadowDir), 'utf8').catch(() => '');
  if (noted !== tree) return false;
  return copyIndex(join(shadowDir, 'index'), to).then(
    () => true,
    () => false,
  );
};

/** Each snapshot works on a copy of the kept index, so several at once never meet; the last one's is kept. */
const withIndex = async <T extends { whole: string }>(
  shadow: Shadow,
  fresh: boolean,
  use: (index: string) => Promise<T>,
): Promise<T> => {
  const kept = join(shadow.dir, 'index');
  const index = join(shadow.dir, `index.${randomBytes(6).toString('hex')}`);
  try {
    if (!fresh) await copyIndex(kept, index).catch(() => undefined);
    const result = await use(index);
    await rename(index, kept).catch(() => undefined);
    await writeFile(treeNote(shadow.dir), result.whole, { mode: 0o600 }).catch(() => undefined);
    return result;
  } finally {
    await rm(index, { force: true });
    await rm(`${index}.lock`, { force: true });
  }
};

/** Index copies that a killed process left behind. */
const sweep = async (dir: string): Promise<void> => {
  const names = await readdir(dir).catch(() => []);
  for (const name of names.filter((one) => one.startsWith('index.'))) {
    const facts = await stat(join(dir, name)).catch(() => undefined);
    if (facts && Date.now() - facts.mtimeMs > STALE_INDEX_MS) await rm(join(dir, name), { force: true });
  }
};

/**
 * The tree id of the worktree's present state. A file that changes its kind meanwhile, or an object that the user's
 * git pruned, makes it begin anew; then it throws what git said. Throws `timeout` when one git takes over `deadlineMs`.
 */
export const snapshotTree = async (wish: SnapshotWish): Promise<Snapshot> => {
  const shadow = await openShadow(wish, wish.shadowDir, wish.deadlineMs);
  await sweep(shadow.dir);
  let last: KhloneError = new KhloneError('internal', 'no snapshot was taken');
  for (let attempt = 0; attempt < ATTEMPTS; attempt += 1) {
    try {
      const { whole: _, ...snapshot } = await withIndex(shadow, attempt > 0, (index) =>
        takeRound({ wish, shadow, index, left: new Map() }),
      );
      return snapshot;
    } catch (thrown) {
      last = asKhloneError(thrown);
      if (last.code !== 'internal') throw last;
    }
  }
  throw last;
};

/** Forgets the kept index, so that the next snapshot reads every file and stores every object anew. */
export const forgetIndex = (shadowDir: string): Promise<void> =>
  rm(join(shadowDir, 'index'), { force: true });
