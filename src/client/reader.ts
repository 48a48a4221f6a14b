import { asKhloneError } from '../protocol/error.ts';
import type { Caller } from './caller.ts';

/** Whoever reads a long output: it comes at their pace, and ends when they have gone (`| head`). */

/** How often somebody who prints much asks whether anybody reads: each time is a way to the caller and back. */
const ASK_EVERY_MS = 200;

/** Whether anybody reads what was said. A terminal that a person stopped for long is still read some day. */
export const printed = (caller: Caller): Promise<boolean> =>
  caller.printed().catch((thrown: unknown) => {
    if (asKhloneError(thrown).code === 'timeout') return true;
    throw thrown;
  });

export const createReader = (caller: Caller) => {
  let askedMs = Number.NEGATIVE_INFINITY;
  return {
    /** Waits until the reader has caught up, more or less; false when it has gone. */
    reads: async (): Promise<boolean> => {
      await caller.drained();
      if (performance.now() - askedMs < ASK_EVERY_MS) return true;
      const reads = await printed(caller);
      askedMs = performance.now();
      return reads;
    },
  };
};
