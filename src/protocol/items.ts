import type { Body } from './body.ts';
import { KhloneError } from './error.ts';
import { ITEM_BYTES } from './limits.ts';

/** Items of a subscription as a body: one JSON value per line. */

const LF = 0x0a;

const ALL = Symbol('items that travel together');
type Together = { [ALL]: readonly unknown[] };

/** Items that are there at once: they travel in one piece, and wake their reader once. */
export const together = (all: readonly unknown[]): Together => ({ [ALL]: all });

/** What a source gave, item by item. */
export const apart = (given: unknown): readonly unknown[] =>
  given !== null && typeof given === 'object' && ALL in given ? (given as Together)[ALL] : [given];

const lineOf = (item: unknown): string => `${JSON.stringify(item ?? null)}\n`;

/** A body of items. The source is pulled only while the reader has credit; it is ended by return(). */
export async function* items(source: AsyncIterable<unknown>): Body & AsyncGenerator<Uint8Array> {
  for await (const given of source) yield Buffer.from(apart(given).map(lineOf).join(''));
}

const parseItem = (line: Buffer): unknown => {
  try {
    return JSON.parse(line.toString('utf8'));
  } catch {
    throw new KhloneError('parse-error', 'an item of a subscription is no JSON');
  }
};

/** The items in a body. Throws `parse-error` on a bad line, `too-large` on one over ITEM_BYTES. */
export async function* readItems(body: Body): AsyncGenerator<unknown> {
  let begun: Buffer[] = [];
  let begunBytes = 0;
  for await (const piece of body) {
    const bytes = Buffer.from(piece.buffer, piece.byteOffset, piece.byteLength);
    let at = 0;
    for (let end = bytes.indexOf(LF); end >= 0; end = bytes.indexOf(LF, at)) {
      const line = bytes.subarray(at, end);
      at = end + 1;
      if (begunBytes + line.length > ITEM_BYTES)
        throw new KhloneError('too-large', 'an item is over its limit');
      yield parseItem(begunBytes ? Buffer.concat([...begun, line]) : line);
      begun = [];
      begunBytes = 0;
    }
    if (at === bytes.length) continue;
    begun.push(bytes.subarray(at));
    begunBytes += bytes.length - at;
    if (begunBytes > ITEM_BYTES) throw new KhloneError('too-large', 'an item is over its limit');
  }
  if (begunBytes) throw new KhloneError('parse-error', 'a subscription ended within an item');
}
