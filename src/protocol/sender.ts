import type { Duplex } from 'node:stream';
import type { Body, Klass } from './body.ts';
import { KhloneError, toWire } from './error.ts';
import { encodeFrame } from './frame.ts';
import { CONTROL_QUEUE_BYTES, RESET_FRAME_BYTES, SLICE_BYTES, WINDOW_BYTES } from './limits.ts';
import { publicError } from './message.ts';

/** The writing half of a connection: control frames first, then interactive bodies, then bulk bodies in slices. */
export type Sender = {
  /** Queue a finished control-class frame. False: the queue is full, the frame was not taken. */
  control(frame: Buffer): boolean;
  /** A stream id for a body that will be opened; ids only grow. */
  reserve(): number;
  /** Send a body. `ended` is called once when it is over for whatever reason, before its source is returned. */
  open(stream: number, body: Body, klass: Klass, ended: () => void): void;
  /** Credit from the other side; on stream 0 it is the receipt of body bytes. False: that stream never was. */
  credit(stream: number, bytes: number): boolean;
  /** The other side wants no more of a body. False: that stream never was. */
  stop(stream: number): boolean;
  /** Give a body up: the reader sees the error. */
  abort(stream: number, error: KhloneError): void;
  /** Bodies being sent. */
  size(): number;
  /** Write what control frames are left and take no more; ends every body. */
  close(): void;
};

type Outgoing = {
  stream: number;
  klass: Klass;
  credit: number;
  piece: Buffer | undefined;
  state: 'idle' | 'pulling' | 'done' | KhloneError;
  source: AsyncIterator<Uint8Array>;
  ended: () => void;
};

const viewOf = (piece: Uint8Array): Buffer => {
  if (piece instanceof Uint8Array) return Buffer.from(piece.buffer, piece.byteOffset, piece.byteLength);
  throw new KhloneError('internal', 'a body gave something other than bytes');
};

const resetFrame = (stream: number, error: KhloneError): Buffer => {
  const reason = Buffer.from(JSON.stringify(toWire(new KhloneError(error.code, error.message, error.hint))));
  return encodeFrame('reset', stream, reason.length <= RESET_FRAME_BYTES ? reason : undefined);
};

/**
 * Nothing is written while the duplex signals backpressure, and a source is asked for its next piece only while its
 * body has credit: what waits in memory is the control queue and one piece per body.
 * `bulkWindowBytes` bounds the body bytes that are under way (sent, receipt not seen) before bulk waits: it is what
 * keeps a key press from queueing behind a full pipe, and the place where an adaptive bound belongs.
 */
