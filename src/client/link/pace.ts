import { BULK_IN_FLIGHT_BYTES } from '../../protocol/limits.ts';
import type { CallOptions, Peer } from '../../protocol/peer.ts';

/**
 * How much of an upload may be on its way at once: as much as the line takes without making a word wait. Everything
 * that is on its way lies before the next word, and a slow line has buffers for seconds. So while bulk is sent, the
 * round trip is measured again and again, and what is longer than the shortest one seen was spent behind our own bytes.
 */

export type Pace = {
  /** Bytes that may be under way now. */
  windowBytes(): number;
  /** The same peer, whose uploads are paced. */
  over(peer: Peer): Peer;
};

const START_BYTES = 128 * 1024;
/** A wait that nobody notices at a terminal. */
const WAIT_MS = 50;
const MEASURE_EVERY_MS = 150;
const ANSWER_WITHIN_MS = 10_000;
/** One late answer may be the server's own business; the shortest of a few is the line's. */
const SAMPLES = 2;

/** The next window: cut in proportion when words wait too long, grown step by step when they do not. Pure. */
export const nextWindow = (bytes: number, waitedMs: number): number => {
  const wished = waitedMs > WAIT_MS ? bytes * Math.max(0.25, WAIT_MS / waitedMs) : bytes * 1.25;
  const inSteps = waitedMs > WAIT_MS || waitedMs < WAIT_MS / 2 ? wished : bytes;
  return Math.round(Math.min(BULK_IN_FLIGHT_BYTES.max, Math.max(BULK_IN_FLIGHT_BYTES.min, inSteps)));
};

const isBulk = (options: CallOptions | undefined): boolean =>
  options?.body !== undefined && options.klass !== 'interactive';

export const createPace = (): Pace => {
  let bytes = START_BYTES;
  let shortestMs = Number.POSITIVE_INFINITY;
  let uploads = 0;
  let timer: NodeJS.Timeout | undefined;
  let samples: number[] = [];

  const measure = async (peer: Peer): Promise<void> => {
    const begun = performance.now();
    try {
      await peer.call('$/ping', {}, { timeoutMs: ANSWER_WITHIN_MS });
    } catch {
      return;
    }
    const tookMs = performance.now() - begun;
    shortestMs = Math.min(shortestMs, tookMs);
    samples = [...samples, tookMs].slice(-SAMPLES);
    bytes = nextWindow(bytes, Math.min(...samples) - shortestMs);
  };

  const keepMeasuring = (peer: Peer): void => {
    if (timer || uploads === 0) return;
    timer = setTimeout(() => {
      void measure(peer).finally(() => {
        timer = undefined;
        keepMeasuring(peer);
      });
    }, MEASURE_EVERY_MS);
    timer.unref();
  };

  return {
    windowBytes: () => bytes,
    over: (peer) => ({
      ...peer,
      call: async (method, params, options) => {
        if (!isBulk(options)) return peer.call(method, params, options);
        uploads += 1;
        // The first measure, before our own bytes are on the line, is what the others are held against.
        void measure(peer);
        keepMeasuring(peer);
        try {
          return await peer.call(method, params, options);
        } finally {
          uploads -= 1;
        }
      },
    }),
  };
};
