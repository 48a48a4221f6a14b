import type { Subscribe } from '../../protocol/calls.ts';
import type { Line, Position } from '../journal-lines.ts';
import type { Store } from '../store/store.ts';

/**
 * A watcher that shows a screen has no use for all that a clone prints meanwhile: of what waits for it, it is sent the
 * newest, and the items before that are told as passed over.
 */

/** Items that are looked back over first, and how many times more with each further look. */
const FIRST_LOOK = 4;
const FURTHER = 2;

/** Bytes of a zone's journal that lie behind a position. */
const bytesBehind = (store: Store, zone: string, { n, offset }: Position): number =>
  store
    .segments(zone)
    .filter((segment) => segment.n >= n)
    .reduce((sum, segment) => sum + segment.length, -offset);

/** Whether a watcher that takes only the newest is so far behind that a look back is worth its while. */
export const isFarBehind = (store: Store, { zone, newest }: Subscribe, position: Position): boolean =>
  newest !== undefined && bytesBehind(store, zone, position) > 2 * newest;

/** Where the last `newest` bytes begin of what lines hold that are heard, to the block; undefined: there are fewer. */
const newestIn = async (
  blocks: AsyncIterable<readonly Line[]>,
  newest: number,
  hears: (line: Line) => boolean,
): Promise<number | undefined> => {
  const kept: { before: number; bytes: number }[] = [];
  let sum = 0;
  for await (const lines of blocks) {
    const [first] = lines;
    const bytes = lines.reduce((all, line) => (hears(line) ? all + line.bytes.length : all), 0);
    if (!first || bytes === 0) continue;
    kept.push({ before: first.seq - 1, bytes });
    sum += bytes;
    for (let [oldest] = kept; oldest && sum - oldest.bytes >= newest; [oldest] = kept) {
      sum -= oldest.bytes;
      kept.shift();
    }
  }
  return sum >= newest ? kept[0]?.before : undefined;
};

/**
 * How far a watcher passes over: the sequence number before the newest `newest` bytes of what it is to hear, or `after`
 * where there are no more than those. Looks back from the item `to` over ever more items, for others' may lie between.
 */
export const passOver = async (
  store: Store,
  { zone, newest }: Subscribe,
  { after, to }: { after: number; to: number },
  hears: (line: Line) => boolean,
): Promise<number> => {
  if (newest === undefined) return after;
  for (let items = FIRST_LOOK; ; items *= FURTHER) {
    const from = Math.max(after, to - items);
    const found = await newestIn(store.lines(zone, from, { n: 0, offset: 0 }), newest, hears);
    if (found !== undefined || from === after) return found ?? after;
  }
};
