import type { Subscribe } from '../../protocol/calls.ts';
import type { Line, Position } from '../journal-lines.ts';
import type { Store } from '../store/store.ts';

/**
 * A watcher that shows a screen has no use for all that a clone prints meanwhile: of what waits for it, it is sent the
 * newest, and the items before that are told as passed over.
 */

/** Items that are looked back over first, and how many times more with each further look. */
const FIRST_LOOK = 32;
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

/**
 * How far a watcher passes over: the sequence number before the newest `newest` bytes of what it is to hear, or `after`
 * where there are no more than those. Looks back from the item `to` over ever more items, for others' may lie between.
 */
export const passOver = async (
  store: Store,
  sub: Subscribe,
  { after, to }: { after: number; to: number },
  hears: (line: Line) => boolean,
): Promise<number> => {
  for (let items = FIRST_LOOK; ; items *= FURTHER) {
    const from = Math.max(after, to - items);
    if (from === after || sub.newest === undefined) return after;
    let bytes = 0;
    for await (const lines of store.lines(sub.zone, from, { n: 0, offset: 0 }))
      for (const line of lines) if (hears(line)) bytes += line.bytes.length;
    if (bytes >= sub.newest) return from;
  }
};
