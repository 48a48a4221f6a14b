import { BULK_IN_FLIGHT_BYTES } from './limits.ts';

/**
 * How much bulk one side may have on its way at once: as much as the line takes without making a word wait. Everything
 * that is on its way lies before the next word, and a slow line has buffers for seconds. So while bulk is sent, up or
 * down, the round trip is measured again and again, and what is longer than the shortest one seen was spent behind our
 * own bytes.
 */

export type Pace = {
  /** Bytes that may be under way now. It is asked before each slice of bulk, so an idle line is not measured. */
  windowBytes(): number;
};

const START_BYTES = 128 * 1024;
/** A wait that nobody notices at a terminal. */
const WAIT_MS = 50;
const MEASURE_EVERY_MS = 150;
/** An answer that takes this long counts as this long. */
export const MEASURE_WITHIN_MS = 10_000;
/** One late answer may be the other side's own business; the shortest of a few is the line's. */
const SAMPLES = 2;
/** So late is no answer by another's business: the line became slower, and what is sent meanwhile makes it worse. */
const CERTAIN_MS = 1_000;

/** The next window: cut in proportion when words wait too long, grown step by step when they do not. Pure. */
export const nextWindow = (bytes: number, waitedMs: number): number => {
  const wished = waitedMs > WAIT_MS ? bytes * Math.max(0.25, WAIT_MS / waitedMs) : bytes * 1.25;
  const inSteps = waitedMs > WAIT_MS || waitedMs < WAIT_MS / 2 ? wished : bytes;
  return Math.round(Math.min(BULK_IN_FLIGHT_BYTES.max, Math.max(BULK_IN_FLIGHT_BYTES.min, inSteps)));
};

/** `ping` is one round trip; it may reject, which counts as well. */
export const createPace = (ping: () => Promise<unknown>): Pace => {
  let bytes = START_BYTES;
  let shortestMs = Number.POSITIVE_INFINITY;
  let samples: number[] = [];
  let begunMs = Number.NEGATIVE_INFINITY;
  let underWay = false;

  const measure = async (): Promise<void> => {
    underWay = true;
    begunMs = performance.now();
    await ping().catch(() => undefined);
    underWay = false;
    const tookMs = performance.now() - begunMs;
    shortestMs = Math.min(shortestMs, tookMs);
    samples = tookMs - shortestMs > CERTAIN_MS ? [tookMs] : [...samples, tookMs].slice(-SAMPLES);
    bytes = nextWindow(bytes, Math.min(...samples) - shortestMs);
  };

  return {
    windowBytes: () => {
      const agoMs = performance.now() - begunMs;
      if (!underWay && agoMs >= MEASURE_EVERY_MS) void measure();
      // An answer that is late says that the line became slower, long before it comes.
      const lateMs = underWay && shortestMs < Number.POSITIVE_INFINITY ? agoMs - shortestMs : 0;
      return lateMs > WAIT_MS ? nextWindow(bytes, lateMs) : bytes;
    },
  };
};
