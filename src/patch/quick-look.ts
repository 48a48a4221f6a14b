import { join } from 'node:path';
import { isWithoutAttributes, markWithoutAttributes } from './attributes.ts';
import { lookAtFiles, readIn, type Work, writeTree } from './entries.ts';
import { fileMark } from './file-mark.ts';
import { confirmed, type Folders, lookAgain, noteFolders } from './folders.ts';
import { plainHead } from './head.ts';
import type { LastSeen, Seen } from './last-snapshot.ts';
import { type Carried, limitOf, matcherOf, refusalOfNew } from './left-out.ts';
import { type Path, pathText } from './listing.ts';
import type { Shadow } from './shadow.ts';
import { treeByHand } from './small-edits.ts';
import type { Snapshot, SnapshotWish, Taken } from './snapshot.ts';
import { filteredOf, type Listing, listOthers, sizesOf } from './worktree-listing.ts';

/**
 * What a snapshot need not look at again. Where the user's index and HEAD are as they were, the tracked paths are the
 * same, and the kept index holds them all; then only edits and new files are possible, and whatever else is found is
 * for the full look.
 */

/** Paths that are not tracked, of which a note is kept; with more, each snapshot looks at all. */
const MAX_OTHERS = 1_000;

/** What the answer depends on besides the worktree; undefined where nothing is noted for such a wish. */
const wishMark = async (wish: SnapshotWish): Promise<string | undefined> => {
  if (wish.everything || (wish.also ?? []).length > 0) return undefined;
  const { choice, maxFileBytes, filtered } = wish;
  const attributes = await fileMark(join(wish.commonDir, 'info/attributes'));
  return JSON.stringify([choice, maxFileBytes, filtered, attributes]);
};

const indexOf = ({ gitDir }: SnapshotWish): Promise<string | undefined> => fileMark(join(gitDir, 'index'));

type Begun = Pick<Seen, 'wish' | 'userIndex' | 'folders'>;

/**
 * What a full look is asked to note before it begins: the note holds only where this is the same afterwards. Folders
 * are noted by the first quick look, and kept up to date from then on.
 */
export const beginSeen = async (
  wish: SnapshotWish,
  last: LastSeen | undefined,
): Promise<Begun | undefined> => {
  const [mark, userIndex] = await Promise.all([wishMark(wish), indexOf(wish)]);
  if (mark === undefined || userIndex === undefined) return undefined;
  const folders = last?.seen.folders && (await lookAgain(wish, last.seen.folders)).now;
  return { wish: mark, userIndex, ...(folders && { folders }) };
};

/** The note of a look at which every path was plain; undefined where the user's git was at work meanwhile. */
export const endSeen = async (
  wish: SnapshotWish,
  begun: Begun | undefined,
  head: string | undefined,
  { tracked, untracked: others }: Pick<Listing, 'tracked' | 'untracked'>,
): Promise<Seen | undefined> => {
  if (!begun || head === undefined || others.size > MAX_OTHERS) return undefined;
  const attributes = await markWithoutAttributes(wish, [...tracked.keys(), ...others]);
  const folders = begun.folders && (await confirmed(wish, begun.folders));
  if ((await indexOf(wish)) !== begun.userIndex) return undefined;
  const noted = { ...(folders && { folders }), ...(attributes !== undefined && { attributes }) };
  return { ...begun, head, others: [...others], ...noted };
};

type New = { fresh: Path[]; folders: Folders | undefined };

/** The new files among those that git lists; undefined where one is gone that was there. */
const listNew = async (wish: SnapshotWish, { others, userIndex }: Seen): Promise<Path[] | undefined> => {
  const { untracked, nested } = await listOthers(wish);
  if (nested.length > 0 || (await indexOf(wish)) !== userIndex) return undefined;
  if (others.some((path) => !untracked.has(path))) return undefined;
  const known = new Set(others);
  return [...untracked].filter((path) => !known.has(path));
};

