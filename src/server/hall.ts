import { availableParallelism, totalmem } from 'node:os';
import { type CloneLoop, type LoopDeps, startCloneLoop } from './clone-loop.ts';
import type { Environment } from './prepare.ts';
import type { Store } from './store/store.ts';

/** What lives in the server's memory: the loops of all clones, the environments that must not reach a disk, and places. */

export type Hall = {
  store: Store;
  /** Starts the clone's loop if it has none, and lets it look at its queue. */
  wake(clone: number): void;
  /** Ends a clone's loop and run. */
  dismiss(clone: number): Promise<void>;
  environmentOf(zone: string): Environment | undefined;
  setEnvironment(zone: string, environment: Environment): void;
  forgetEnvironment(zone: string): void;
  stop(keep: boolean): Promise<number>;
};

/** Clones that may work at once on one host: beyond it processor and memory are the limit, and tasks wait. */
const hostPlaces = (): number =>
  Math.max(2, Math.min(availableParallelism() * 4, Math.floor(totalmem() / 2 ** 30), 16));

/** Environments of more zones than this are forgotten, oldest first: their tasks then ask for them again. */
const MAX_ENVIRONMENTS = 1_000;

export const createPlaces = (most: number): (() => Promise<() => void>) => {
  let free = most;
  const waiting: (() => void)[] = [];
  const give = (): void => {
    const next = waiting.shift();
    if (next) next();
    else free += 1;
  };
  const once = (): (() => void) => {
    let given = false;
    return () => {
      if (!given) give();
      given = true;
    };
  };
  return async () => {
    if (free > 0) free -= 1;
    else await new Promise<void>((resolve) => waiting.push(resolve));
    return once();
  };
};

export type HallDeps = Omit<LoopDeps, 'environmentOf' | 'takePlace'> & {
  /** What a clone of an ssh zone gets when nothing was sent: this machine's own. */
  baseEnvironment: Environment;
};

export const createHall = (deps: HallDeps): Hall => {
  const environments = new Map<string, Environment>();
  const loops = new Map<number, CloneLoop>();
  const takePlace = createPlaces(hostPlaces());

  const environmentOf = (zone: string): Environment | undefined => environments.get(zone);
  const loopDeps: LoopDeps = {
    ...deps,
    takePlace,
    environmentOf: (zone) => {
      const given = environments.get(zone.id);
      if (zone.mode === 'local') return given;
      return given && { ...deps.baseEnvironment, ...given };
    },
  };

  return {
    store: deps.store,
    environmentOf,
    setEnvironment: (zone, environment) => {
      environments.delete(zone);
      environments.set(zone, environment);
      const oldest = environments.keys().next();
      if (environments.size > MAX_ENVIRONMENTS && !oldest.done) environments.delete(oldest.value);
    },
    forgetEnvironment: (zone) => void environments.delete(zone),
    wake: (clone) => {
      const loop = loops.get(clone);
      if (loop) loop.wake();
      else loops.set(clone, startCloneLoop(loopDeps, clone));
    },
    dismiss: async (clone) => {
      const loop = loops.get(clone);
      loops.delete(clone);
      await loop?.stop(false);
    },
    stop: async (keep) => {
      const all = [...loops.values()];
      loops.clear();
      await Promise.all(all.map((loop) => loop.stop(keep)));
      return all.length;
    },
  };
};
