import { createCipheriv, createDecipheriv, randomFillSync } from 'node:crypto';

/**
 * What ssh2's packets are made of, made ready before it is needed. With GCM each packet has a cipher object of its own,
 * and on a line that was still for a while, as it is between two keys, making one costs 0.15 ms and the padding's random
 * bytes 0.07. The bundle gives these to ssh2 in the place of Node's own; see build.ts.
 */

export { createHmac, timingSafeEqual } from 'node:crypto';

/** In GCM the last eight of twelve bytes count the packets (RFC 5647, 7.1). */
const COUNTER = { from: 4, to: 12 } as const;

const following = (iv: Uint8Array): Buffer => {
  const next = Buffer.from(iv);
  for (let at = COUNTER.to - 1; at >= COUNTER.from; at -= 1) {
    next[at] = (next[at] ?? 0) + 1;
    if (next[at] !== 0) break;
  }
  return next;
};

type Make<C> = (name: string, key: Uint8Array, iv: Uint8Array) => C;

/** A turn later: in this one, what came with the packet is still to be passed on. */
const prepare = (work: () => void): void => void setImmediate(() => setImmediate(work));

/** Of one key: the object for the packet that comes next, or its place where it is not made yet. */
type Ready<C> = { iv: Buffer; made?: C };

/**
 * Answers as `make` does. One object a key is made ahead, once a turn of the event loop: a packet that finds none for
 * its own key and counter gets a new one, so nothing can be sealed with another's.
 */
const madeAhead = <C>(make: Make<C>): Make<C> => {
  const ready = new WeakMap<Uint8Array, Ready<C>>();
  return (name, key, iv) => {
    if (!name.endsWith('-gcm') || iv.length !== COUNTER.to) return make(name, key, iv);
    const kept = ready.get(key);
    const next: Ready<C> = { iv: following(iv) };
    ready.set(key, next);
    prepare(() => {
      if (ready.get(key) === next) next.made = make(name, key, next.iv);
    });
    return kept?.made && kept.iv.equals(iv) ? kept.made : make(name, key, iv);
  };
};

const cipherAhead = madeAhead(createCipheriv);
const decipherAhead = madeAhead(createDecipheriv);

export { cipherAhead as createCipheriv, decipherAhead as createDecipheriv };

const POOL_BYTES = 4096;
let pool = Buffer.alloc(0);

/** Fills a part of `into` with random bytes, each given once; small parts come from a pool. */
const fillFromPool = (into: Buffer, offset: number, size: number): Buffer => {
  if (size > POOL_BYTES / 16) return randomFillSync(into, offset, size);
  if (pool.length < size) pool = randomFillSync(Buffer.alloc(POOL_BYTES));
  pool.copy(into, offset, 0, size);
  pool = pool.subarray(size);
  return into;
};

export { fillFromPool as randomFillSync };
