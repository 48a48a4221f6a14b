import type { Klass } from './body.ts';
import { KhloneError } from './error.ts';
import { encodeFrame, HEADER_BYTES } from './frame.ts';
import { CREDIT_STEP_BYTES, SLICE_BYTES, WINDOW_BYTES } from './limits.ts';
import { finish, isHungry, type Outgoing, resetFrame, sliceOf } from './outgoing.ts';

/** All bodies on their way out, and whose turn it is: interactive before bulk, within a class in turn. */
export type Lanes = {
  add(out: Outgoing): void;
  /** The next frame that may go now. */
  next(): Buffer | undefined;
  /** Bodies whose sources should be asked. */
  hungry(): Outgoing[];
  /** The reader of a body took bytes. */
  credit(stream: number, bytes: number): void;
  /** The other side holds so many more body bytes, read or not. */
  receipt(bytes: number): void;
  /** Forget a body and end its source. False: it was over already. */
  drop(stream: number): boolean;
  dropAll(): void;
  size(): number;
};

/**
 * An interactive body that has more than this on its way is a flood: it still goes before bulk, but its bytes lie before
 * the next key press like any others. Its reader tells in steps what it took, so a little is always open.
 */
const LIGHT_BYTES = 2 * CREDIT_STEP_BYTES;

const isLight = ({ klass, creditBytes }: Outgoing): boolean =>
  klass === 'interactive' && WINDOW_BYTES.interactive - creditBytes < LIGHT_BYTES;

/**
 * `bulkWindowBytes` bounds the body bytes under way (sent, receipt not seen) before bulk waits: it keeps a key press
 * from queueing behind a full pipe. It is asked before each slice: an adaptive bound belongs there.
 */
export const createLanes = (bulkWindowBytes: () => number): Lanes => {
  const bodies = { interactive: new Map<number, Outgoing>(), bulk: new Map<number, Outgoing>() };
  let underWayBytes = 0;

  const all = (): Outgoing[] => [...bodies.interactive.values(), ...bodies.bulk.values()];
  /** Looked through at every turn of every connection, mostly for nothing: no list is made of those who are not. */
  const hungry = (): Outgoing[] => {
    const found: Outgoing[] = [];
    for (const out of bodies.interactive.values()) if (isHungry(out)) found.push(out);
    for (const out of bodies.bulk.values()) if (isHungry(out)) found.push(out);
    return found;
  };
  const find = (stream: number): Outgoing | undefined =>
    bodies.interactive.get(stream) ?? bodies.bulk.get(stream);

  const remove = (out: Outgoing): void => {
    if (bodies[out.klass].delete(out.stream)) finish(out);
  };

  /** Bytes of this body that may go now. An empty path always takes a slice, however small the window is set. */
  const allowanceBytes = (out: Outgoing): number => {
    const free = isLight(out) || underWayBytes === 0;
    return Math.min(out.creditBytes, SLICE_BYTES, free ? SLICE_BYTES : bulkWindowBytes() - underWayBytes);
  };

  const frameOf = (out: Outgoing): Buffer | undefined => {
    if (out.piece) {
      const bytes = allowanceBytes(out);
      if (bytes <= 0) return undefined;
      const frame = sliceOf(out, out.piece, bytes);
      underWayBytes += frame.length - HEADER_BYTES;
      return frame;
    }
    if (out.state !== 'done' && !(out.state instanceof KhloneError)) return undefined;
    remove(out);
    return out.state === 'done' ? encodeFrame('end', out.stream) : resetFrame(out.stream, out.state);
  };

  const nextOf = (klass: Klass): Buffer | undefined => {
    for (const out of bodies[klass].values()) {
      const frame = frameOf(out);
      if (!frame) continue;
      // Who has sent stands behind the others of its class.
      if (bodies[klass].delete(out.stream)) bodies[klass].set(out.stream, out);
      return frame;
    }
    return undefined;
  };

  return {
    add: (out) => void bodies[out.klass].set(out.stream, out),
    next: () => nextOf('interactive') ?? nextOf('bulk'),
    hungry,
    credit: (stream, bytes) => {
      const out = find(stream);
      if (out) out.creditBytes = Math.min(out.creditBytes + bytes, WINDOW_BYTES[out.klass]);
    },
    receipt: (bytes) => {
      underWayBytes = Math.max(0, underWayBytes - bytes);
    },
    drop: (stream) => {
      const out = find(stream);
      if (out) remove(out);
      return out !== undefined;
    },
    dropAll: () => all().forEach(remove),
    size: () => bodies.interactive.size + bodies.bulk.size,
  };
};
