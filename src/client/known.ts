import { mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { ZoneView } from '../protocol/calls.ts';
import type { Home } from '../protocol/home.ts';
import type { App, Known } from './app.ts';
import type { Binding } from './bindings.ts';
import { knownCounts, lookSoon } from './patches/counts.ts';
import { type IndexRow, removeZoneLine, writeIndex, writeZoneLine, type ZoneLine } from './shell-state.ts';
import { queuedHere } from './zone-status.ts';

/** What was last seen of each zone: in memory, in cache/ for the time off line, and as a line for prompts. */

/** What was last seen reaches the disk within this time, once for many changes. */
const SAVE_WITHIN_MS = 1_000;

const connOf = (app: App, host: string): 'online' | 'offline' | 'connecting' => {
  const state = app.link(host).state();
  // Silent, and not given up: what was known may still hold, and the prompt says that it is not sure.
  if (state === 'connecting' || state === 'suspect' || state === 'racing') return 'connecting';
  return state === 'online' || host === 'local' ? 'online' : 'offline';
};

const sum = (numbers: readonly number[]): number => numbers.reduce((total, n) => total + n, 0);

const apart = (binding: Binding): Pick<ZoneLine, 'patches' | 'conflicts'> => {
  const known = knownCounts(binding);
  return { patches: known?.toPull ?? 0, conflicts: known?.conflicts.length ?? 0 };
};

/** The zone in one line for prompts: what the server said last, and what waits here. */
const lineOf = (app: App, binding: Binding, view: ZoneView | undefined): ZoneLine => ({
  ...apart(binding),
  label: `@${binding.branch}`,
  mode: binding.mode,
  conn: connOf(app, binding.host),
  active: view?.crew.filter((clone) => clone.state === 'active').length ?? 0,
  queued: sum(view?.crew.map((clone) => clone.queued) ?? []) + queuedHere(app, binding.zone),
  attention: view?.attention.length ?? 0,
  epochSeconds: Math.floor(Date.now() / 1000),
});

/** Worktrees that were used last first. */
const indexOf = (app: App): IndexRow[] =>
  app.bindings
    .all()
    .sort((a, b) => b.usedMs - a.usedMs)
    .map(({ root, zone }) => ({ root, key: zone }));

type Seen = { view: ZoneView; atMs: number };

const readSeen = (file: string): Seen | undefined => {
  try {
    const { view, atMs } = JSON.parse(readFileSync(file, 'utf8'));
    return { view: ZoneView.parse(view), atMs: Number(atMs) };
  } catch {
    return undefined;
  }
};

const writeSeen = (file: string, seen: Seen | undefined): void => {
  const temp = `${file}.${process.pid}`;
  writeFileSync(temp, JSON.stringify(seen), { mode: 0o600 });
  renameSync(temp, file);
};

/** These are caches: a full disk may not end the hub or make a receipt look like an error. The next beat tries again. */
const quietly = (write: () => void): void => {
  try {
    write();
  } catch {
    // See above.
  }
};

export const createKnown = (home: Home, appOf: () => App): Known => {
  const views = new Map<string, Seen>();
  const unsaved = new Set<string>();
  let timer: NodeJS.Timeout | undefined;
  const fileOf = (zone: string): string => join(home.cache, `${zone}.json`);

  const get = (zone: string): Seen | undefined => {
    const seen = views.get(zone) ?? readSeen(fileOf(zone));
    if (seen) views.set(zone, seen);
    return seen;
  };

  const touch = (zone: string): void => {
    const app = appOf();
    const binding = app.bindings.byZone(zone);
    if (!binding) return;
    quietly(() => {
      writeIndex(home.root, indexOf(app));
      writeZoneLine(home.root, zone, lineOf(app, binding, get(zone)?.view));
    });
  };

  /** A hub that is killed loses at most a second of what can be asked for again. */
  const save = (): void => {
    timer = undefined;
    quietly(() => {
      mkdirSync(home.cache, { recursive: true, mode: 0o700 });
      for (const zone of unsaved) writeSeen(fileOf(zone), views.get(zone));
      unsaved.clear();
    });
  };

  return {
    get,
    touch,
    put: (view) => {
      views.set(view.id, { view, atMs: Date.now() });
      touch(view.id);
      const binding = appOf().bindings.byZone(view.id);
      if (binding) appOf().auto.hint(binding);
      // Where patches travel by themselves both sides are compared anyway.
      if (binding && !appOf().auto.told(view.id)) lookSoon(appOf(), binding);
      unsaved.add(view.id);
      if (timer === undefined) timer = setTimeout(save, SAVE_WITHIN_MS).unref();
    },
    forget: (zone) => {
      views.delete(zone);
      unsaved.delete(zone);
      rmSync(fileOf(zone), { force: true });
      removeZoneLine(home.root, zone);
      writeIndex(home.root, indexOf(appOf()));
    },
  };
};
