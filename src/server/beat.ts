/**
 * What many do shortly after each other is done together. While there is little to do everybody goes at once; where it
 * goes on and on, those who come wait for the next beat and go in common: a commit and its way to each watcher cost
 * the same for one line as for twenty.
 */

export type Beat = {
  /** Undefined: go at once. Else what resolves at the next beat. */
  wait(): Promise<void> | undefined;
};

/** `free`: how many may go at once after a silence; one more may for each `everyMs` that passes. */
export const createBeat = (free: number, everyMs: number): Beat => {
  let left = free;
  let countedMs = performance.now();
  let next: Promise<void> | undefined;

  const count = (): void => {
    const nowMs = performance.now();
    left = Math.min(free, left + (nowMs - countedMs) / everyMs);
    countedMs = nowMs;
  };

  const beat = (): Promise<void> =>
    new Promise((resolve) => {
      const strike = (): void => {
        count();
        left = Math.max(0, left - 1);
        next = undefined;
        resolve();
      };
      setTimeout(strike, Math.ceil((1 - left) * everyMs));
    });

  return {
    wait: () => {
      if (next) return next;
      count();
      if (left < 1) {
        next = beat();
        return next;
      }
      left -= 1;
      return undefined;
    },
  };
};
