import { lstat, readdir, readFile, rm, stat } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { type ApplyPlace, foldersOf, Journal, TIME_CHARS } from './apply.ts';
import type { Path } from './listing.ts';
import { oldMark } from './swap.ts';

/** What applications displaced: copies that are kept for a time, in the folder of each application. */

/** A displaced file: what stood at `path` before an application, and where it lies now. */
export type Displaced = { path: Path; kept: string };

/** What an application displaced. */
export const displacedIn = async (folder: string): Promise<Displaced[]> => {
  const text = await readFile(join(folder, 'done.json'), 'utf8').catch(() => undefined);
  const journal = text === undefined ? undefined : Journal.safeParse(JSON.parse(text)).data;
  const names = new Set(await readdir(folder).catch(() => []));
  return (journal?.changes ?? []).flatMap(({ path }, n) =>
    names.has(`old-${n}`) ? [{ path, kept: oldMark({ root: '', holding: folder, idLength: 0 }, n) }] : [],
  );
};

/** Applications that displaced something, the latest first: the folder's name is its id, and it begins with the time. */
export const displacedFolders = async (
  place: ApplyPlace,
): Promise<{ id: string; atMs: number; files: Displaced[] }[]> => {
  const found = await Promise.all(
    (await foldersOf(place)).map(async (folder) => ({
      id: basename(folder),
      atMs: Number.parseInt(basename(folder).slice(0, TIME_CHARS), 36),
      files: await displacedIn(folder),
    })),
  );
  return found.filter(({ files }) => files.length > 0).reverse();
};

/** Displaced files are kept this long, and up to this much of them. */
export const DISPLACED_KEPT = { ms: 7 * 24 * 3600_000, bytes: 500_000_000 } as const;

/** Every exchange asks for a sweep, and each looks at all that is kept: so often is enough. */
const SWEEP_EACH_MS = 60_000;
const lastSweeps = new Map<string, number>();
const MAX_SWEEPS = 1_000;

/** Removes the displaced files that are past their time, the oldest first, at most once a minute. */
export const sweepDisplaced = async (place: ApplyPlace, nowMs: number): Promise<void> => {
  if (Math.abs(nowMs - (lastSweeps.get(place.keep) ?? 0)) < SWEEP_EACH_MS) return;
  if (lastSweeps.size >= MAX_SWEEPS) lastSweeps.clear();
  lastSweeps.set(place.keep, nowMs);
  let bytes = 0;
  for (const folder of (await foldersOf(place)).reverse()) {
    const facts = await stat(join(folder, 'done.json')).catch(() => undefined);
    if (!facts) continue;
    for (const name of await readdir(folder)) {
      bytes += (await lstat(join(folder, name)).catch(() => undefined))?.size ?? 0;
    }
    if (nowMs - facts.mtimeMs > DISPLACED_KEPT.ms || bytes > DISPLACED_KEPT.bytes) {
      await rm(folder, { recursive: true, force: true });
    }
  }
};
