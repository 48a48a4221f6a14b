import { availableParallelism, totalmem } from 'node:os';

/** The host's places for clones that work at once. */

/** Beyond it processor and memory are the limit, and tasks wait. */
export const hostPlaces = (): number =>
  Math.max(2, Math.min(availableParallelism() * 4, Math.floor(totalmem() / 2 ** 30), 16));

/** Waits for a place, first come first served; the answer gives it back. Undefined when `signal` aborts first. */
export type TakePlace = (signal: AbortSignal) => Promise<(() => void) | undefined>;

export const createPlaces = (most: number): TakePlace => {
  let free = most;
  const waiting = new Set<() => void>();

  const give = (): void => {
    const [next] = waiting;
    if (next) next();
    else free += 1;
  };
  const giveOnce = (): (() => void) => {
    let given = false;
    return () => {
      if (!given) give();
      given = true;
    };
  };
  return async (signal) => {
    if (signal.aborted) return undefined;
    if (free > 0) {
      free -= 1;
      return giveOnce();
    }
    const got = await new Promise<boolean>((resolve) => {
      const leave = (taken: boolean): void => {
        waiting.delete(onPlace);
        signal.removeEventListener('abort', onAbort);
        resolve(taken);
      };
      const onPlace = (): void => leave(true);
      const onAbort = (): void => leave(false);
      waiting.add(onPlace);
      signal.addEventListener('abort', onAbort);
    });
    return got ? giveOnce() : undefined;
  };
};
