import { type CloneLoop, type LoopDeps, startCloneLoop } from './clone-loop.ts';
import { forClone } from './environment.ts';
import { createPlaces, hostPlaces } from './places.ts';
import type { Environment } from './prepare.ts';
import type { Store } from './store/store.ts';

/** What lives in the server's memory: the loops of all clones, the environments that must not reach a disk, and places. */

export type Hall = {
  store: Store;
  /** Starts the clone's loop if it has none, and lets it look at its queue, once per turn of the event loop. */
  wake(clone: number): void;
  /** Ends a clone's loop and run. Its next loop, if it is woken meanwhile, begins only when this one has ended. */
  dismiss(clone: number): Promise<void>;
  environmentOf(zone: string): Environment | undefined;
  setEnvironment(zone: string, environment: Environment): void;
  forgetEnvironment(zone: string): void;
  /** Ends every loop; none begins after it. Answers how many there were, or throws once all have ended as far as they can. */
  stop(keep: boolean): Promise<number>;
};

/** Environments of more zones than this are forgotten, oldest first: their tasks then ask for them again. */
const MAX_ENVIRONMENTS = 1_000;

export type HallDeps = Omit<LoopDeps, 'environmentOf' | 'takePlace'> & {
  /** What a clone of an ssh zone gets when nothing was sent: this machine's own. */
  baseEnvironment: Environment;
};

/** The loops of clones: at most one per clone at any moment, or two would drive one process. */
const createLoops = (deps: LoopDeps) => {
  const loops = new Map<number, CloneLoop>();
  const leaving = new Map<number, Promise<void>>();
  const woken = new Set<number>();
  const wokenWhileLeaving = new Set<number>();
  let closed = false;

  const wakeNow = (clone: number): void => {
    if (closed) return;
    if (leaving.has(clone)) {
      wokenWhileLeaving.add(clone);
      return;
    }
    const loop = loops.get(clone);
    if (loop) loop.wake();
    else loops.set(clone, startCloneLoop(deps, clone));
  };
  const wakeAll = (): void => {
    const all = [...woken];
    woken.clear();
    for (const clone of all) wakeNow(clone);
  };
  const wake = (clone: number): void => {
    // Two turns later: the answer to whoever woke it leaves first.
    if (woken.size === 0) setImmediate(() => setImmediate(wakeAll));
    woken.add(clone);
  };
  const leave = async (clone: number, loop: CloneLoop): Promise<void> => {
    try {
      await loop.stop('now');
    } finally {
      loops.delete(clone);
      leaving.delete(clone);
      if (wokenWhileLeaving.delete(clone)) wake(clone);
    }
  };
  const dismiss = (clone: number): Promise<void> => {
    const loop = loops.get(clone);
    if (!loop) return Promise.resolve();
    const already = leaving.get(clone);
    if (already) return already;
    const left = leave(clone, loop);
    leaving.set(clone, left);
    return left;
  };
  const stop = async (keep: boolean): Promise<number> => {
    closed = true;
    const all = [...loops.values()];
    const ends = await Promise.allSettled(all.map((loop) => loop.stop(keep ? 'keep' : 'gracefully')));
    // Told only now: the process goes soon after, and whatever has not ended by then would outlive it.
    const fault = ends.find((end) => end.status === 'rejected');
    if (fault) throw fault.reason;
    return all.length;
  };
  return { wake, dismiss, stop };
};

export const createHall = (deps: HallDeps): Hall => {
  const environments = new Map<string, Environment>();
  const environmentOf = (zone: string): Environment | undefined => environments.get(zone);
  const loops = createLoops({
    ...deps,
    takePlace: createPlaces(hostPlaces()),
    environmentOf: (zone) => {
      const given = environments.get(zone.id);
      if (zone.mode === 'local') return given;
      return given && { ...deps.baseEnvironment, ...given };
    },
  });

  return {
    store: deps.store,
    environmentOf,
    setEnvironment: (zone, environment) => {
      environments.delete(zone);
      environments.set(zone, forClone(environment));
      const oldest = environments.keys().next();
      if (environments.size > MAX_ENVIRONMENTS && !oldest.done) environments.delete(oldest.value);
    },
    forgetEnvironment: (zone) => void environments.delete(zone),
    ...loops,
  };
};
