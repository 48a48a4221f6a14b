import { readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import * as z from 'zod';
import type { App } from '../app.ts';
import type { Binding } from '../bindings.ts';
import { isOwnWorktree } from './zone.ts';

/**
 * How far a worktree and its zone are apart, as it was last seen: for prompts and `status`, which ask nobody. It is
 * read from state.json, and only when that has changed: whoever looks at both sides writes it there.
 */

export type Counts = {
  toSend: number;
  toPull: number;
  /** The first path of each conflict, one character per byte. */
  conflicts: string[];
  /** When both sides were compared, in ms since the epoch; undefined: never. */
  seenMs: number | undefined;
};

/** What is read of a zone's state here: a prompt has no time for the rest. */
const Seen = z.object({
  toSend: z.number(),
  toPull: z.number(),
  seenMs: z.number().optional(),
  conflicts: z.array(z.object({ paths: z.array(z.string()) })),
});

const MAX_READ_BYTES = 4 * 1024 * 1024;

type Read = { key: string; counts: Map<string, Counts> };
const read = new Map<string, Read>();

const countsIn = (file: string): Map<string, Counts> => {
  const { zones } = JSON.parse(readFileSync(file, 'utf8'));
  return new Map(
    Object.entries(zones ?? {}).flatMap(([zone, state]) => {
      const seen = Seen.safeParse(state);
      if (!seen.success) return [];
      const { toSend, toPull, seenMs, conflicts } = seen.data;
      return [[zone, { toSend, toPull, seenMs, conflicts: conflicts.map(({ paths }) => paths[0] ?? '') }]];
    }),
  );
};

/** Undefined for the person's own worktree, and where both sides never met. */
export const knownCounts = (binding: Binding): Counts | undefined => {
  if (isOwnWorktree(binding)) return undefined;
  const file = join(binding.gitDir, 'khlone', 'state.json');
  try {
    const { mtimeNs, ino, size } = statSync(file, { bigint: true });
    if (size > MAX_READ_BYTES) return undefined;
    const key = `${mtimeNs}.${ino}.${size}`;
    if (read.get(file)?.key !== key) read.set(file, { key, counts: countsIn(file) });
    return read.get(file)?.counts.get(binding.zone);
  } catch {
    // None yet, or not what khlone wrote: the next exchange says so.
    return undefined;
  }
};

/** Both sides are looked at no more often than this, and for no more than this part of the time. */
const GAP_MS = 5_000;
const PART = 20;
/** Changes come in bursts. */
const SETTLE_MS = 300;

type Looking = { timer?: NodeJS.Timeout; beganMs: number; tookMs: number; isBusy: boolean; again: boolean };
const looking = new WeakMap<App, Map<string, Looking>>();

const lookingAt = (app: App, zone: string): Looking => {
  const mine = looking.get(app) ?? new Map<string, Looking>();
  looking.set(app, mine);
  const made = mine.get(zone) ?? { beganMs: 0, tookMs: 0, isBusy: false, again: false };
  mine.set(zone, made);
  return made;
};

const look = async (app: App, binding: Binding, entry: Looking): Promise<void> => {
  delete entry.timer;
  entry.isBusy = true;
  entry.again = false;
  entry.beganMs = Date.now();
  try {
    const { lookBoth } = await import('./look-both.ts');
    await lookBoth(app, binding);
    app.known.touch(binding.zone);
  } catch {
    // It was a look in passing: a command that needs the zone tells what is wrong.
  } finally {
    entry.tookMs = Date.now() - entry.beganMs;
    entry.isBusy = false;
    if (entry.again) lookSoon(app, binding);
  }
};

/** Compares both sides in the background where the link is up. Cheap to call, however often. */
export const lookSoon = (app: App, binding: Binding): void => {
  if (isOwnWorktree(binding) || !app.link(binding.host).current()) return;
  const entry = lookingAt(app, binding.zone);
  if (entry.isBusy) entry.again = true;
  if (entry.isBusy || entry.timer) return;
  const gapMs = Math.max(GAP_MS, entry.tookMs * PART);
  const waitMs = Math.max(SETTLE_MS, entry.beganMs + gapMs - Date.now());
  entry.timer = setTimeout(() => void look(app, binding, entry), waitMs).unref();
};
