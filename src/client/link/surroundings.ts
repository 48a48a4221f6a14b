import { networkInterfaces } from 'node:os';

/**
 * Notices what breaks connections without a word: the machine slept, or it stands on another network. One look a
 * second, a fraction of a millisecond each.
 */

export type Surroundings = {
  /** Looks from now on; once is enough. */
  watch(): void;
  stop(): void;
};

const LOOK_EVERY_MS = 1_000;
/** A clock that went on by this much between two looks was not ours to see: the machine slept, or we were stopped. */
const SLEPT_MS = 3_000;

/** The addresses of this machine that lead elsewhere, in one word. */
export const addresses = (): string => {
  try {
    return Object.entries(networkInterfaces())
      .flatMap(([name, all]) => (all ?? []).filter((a) => !a.internal).map((a) => `${name}/${a.address}`))
      .sort()
      .join(' ');
  } catch {
    return '';
  }
};

/** `read` gives the addresses, `onShift` is told that connections may be dead. */
export const createSurroundings = (onShift: () => void, read: () => string = addresses): Surroundings => {
  let timer: NodeJS.Timeout | undefined;
  let lookedMs = 0;
  let seen = '';

  const look = (): void => {
    const now = Date.now();
    const slept = Math.abs(now - lookedMs) > SLEPT_MS;
    const found = read();
    const moved = found !== seen;
    lookedMs = now;
    seen = found;
    if (slept || moved) onShift();
  };

  return {
    watch: () => {
      if (timer) return;
      lookedMs = Date.now();
      seen = read();
      timer = setInterval(look, LOOK_EVERY_MS);
      timer.unref();
    },
    stop: () => {
      clearInterval(timer);
      timer = undefined;
    },
  };
};
