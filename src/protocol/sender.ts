import type { Duplex } from 'node:stream';
import type { Body, Klass } from './body.ts';
import type { KhloneError } from './error.ts';
import { createFrameQueue, type FrameQueue } from './frame-queue.ts';
import { createLanes, type Lanes } from './lanes.ts';
import { CONTROL_QUEUE_BYTES } from './limits.ts';
import { createOutgoing, finish, pull, resetFrame } from './outgoing.ts';

/** The writing half of a connection: control frames first, then interactive bodies, then bulk bodies, in slices. */
export type Sender = {
  /** Queue a control frame that may be refused (a call of ours). False: too much waits already, it was not taken. */
  offer(frame: Buffer): boolean;
  /** Queue a control frame that must go: an answer, credit, a stop. Where it finds no room, `full` is called. */
  send(frame: Buffer): void;
  /** A stream id for a body that will be opened; ids only grow. */
  reserve(): number;
  /** Send a body. `ended` is called once when it is over for whatever reason, before its source is returned. */
  open(stream: number, body: Body, klass: Klass, ended: () => void): void;
  /** Credit from the other side; on stream 0 it is the receipt of body bytes. False: that stream never was. */
  credit(stream: number, bytes: number): boolean;
  /** The other side wants no more of a body. False: that stream never was. */
  stop(stream: number): boolean;
  /** Give a body up: its reader sees the error. */
  abort(stream: number, error: KhloneError): void;
  /** Bodies being sent. */
  size(): number;
  /** Write the control frames that are left and take no more; end every body. */
  close(): void;
};

/** `wake` after anything that may be written came up; `stop` writes the control frames that are left. */
type Pump = { wake(): void; stop(): void };

/**
 * Nothing is written while the duplex signals backpressure, and a source is asked for its next piece only while its
 * body has credit: what waits in memory is the control queue and one piece per body.
 */
const createPump = (duplex: Duplex, queue: FrameQueue, lanes: Lanes): Pump => {
  let scheduled = false;
  let stopped = false;

  const writeAll = (next: () => Buffer | undefined): void => {
    duplex.cork();
    for (let frame = next(); frame; frame = next()) duplex.write(frame);
    duplex.uncork();
  };

  const pullAll = (): void => {
    if (duplex.writableNeedDrain) return;
    for (const out of lanes.hungry()) void pull(out).then(wake);
  };

  const flush = (): void => {
    scheduled = false;
    if (stopped) return;
    // Asked before writing as well: a bulk body that fills every write must not keep others from being asked.
    pullAll();
    writeAll(() => (duplex.writableNeedDrain ? undefined : (queue.shift() ?? lanes.next())));
    pullAll();
  };

  /** Once per turn of the event loop: all that the turn produced goes out in one write. */
  const wake = (): void => {
    if (scheduled || stopped) return;
    scheduled = true;
    setImmediate(flush);
  };

  duplex.on('drain', flush);
  const stop = (): void => {
    stopped = true;
    duplex.off('drain', flush);
    if (duplex.writable) writeAll(queue.shift);
  };
  return { wake, stop };
};

/** `full` is called where a frame that must go finds no room. */
export const createSender = (duplex: Duplex, bulkWindowBytes: () => number, full: () => void): Sender => {
  const queue = createFrameQueue();
  const lanes = createLanes(bulkWindowBytes);
  const pump = createPump(duplex, queue, lanes);
  let lastStream = 0;
  let closed = false;

  const offer = (frame: Buffer, mostBytes: number = CONTROL_QUEUE_BYTES.refuse): boolean => {
    if (closed || !queue.push(frame, mostBytes)) return false;
    pump.wake();
    return true;
  };

  const send = (frame: Buffer): void => {
    if (!offer(frame, CONTROL_QUEUE_BYTES.cut) && !closed) full();
  };

  return {
    offer: (frame) => offer(frame),
    send,
    reserve: () => ++lastStream,
    open: (stream, body, klass, ended) => {
      const out = createOutgoing(stream, body, klass, ended);
      if (closed) return finish(out);
      lanes.add(out);
      pump.wake();
    },
    credit: (stream, bytes) => {
      if (stream === 0) lanes.receipt(bytes);
      else lanes.credit(stream, bytes);
      pump.wake();
      return stream <= lastStream;
    },
    stop: (stream) => {
      lanes.drop(stream);
      return stream >= 1 && stream <= lastStream;
    },
    abort: (stream, error) => {
      if (lanes.drop(stream)) send(resetFrame(stream, error));
    },
    size: lanes.size,
    close: () => {
      if (closed) return;
      closed = true;
      pump.stop();
      lanes.dropAll();
    },
  };
};
