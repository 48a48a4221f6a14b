import { randomBytes } from 'node:crypto';
import { copyFile, link, rename, rm, utimes } from 'node:fs/promises';
import { join } from 'node:path';
import * as z from 'zod';
import { Folders } from './folders.ts';
import { readNames, readText, stat, statBig, writeSmall } from './near-disk.ts';
import type { Shadow } from './shadow.ts';

/**
 * The index of a shadow's last snapshot, and what was true when it was taken: the next one looks only at what could be
 * different since. Each works on a copy, so several at once never meet; the last one's is kept.
 */

const STALE_INDEX_MS = 60 * 60_000;
/** A note of more bytes than a thousand long paths is none of ours. */
const MAX_NOTE_BYTES = 4 * 1024 * 1024;

/** What the last snapshot saw of the worktree, where that was plain: see `quick-look.ts`. */
export const Seen = z.strictObject({
  /** What was asked for. */
  wish: z.string(),
  /** The user's own index, by `fileMark`. */
  userIndex: z.string(),
  head: z.string(),
  /** Where no attribute holds for any path: the settings that it depends on, by their marks. */
  attributes: z.exactOptional(z.string()),
  /** Paths that are not tracked, one character per byte: with the tracked ones they are all that the index holds. */
  others: z.array(z.string()),
  /** New files since then, which the index does not hold. */
  fresh: z.exactOptional(z.array(z.string())),
  /** The folders in which there were these names. */
  folders: z.exactOptional(Folders),
});
export type Seen = z.infer<typeof Seen>;

/** What a snapshot can build on: the kept index by its mark, the tree that it holds, and what was seen then. */
export type LastSeen = { index: string; tree: string; seen: Seen };

const Note = z.strictObject({
  /** The kept index that this is about. */
  index: z.string(),
  /** The tree that it holds. */
  tree: z.string(),
  seen: Seen.optional(),
});
type Note = z.infer<typeof Note>;

const keptIn = (shadowDir: string): string => join(shadowDir, 'index');
const noteIn = (shadowDir: string): string => join(shadowDir, 'index-note.json');

/** A copy has the time of its original, and a name of its own. */
const indexMark = async (path: string): Promise<string> => {
  const { ino, size, mtimeNs } = await statBig(path);
  return [ino, size, mtimeNs].join(' ');
};

const readNote = async (shadowDir: string): Promise<Note | undefined> => {
  const text = await readText(noteIn(shadowDir)).catch(() => '');
  if (text === '' || text.length > MAX_NOTE_BYTES) return undefined;
  try {
    return Note.parse(JSON.parse(text));
  } catch {
    // A note of another version, or cut off by a death: the snapshot looks at everything.
    return undefined;
  }
};

/**
 * Git writes an index anew under another name, so a second name of the same file is as good as a copy. Git tells files
 * that changed right after it looked by the index's own time: a copy must not look younger.
 */
const copyIndex = async (from: string, to: string): Promise<void> => {
  const isLinked = await link(from, to).then(
    () => true,
    () => false,
  );
  if (isLinked) return;
  const { mtimeMs } = await stat(from);
  await copyFile(from, to);
  const seconds = Math.floor(mtimeMs) / 1000;
  await utimes(to, seconds, seconds);
};

/**
 * Gives `use` the kept index, to be read and not written, with what was seen when it was kept. Undefined where there is
 * none to build on, or another one took its place meanwhile.
 */
export const withKept = async <T>(
  { dir }: Shadow,
  use: (index: string, last: LastSeen) => Promise<T | undefined>,
): Promise<{ last: LastSeen; found: T } | undefined> => {
  const kept = keptIn(dir);
  const [mark, note] = await Promise.all([indexMark(kept).catch(() => undefined), readNote(dir)]);
  if (note?.seen === undefined || note.index !== mark) return undefined;
  const last = { index: note.index, tree: note.tree, seen: note.seen };
  const found = await use(kept, last);
  const isStill = found !== undefined && (await indexMark(kept).catch(() => undefined)) === mark;
  return isStill ? { last, found } : undefined;
};

/** Notes what was seen since, with the same kept index. A note that was cut off is none. */
export const noteSeen = async ({ dir }: Shadow, last: LastSeen, seen: Seen | undefined): Promise<void> => {
  if (seen && seen !== last.seen) await writeNote(dir, { ...last, seen }).catch(() => undefined);
};

/** Copies the kept index, with the note about it; no note where another one took its place meanwhile. */
const copyKept = async (shadowDir: string, to: string): Promise<Note | undefined> => {
  const kept = keptIn(shadowDir);
  const [before, note] = await Promise.all([indexMark(kept), readNote(shadowDir)]);
  await copyIndex(kept, to);
  return note?.index === before && (await indexMark(kept)) === before ? note : undefined;
};

/** Copies the last snapshot's index to `to` where it seems to hold this very tree; false where not. */
export const copySnapshotIndex = async (shadowDir: string, tree: string, to: string): Promise<boolean> => {
  const note = await readNote(shadowDir);
  if (note?.tree !== tree) return false;
  return copyIndex(keptIn(shadowDir), to).then(
    () => true,
    () => false,
  );
};

/**
 * Takes a snapshot on a copy of the kept index, which takes the kept one's place afterwards: it holds the tree that the
 * result names as `whole`. `use` gets the copy, and what was seen when it was made, if that can be built on. `fresh`: from an
 * empty index.
 */
export const withIndex = async <T extends { whole: string; seen?: Seen | undefined }>(
  { dir }: Shadow,
  fresh: boolean,
  use: (index: string, last: LastSeen | undefined) => Promise<T>,
): Promise<T> => {
  const index = join(dir, `index.${randomBytes(6).toString('hex')}`);
  try {
    const before = fresh ? undefined : await copyKept(dir, index).catch(() => undefined);
    const last = before?.seen && { index: before.index, tree: before.tree, seen: before.seen };
    const result = await use(index, last);
    const { whole: tree, seen } = result;
    const note: Note = { index: await indexMark(index).catch(() => ''), tree, ...(seen && { seen }) };
    await rename(index, keptIn(dir)).catch(() => undefined);
    await writeNote(dir, note).catch(() => undefined);
    return result;
  } finally {
    await rm(index, { force: true });
    await rm(`${index}.lock`, { force: true });
  }
};

/** A note that was cut off is none: nothing waits for the disk here. */
const writeNote = (dir: string, note: Note): Promise<void> =>
  writeSmall(noteIn(dir), JSON.stringify(note), { mode: 0o600 });

/** Removes index copies that a killed process left behind. */
export const sweepIndexes = async (dir: string): Promise<void> => {
  const names = await readNames(dir).catch(() => []);
  for (const name of names.filter((one) => one.startsWith('index.'))) {
    const facts = await stat(join(dir, name)).catch(() => undefined);
    if (facts && Date.now() - facts.mtimeMs > STALE_INDEX_MS) await rm(join(dir, name), { force: true });
  }
};

/** Forgets the kept index, so that the next snapshot reads every file and stores every object anew. */
export const forgetIndex = (shadowDir: string): Promise<void> => rm(keptIn(shadowDir), { force: true });
