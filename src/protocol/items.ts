import type { Body } from './body.ts';
import { KhloneError } from './error.ts';
import { ITEM_BYTES } from './limits.ts';

/**
 * Items of a subscription as a body: one JSON value per line. Its source gives an item, or several as the bytes of
 * their lines, line breaks included. Such bytes travel as they are, in one piece that wakes its reader once, and need
 * to hold only until the next are asked for.
 */

const LF = 0x0a;

/** What a source gave, item by item. */
export const apart = (given: unknown): readonly unknown[] =>
  given instanceof Uint8Array
    ? Buffer.from(given)
        .toString('utf8')
        .split('\n')
        .flatMap((line) => (line === '' ? [] : [JSON.parse(line)]))
    : [given];

/** A body of items. The source is pulled only while the reader has credit; it is ended by return(). */
export async function* items(source: AsyncIterable<unknown>): Body & AsyncGenerator<Uint8Array> {
  for await (const given of source)
    yield given instanceof Uint8Array ? given : Buffer.from(`${JSON.stringify(given ?? null)}\n`);
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
