import { execFile } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import type { Stats } from 'node:fs';
import { mkdir, readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import * as z from 'zod';
import { allOf } from '../protocol/all-of.ts';
import { KhloneError } from '../protocol/error.ts';
import { faultPoint } from '../protocol/fault-point.ts';
import { inOrder, type Step } from './apply-order.ts';
import { tellFull } from './full-disk.ts';
import { type Path, pathText } from './listing.ts';
import { lstat, makeFolder, readNames, readText, rename, stat, syncPath, writeDurable } from './near-disk.ts';
import { isSafePath } from './safe-path.ts';
import type { Shadow } from './shadow.ts';
import { type Staged, stageBlobs } from './staging.ts';
import { newMark, putBack, type Swap, swapPath } from './swap.ts';
import type { Change, Entry } from './tree.ts';

/**
 * Changes of a worktree, applied path by path by compare and swap under a journal. Each application has a folder of
 * its own, which holds the journal, the bytes to come and what was displaced: whatever dies in the middle, the folder
 * says what is left to do, and the displaced files stay in it for their time.
 */

export type ApplyPlace = {
  worktree: string;
  /** Where applications are kept, 0700. Used where it is on the worktree's file system. */
  keep: string;
};

export type Refusal = { path: Path; why: string };

export type Application = {
  /** What the caller wrote down with the changes. */
  note: unknown;
  done: Path[];
  refused: Refusal[];
  /** Where the displaced files lie. */
  folder: string;
  /** Closes the journal: the caller has stored what follows from it. */
  settle(): Promise<void>;
};

/** Beside the worktree's own files where git's directory is elsewhere; no snapshot holds it. */
const IN_WORKTREE = join('.khlone', 'displaced');
const GIT_DEADLINE_MS = 15 * 60_000;
const SYNC_DEADLINE_MS = 60_000;
/** So many files are synced one by one; beyond it the whole file system is, once. */
const SYNC_EACH_MAX = 32;
const MAX_JOURNAL_BYTES = 512 * 1024 * 1024;

const EntryShape = z.strictObject({
  mode: z.enum(['100644', '100755', '120000']),
  oid: z.string().regex(/^(?:[0-9a-f]{40}|[0-9a-f]{64})$/u),
});
export const Journal = z.strictObject({
  version: z.literal(1),
  note: z.unknown(),
  changes: z.array(
    z.strictObject({
      path: z.string().max(4096),
      before: EntryShape.optional(),
      after: EntryShape.optional(),
      to: z.string().max(4096).optional(),
    }),
  ),
});

const makePrivate = async (dir: string): Promise<Stats> => {
  const facts = await lstat(dir).catch(async () => {
    await mkdir(dir, { recursive: true, mode: 0o700 });
    return lstat(dir);
  });
  if (!facts.isDirectory()) throw new KhloneError('internal', `${dir} is no folder`);
  return facts;
};

/** The folder in which applications of this worktree are kept. */
const keepOf = async ({ worktree, keep }: ApplyPlace): Promise<string> => {
  const [kept, root] = await Promise.all([makePrivate(keep), stat(worktree)]);
  if (root.dev === kept.dev) return keep;
  const inside = join(worktree, IN_WORKTREE);
  await makePrivate(join(worktree, '.khlone'));
  await makePrivate(inside);
  return inside;
};

const writeJournal = (folder: string, journal: z.infer<typeof Journal>): Promise<void> =>
  writeDurable(join(folder, 'journal.new'), JSON.stringify(journal), { mode: 0o600, isNew: true });

/** From here on the changes are to be made, whoever dies. */
const openJournal = async (folder: string): Promise<void> => {
  await rename(join(folder, 'journal.new'), join(folder, 'journal.json'));
  await syncPath(folder);
};

/** A worktree that others may not read gets no file that they may. */
const modeMaskOf = async (worktree: string): Promise<number> => ((await stat(worktree)).mode & 0o777) | 0o700;

const swapOf = (place: ApplyPlace, holding: string, shadow: Shadow): Swap => {
  return { root: place.worktree, holding, idLength: shadow.zeroId.length };
};

const notWritten = (to: Path): string =>
  `its new place ${JSON.stringify(pathText(to)).slice(0, 200)} was not written`;

const swapIn = (place: ApplyPlace, swap: Swap, n: number, change: Step): Promise<string | undefined> =>
  swapPath(swap, n, change).catch((thrown: unknown) => {
    throw tellFull(thrown, place.worktree);
  });

/** Swaps what the journal of a folder lists, from the beginning: what is done is passed over. */
const run = async (
  place: ApplyPlace,
  shadow: Shadow,
  folder: string,
  { changes, note }: { changes: readonly Step[]; note: unknown },
): Promise<Application> => {
  const swap = swapOf(place, folder, shadow);
  const whys = new Map<Path, string>();
  const moving = changes.flatMap((change, n) =>
    change.to === undefined ? [] : [{ change, n, to: change.to }],
  );
  for (const [n, change] of changes.entries()) {
    const isStay = change.to !== undefined && whys.has(change.to);
    const failed = isStay ? notWritten(change.to ?? '') : await swapIn(place, swap, n, change);
    if (failed === undefined) continue;
    whys.set(change.path, failed);
    // What had to make room for it goes back before anything else takes its place.
    for (const one of moving) {
      if (one.to !== change.path || one.n > n || whys.has(one.change.path)) continue;
      const why = notWritten(one.to);
      const isBack = await putBack(swap, one.n, one.change, why);
      whys.set(one.change.path, isBack ? why : `${why}; a copy is kept`);
    }
  }
  faultPoint('apply.run');
  const done = changes.flatMap(({ path }) => (whys.has(path) ? [] : [path]));
  const refused = [...whys].map(([path, why]) => ({ path, why }));
  return { note, done, refused, folder, settle: () => settle(folder, changes.length) };
};

/** Folders without an open journal: they never get one again, and there are as many as displaced files are kept. */
const closed = new Set<string>();
const MAX_CLOSED = 20_000;

const noteClosed = (folder: string): void => {
  if (closed.size >= MAX_CLOSED) closed.clear();
  closed.add(folder);
};

/** What was displaced stays; a folder without any goes. */
const settle = async (folder: string, steps: number): Promise<void> => {
  await rename(join(folder, 'journal.json'), join(folder, 'done.json')).catch((thrown: unknown) => {
    if ((thrown as NodeJS.ErrnoException).code !== 'ENOENT') throw thrown;
  });
  noteClosed(folder);
  const names = new Set(await readdir(folder).catch(() => []));
  for (let n = 0; n < steps; n += 1) {
    if (names.has(`new-${n}`))
      await rm(newMark({ root: '', holding: folder, idLength: 0 }, n), { force: true });
  }
  if (![...names].some((name) => name.startsWith('old-'))) await rm(folder, { recursive: true, force: true });
};

const stage = async (place: ApplyPlace, shadow: Shadow, folder: string, steps: readonly Step[]) => {
  const swap = swapOf(place, folder, shadow);
  const staged: Staged[] = steps.flatMap(({ after }, n) =>
    after ? [{ entry: after, path: newMark(swap, n) }] : [],
  );
  const sync = staged.length <= SYNC_EACH_MAX;
  const modeMask = await modeMaskOf(place.worktree);
  await stageBlobs(shadow, staged, { cwd: folder, modeMask, sync, deadlineMs: GIT_DEADLINE_MS });
  if (!sync) await promisify(execFile)('sync', ['-f', folder], { timeout: SYNC_DEADLINE_MS });
};

export const TIME_CHARS = 9;

/** Older applications sort first. */
const newName = (): string =>
  `${Date.now().toString(36).padStart(TIME_CHARS, '0')}-${randomBytes(4).toString('hex')}`;

/** Pairs of paths: what is removed at `from` shall be at `to`. */
export type Move = { from: Path; to: Path };

/**
 * Changes a worktree. A path that is not as `before` says, or that is no path to write to, is refused and left as it
 * is; the others go on. `note` (any JSON) is kept with the journal and comes back from `recoverApplications` when this
 * process dies before `settle`. `held` has ended before anything begins. Throws what it throws, `disk-low` before
 * anything is changed where the new files do not find room, `internal` where the shadow lacks an object.
 */
export const applyChanges = async (
  place: ApplyPlace,
  shadow: Shadow,
  changes: readonly Change[],
  { note, moves, held }: { note: unknown; moves: readonly Move[]; held?: Promise<unknown> },
): Promise<Application> => {
  const target = new Map(moves.map(({ from, to }) => [from, to]));
  const steps = inOrder(
    changes.map(({ path, before, after }) => {
      const to = after ? undefined : target.get(path);
      return { path, before, after, ...(to !== undefined && { to }) };
    }),
  );
  const folder = join(await keepOf(place), newName());
  await makeFolder(folder, 0o700);
  const safe = steps.map((step) => (isSafePath(step.path) ? step : { ...step, after: undefined }));
  try {
    const plain = (entry: Entry | undefined) => entry && { mode: entry.mode, oid: entry.oid };
    const journal = Journal.parse({
      version: 1,
      note,
      changes: steps.map(({ path, before, after, to }) => ({
        path,
        ...(before && { before: plain(before) }),
        ...(after && { after: plain(after) }),
        ...(to !== undefined && { to }),
      })),
    });
    // All of this is on the disk before the journal has its name, in no order.
    await allOf(stage(place, shadow, folder, safe), writeJournal(folder, journal), held);
    faultPoint('apply.staged');
    await openJournal(folder);
  } catch (thrown) {
    await rm(folder, { recursive: true, force: true });
    throw tellFull(thrown, place.worktree);
  }
  faultPoint('apply.journal');
  return run(place, shadow, folder, { changes: steps, note });
};

const readJournal = async (folder: string): Promise<z.infer<typeof Journal> | undefined> => {
  const path = join(folder, 'journal.json');
  const facts = await lstat(path).catch(() => undefined);
  if (!facts?.isFile() || facts.size > MAX_JOURNAL_BYTES) return undefined;
  try {
    return Journal.parse(JSON.parse(await readText(path)));
  } catch {
    // A journal is moved in place whole: this one was written by somebody else.
    return undefined;
  }
};

const isFolder = (path: string): Promise<boolean> =>
  lstat(path).then(
    (facts) => facts.isDirectory(),
    () => false,
  );

/** The folders of all applications, the oldest first. A link among them leads elsewhere, and none of ours is one. */
export const foldersOf = async (place: ApplyPlace): Promise<string[]> => {
  const kept = await keepOf(place);
  const entries = await readdir(kept, { withFileTypes: true });
  return entries
    .filter((entry) => entry.isDirectory())
    .map(({ name }) => join(kept, name))
    .sort();
};

/** Finishes what a process that died had begun, oldest first; the caller settles each. */
export const recoverApplications = async (place: ApplyPlace, shadow: Shadow): Promise<Application[]> => {
  const found: Application[] = [];
  const kept = await keepOf(place);
  for (const name of (await readNames(kept)).sort()) {
    const folder = join(kept, name);
    if (closed.has(folder) || !(await isFolder(folder))) continue;
    const journal = await readJournal(folder);
    if (!journal) {
      await sweepUnbegun(folder);
      noteClosed(folder);
      continue;
    }
    const changes = journal.changes.map(({ path, before, after, to }) => ({
      ...{ path, before, after },
      ...(to !== undefined && { to }),
    }));
    found.push(await run(place, shadow, folder, { changes, note: journal.note }));
  }
  return found;
};

/** A folder whose journal was never written changed nothing. */
const sweepUnbegun = async (folder: string): Promise<void> => {
  const names = await readdir(folder).catch(() => []);
  const isBegun = names.some((name) => name === 'done.json' || name.startsWith('old-'));
  if (!isBegun) await rm(folder, { recursive: true, force: true });
};