export const createSender = (duplex: Duplex, bulkWindowBytes: () => number): Sender => {
  const queue: Buffer[] = [];
  let queueHead = 0;
  let queueBytes = 0;
  const bodies = { interactive: new Map<number, Outgoing>(), bulk: new Map<number, Outgoing>() };
  let lastStream = 0;
  let underWayBytes = 0;
  let scheduled = false;
  let closed = false;

  const schedule = (): void => {
    if (scheduled || closed) return;
    scheduled = true;
    setImmediate(flush);
  };

  const find = (stream: number): Outgoing | undefined =>
    bodies.interactive.get(stream) ?? bodies.bulk.get(stream);

  /** Forget a body and tell its owner, who may wake the source; then end the source, which may never answer. */
  const finish = (out: Outgoing): void => {
    bodies[out.klass].delete(out.stream);
    out.ended();
    Promise.resolve(out.source.return?.()).catch(() => undefined);
  };

  const pull = async (out: Outgoing): Promise<void> => {
    out.state = 'pulling';
    try {
      const step = await out.source.next();
      if (!step.done) out.piece = viewOf(step.value);
      out.state = step.done ? 'done' : 'idle';
    } catch (thrown) {
      out.state = publicError(thrown);
    }
    schedule();
  };

  const nextControl = (): Buffer | undefined => {
    const frame = queue[queueHead];
    if (!frame) return undefined;
    queueHead++;
    queueBytes -= frame.length;
    if (queueHead === queue.length) {
      queue.length = 0;
      queueHead = 0;
    }
    return frame;
  };

  /** Bytes of this body that may go now. */
  const allowance = (out: Outgoing): number => {
    if (out.klass === 'interactive') return Math.min(out.credit, SLICE_BYTES);
    // A window smaller than a slice must not stop the body for good: an empty path always takes one.
    const room = underWayBytes === 0 ? SLICE_BYTES : bulkWindowBytes() - underWayBytes;
    return Math.min(out.credit, SLICE_BYTES, room);
  };

  const frameOf = (out: Outgoing): Buffer | undefined => {
    if (out.piece && out.piece.length > 0) {
      const bytes = Math.min(out.piece.length, allowance(out));
      if (bytes <= 0) return undefined;
      const frame = encodeFrame('data', out.stream, out.piece.subarray(0, bytes));
      out.piece = bytes < out.piece.length ? out.piece.subarray(bytes) : undefined;
      out.credit -= bytes;
      underWayBytes += bytes;
      return frame;
    }
    if (out.state === 'done') {
      finish(out);
      return encodeFrame('end', out.stream);
    }
    if (!(out.state instanceof KhloneError)) return undefined;
    finish(out);
    return resetFrame(out.stream, out.state);
  };

  /** One frame of the first body of a class that can go; it then takes its place behind the others. */
  const nextData = (klass: Klass): Buffer | undefined => {
    for (const out of bodies[klass].values()) {
      const frame = frameOf(out);
      if (!frame) continue;
      if (bodies[klass].delete(out.stream)) bodies[klass].set(out.stream, out);
      return frame;
    }
    return undefined;
  };

  const pullAll = (): void => {
    for (const klass of ['interactive', 'bulk'] as const) {
      for (const out of bodies[klass].values()) {
        if (out.state === 'idle' && !out.piece?.length && out.credit > 0) void pull(out);
      }
    }
  };

  const flush = (): void => {
    scheduled = false;
    if (closed) return;
    duplex.cork();
    while (!duplex.writableNeedDrain) {
      const frame = nextControl() ?? nextData('interactive') ?? nextData('bulk');
      if (!frame) break;
      duplex.write(frame);
    }
    duplex.uncork();
    if (!duplex.writableNeedDrain) pullAll();
  };

  duplex.on('drain', flush);

  const control = (frame: Buffer): boolean => {
    if (closed || queueBytes + frame.length > CONTROL_QUEUE_BYTES) return false;
    queue.push(frame);
    queueBytes += frame.length;
    schedule();
    return true;
  };

  return {
    control,
    reserve: () => ++lastStream,
    open: (stream, body, klass, ended) => {
      const source = body[Symbol.asyncIterator]();
      const out: Outgoing = {
        stream,
        klass,
        credit: WINDOW_BYTES[klass],
        piece: undefined,
        state: 'idle',
        source,
        ended,
      };
      bodies[klass].set(stream, out);
      if (closed) finish(out);
      schedule();
    },
    credit: (stream, bytes) => {
      if (stream === 0) underWayBytes = Math.max(0, underWayBytes - bytes);
      const out = find(stream);
      if (out) out.credit = Math.min(out.credit + bytes, WINDOW_BYTES[out.klass]);
      schedule();
      return stream <= lastStream;
    },
    stop: (stream) => {
      const out = find(stream);
      if (out) finish(out);
      return stream > 0 && stream <= lastStream;
    },
    abort: (stream, error) => {
      const out = find(stream);
      if (!out) return;
      finish(out);
      control(resetFrame(stream, error));
    },
    size: () => bodies.interactive.size + bodies.bulk.size,
    close: () => {
      if (closed) return;
      for (let frame = nextControl(); frame; frame = nextControl()) {
        if (!duplex.destroyed && duplex.writable) duplex.write(frame);
      }
      closed = true;
      duplex.off('drain', flush);
      for (const out of [...bodies.interactive.values(), ...bodies.bulk.values()]) finish(out);
    },
  };
};