/** The new files since the note; undefined where more changed than this look can tell. */
const lookForNew = async (wish: SnapshotWish, seen: Seen): Promise<New | undefined> => {
  const [mark, userIndex, head, again] = await Promise.all([
    wishMark(wish),
    indexOf(wish),
    plainHead(wish),
    seen.folders && lookAgain(wish, seen.folders),
  ]);
  if (mark !== seen.wish || userIndex !== seen.userIndex || head !== seen.head) return undefined;
  if (again?.isSame) return { fresh: seen.fresh ?? [], folders: again.now };
  const folders = again?.now ?? (await noteFolders(wish));
  const fresh = await listNew(wish, seen);
  return fresh && { fresh, folders: await confirmed(wish, folders) };
};

/** The note with what is new in it; the same one where nothing is. */
const seenNow = (seen: Seen, { fresh, folders }: New): Seen => {
  if (folders === seen.folders && fresh.join('\0') === (seen.fresh ?? []).join('\0')) return seen;
  const { fresh: _, ...rest } = seen;
  return { ...rest, ...(fresh.length > 0 && { fresh }), ...(folders && { folders }) };
};

/** Whether all of these are files that travel as they are; their sizes in bytes. */
const allTravel = (wish: Carried, sizes: ReadonlyMap<Path, number>, fresh: readonly Path[]): boolean => {
  const refused = refusalOfNew(wish);
  const excluded = matcherOf(wish.choice?.exclude ?? []);
  const isNew = new Set(fresh);
  return [...sizes].every(([path, bytes]) => {
    // Attributes say of other files whether they travel.
    if (path.endsWith('.gitattributes')) return false;
    if (isNew.has(path)) return refused(path, bytes) === undefined;
    return bytes <= limitOf(wish) && !excluded(pathText(path));
  });
};

/** Edited files that a filter makes, where that matters. */
const filteredAmong = async (wish: SnapshotWish, seen: Seen, dirty: readonly Path[]): Promise<Set<Path>> => {
  if (wish.filtered !== 'head' || dirty.length === 0) return new Set();
  return (await isWithoutAttributes(wish, seen.attributes, dirty)) ? new Set() : filteredOf(wish, dirty);
};

/** What came since the last snapshot: edited paths, new ones, and the sizes of both in bytes. */
export type Quick = { found: New; sizes: Map<Path, number> };

/** Edits and new files since the last snapshot, by its index; undefined where more happened than that. Nothing is written. */
export const lookQuick = async (
  work: Work,
  wish: SnapshotWish,
  { seen }: LastSeen,
): Promise<Quick | undefined> => {
  // Git first: it takes longest, and runs by itself.
  const [words, found] = await Promise.all([lookAtFiles(work), lookForNew(wish, seen)]);
  if (!found) return undefined;
  const { fresh } = found;
  const dirty = words.filter((_, i) => i % 2 === 1);
  if (words.some((facts, i) => i % 2 === 0 && facts.endsWith(' D'))) return undefined;
  const paths = new Set([...dirty, ...fresh]);
  const sizes = await sizesOf(wish.worktree, [...paths]);
  if (sizes.size < paths.size || !allTravel(wish, sizes, fresh)) return undefined;
  return (await filteredAmong(wish, seen, dirty)).size > 0 ? undefined : { found, sizes };
};

/** The snapshot with a few small changes, which leave the kept index as it is: the next one reads them once more. */
export const takeByHand = async (
  shadow: Shadow,
  { seen, tree: before }: LastSeen,
  { found, sizes }: Quick,
): Promise<(Snapshot & { seen: Seen }) | undefined> => {
  const tree = await treeByHand(shadow, before, sizes);
  return tree === undefined ? undefined : { tree, head: seen.head, leftOut: [], seen: seenNow(seen, found) };
};

/**
 * The snapshot with the changes read into a copy of that index; undefined where one goes meanwhile. It may have read
 * files into the index by then, which a full look would have read as well.
 */
export const takeIn = async (
  work: Work,
  { seen }: LastSeen,
  { found, sizes }: Quick,
): Promise<Taken | undefined> => {
  if (!(await readIn(work, [...sizes.keys()]))) return undefined;
  const whole = await writeTree(work);
  const others = [...seen.others, ...found.fresh];
  const now = { ...seenNow(seen, { ...found, fresh: [] }), others };
  return { tree: whole, head: seen.head, leftOut: [], whole, seen: now };
};
