/**
 * Those who look on give way to those who work. While a clone prints faster than it is read, all who watch share a part
 * of the bytes that are read of clones, in turns: what they do not get now lies in the journal, and they have it when
 * the clone pauses. A few words pass at all times, and where nothing floods nobody waits.
 */

/** A flood is over when nothing was said of it for this long. */
const OVER_MS = 25;
/** Of each byte that a flood brings, what all watchers may be sent together: a tenth of the server's time, more or less. */
const SHARE = 1 / 8;
/** What was left over for a while is no right to more than this at once. */
const MOST_SAVED_BYTES = 256 * 1024;
/** Pieces up to this pass: the words of another clone. */
export const WORDS_BYTES = 16 * 1024;

let floodMs = Number.NEGATIVE_INFINITY;
let bytesLeft = 0;
let timer: NodeJS.Timeout | undefined;
/** As many as there are watchers at most. */
const waiting: { bytes: number; go: () => void }[] = [];

const isFlood = (): boolean => performance.now() - floodMs < OVER_MS;

const serve = (): void => {
  clearTimeout(timer);
  timer = undefined;
  const isFree = !isFlood();
  while (isFree || bytesLeft > 0) {
    const next = waiting.shift();
    if (!next) return;
    bytesLeft -= next.bytes;
    next.go();
  }
  if (waiting.length > 0) timer = setTimeout(serve, OVER_MS);
};

/** Says that so many bytes of a clone were read, and that more lay ready. */
export const flooded = (bytes: number): void => {
  if (!isFlood()) bytesLeft = 0;
  floodMs = performance.now();
  bytesLeft = Math.min(MOST_SAVED_BYTES, bytesLeft + bytes * SHARE);
  serve();
};

/** Resolves when a watcher may be sent so many bytes, or when it leaves, and its place with it; undefined: at once. */
export const giveWay = (bytes: number, signal: AbortSignal): Promise<void> | undefined => {
  if (bytes <= WORDS_BYTES || signal.aborted || !isFlood()) return undefined;
  return new Promise((resolve) => {
    const go = (): void => {
      signal.removeEventListener('abort', leave);
      resolve();
    };
    const place = { bytes, go };
    const leave = (): void => {
      waiting.splice(waiting.indexOf(place), 1);
      resolve();
    };
    signal.addEventListener('abort', leave, { once: true });
    waiting.push(place);
    if (waiting.length === 1) serve();
  });
};
