import { asKhloneError } from '../../protocol/error.ts';
import type { App } from '../app.ts';
import type { Binding } from '../bindings.ts';
import { loadSiteConfig } from '../site-config.ts';
import { readUserConfig } from '../user-config.ts';
import { createTreeWatch } from './watch-tree.ts';
import { isOwnWorktree } from './zone.ts';

/**
 * Continuous patches, both ways, in the hub. Hints say when to look: a directory changed here, a task changed there.
 * Each look is a whole pull and a whole sync, one after the other, so a hint that was missed costs time and no work.
 * What would stop a command pauses it, with its reason in `status`; it goes on by itself once that is over.
 */

export type AutoTold = {
  /** Why nothing travels at the moment. */
  paused?: string;
  /** Pulled files that something runs by itself, until the next pull by hand. */
  lookAt: { path: string; why: string }[];
};

export type Auto = {
  /** Something may have changed; begins where the zone's settings ask for it. Cheap to call, however often. */
  hint(binding: Binding): void;
  /** Begins at once. */
  start(binding: Binding): void;
  /** Resolves when nothing travels by itself any more. */
  stop(zone: string): Promise<void>;
  /** Undefined where patches of the zone do not travel by themselves. */
  told(zone: string): AutoTold | undefined;
  /** A person pulled, and saw what came. */
  seen(zone: string): void;
  close(): void;
};

/** A change waits for quiet, and no longer than this. */
export const QUIET_MS = 300;
const LONGEST_MS = 2_000;
/** Everything is looked at this often, whatever hints there were. */
const SLOW_MS = 60_000;
/** Settings are read again no more often than this while nothing travels. */
const CONSIDER_MS = 5_000;
const MAX_LOOK_AT = 20;

/** Whether the zone's patches travel by themselves: by command, by khlone.yml, by the person's own settings. */
export const wantsAuto = async (app: App, binding: Binding): Promise<boolean> => {
  if (isOwnWorktree(binding)) return false;
  if (binding.auto !== undefined) return binding.auto;
  const { sync } = await loadSiteConfig(binding.root);
  if (sync.autoGiven) return sync.auto;
  return (await readUserConfig(app.home.root))['auto-sync'] ?? false;
};

/** One zone whose patches travel by themselves. */
type Runner = { soon(): void; told(): AutoTold; seen(): void; close(): Promise<void> };

/** Looks at hints and now and then, one look at a time. `onGone`: the zone is gone, or wants it no more. */
const createRunner = (app: App, { zone, root }: Binding, onGone: () => void): Runner => {
  let timer: NodeJS.Timeout | undefined;
  /** When the first hint came that waits. */
  let sinceMs: number | undefined;
  let busy: Promise<void> | undefined;
  let isClosed = false;
  /** What the hints since the last look were: an edit here, the time for all. */
  let [isEdited, isSlow] = [false, true];
  let told: AutoTold = { lookAt: [] };

  const look = async (): Promise<void> => {
    const binding = app.bindings.byZone(zone);
    if (!binding || !(await wantsAuto(app, binding))) return onGone();
    const whence = isEdited ? 'here' : 'there';
    const isWhole = isSlow;
    [isEdited, isSlow] = [false, false];
    // Before the look: what changes from here on is a hint for the next one, in folders of this moment too.
    await watch.update(isWhole);
    const { exchangeOnce } = await import('./auto-step.ts');
    const { paused, flags } = await exchangeOnce(app, binding, whence);
    const lookAt = [...told.lookAt, ...flags].slice(-MAX_LOOK_AT);
    told = { lookAt, ...(paused !== undefined && { paused }) };
  };

  const round = async (): Promise<void> => {
    sinceMs = undefined;
    await look().catch((thrown: unknown) => {
      told = { ...told, paused: asKhloneError(thrown).message };
    });
    busy = undefined;
    app.known.touch(zone);
    if (sinceMs !== undefined) soon();
  };

  const soon = (): void => {
    const now = performance.now();
    sinceMs ??= now;
    if (busy || isClosed) return;
    clearTimeout(timer);
    const waitMs = Math.max(0, Math.min(QUIET_MS, sinceMs + LONGEST_MS - now));
    timer = setTimeout(() => {
      busy = round();
    }, waitMs).unref();
  };

  const watch = createTreeWatch(root, () => {
    isEdited = true;
    soon();
  });
  const slow = setInterval(() => {
    isSlow = true;
    soon();
  }, SLOW_MS).unref();
  return {
    soon,
    told: () => told,
    seen: () => {
      told = { ...told, lookAt: [] };
    },
    close: () => {
      isClosed = true;
      clearTimeout(timer);
      clearInterval(slow);
      watch.close();
      return busy ?? Promise.resolve();
    },
  };
};

export const createAuto = (appOf: () => App): Auto => {
  const runners = new Map<string, Runner>();
  const considered = new Map<string, number>();

  const stop = async (zone: string): Promise<void> => {
    const runner = runners.get(zone);
    runners.delete(zone);
    await runner?.close();
  };

  const start = (binding: Binding): void => {
    const { zone, host } = binding;
    if (isOwnWorktree(binding)) return;
    const runner = runners.get(zone) ?? createRunner(appOf(), binding, () => void stop(zone));
    runners.set(zone, runner);
    if (!appOf().link(host).current()) appOf().redial.soon(host);
    runner.soon();
  };

  const consider = async (binding: Binding): Promise<void> => {
    const last = considered.get(binding.zone) ?? Number.NEGATIVE_INFINITY;
    if (isOwnWorktree(binding) || performance.now() - last < CONSIDER_MS) return;
    considered.set(binding.zone, performance.now());
    if (await wantsAuto(appOf(), binding)) start(binding);
  };

  return {
    hint: (binding) => {
      const runner = runners.get(binding.zone);
      if (runner) runner.soon();
      else void consider(binding).catch(() => {});
    },
    start,
    stop,
    told: (zone) => runners.get(zone)?.told(),
    seen: (zone) => runners.get(zone)?.seen(),
    close: () => {
      for (const zone of [...runners.keys()]) void stop(zone);
    },
  };
};
