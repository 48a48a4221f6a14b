import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';

/**
 * Asks V8 to look for garbage where much of it lies outside of what V8 measures: bytes that pass through are released
 * only when it does, and by itself it waits for 32 MB of them, or keeps megabytes of one long answer for as long as
 * little else is made.
 */

/** Bytes that pass through before young garbage is looked for: about a millisecond of work each time. */
const YOUNG_BYTES = 8 * 1024 * 1024;
/** A value of this size is looked for when it had time to be used up. */
export const LARGE_BYTES = 1024 * 1024;
const USED_UP_MS = 250;

type Collect = (how: { type: 'minor' | 'major' }) => void;

const exposed = (): Collect => {
  setFlagsFromString('--expose-gc');
  return runInNewContext('gc') as Collect;
};

let collect: Collect | undefined;
let passedBytes = 0;
let isComing = false;

/** Says that buffers of so many bytes were made and are no longer needed. */
export const bytesPassed = (bytes: number): void => {
  passedBytes += bytes;
  if (passedBytes < YOUNG_BYTES) return;
  passedBytes = 0;
  collect ??= exposed();
  collect({ type: 'minor' });
};

/** Says that something of LARGE_BYTES or more is about to be used up. */
export const largePassed = (): void => {
  if (isComing) return;
  isComing = true;
  setTimeout(() => {
    isComing = false;
    collect ??= exposed();
    collect({ type: 'major' });
  }, USED_UP_MS).unref();
};
