import type { Body, Klass } from './body.ts';
import { KhloneError, toWire } from './error.ts';
import { encodeFrame } from './frame.ts';
import { RESET_FRAME_BYTES, WINDOW_BYTES } from './limits.ts';
import { publicError } from './message.ts';

/** One body on its way out: at most one piece of it is held here, the rest stays in its source. */
export type Outgoing = {
  stream: number;
  klass: Klass;
  /** Bytes the reader is ready to take. */
  creditBytes: number;
  piece: Buffer | undefined;
  state: 'idle' | 'pulling' | 'done' | KhloneError;
  source: AsyncIterator<Uint8Array>;
  /** Called once when the body is over for whatever reason, before its source is returned. */
  ended: () => void;
};

const NO_SOURCE: AsyncIterator<Uint8Array> = { next: async () => ({ done: true, value: undefined }) };

/** A body ready to be pulled. Never throws: one that cannot be read is told to its reader, who was promised it. */
export const createOutgoing = (stream: number, body: Body, klass: Klass, ended: () => void): Outgoing => {
  const out: Outgoing = {
    stream,
    klass,
    creditBytes: WINDOW_BYTES[klass],
    piece: undefined,
    state: 'idle',
    source: NO_SOURCE,
    ended,
  };
  try {
    out.source = body[Symbol.asyncIterator]();
  } catch (thrown) {
    out.state = publicError(thrown);
  }
  return out;
};

const viewOf = (piece: Uint8Array): Buffer | undefined => {
  if (!(piece instanceof Uint8Array)) {
    throw new KhloneError('internal', 'a body gave something other than bytes');
  }
  return piece.length > 0 ? Buffer.from(piece.buffer, piece.byteOffset, piece.byteLength) : undefined;
};

/** A body whose source should be asked: it has credit, and nothing of it waits. */
export const isHungry = (out: Outgoing): boolean => out.state === 'idle' && !out.piece && out.creditBytes > 0;

/** Ask the source for its next piece. Never throws: a failing source becomes the body's state. */
export const pull = async (out: Outgoing): Promise<void> => {
  out.state = 'pulling';
  try {
    const step = await out.source.next();
    if (!step.done) out.piece = viewOf(step.value);
    out.state = step.done ? 'done' : 'idle';
  } catch (thrown) {
    out.state = publicError(thrown);
  }
};

/** Tell the owner, who may wake the source; then end the source, which may never answer. */
export const finish = (out: Outgoing): void => {
  out.ended();
  try {
    Promise.resolve(out.source.return?.()).catch(() => undefined);
  } catch {
    // A source that cannot even be ended has nothing left to tell us.
  }
};

/** A data frame of at most `mostBytes` of the waiting piece. */
export const sliceOf = (out: Outgoing, piece: Buffer, mostBytes: number): Buffer => {
  const slice = piece.subarray(0, mostBytes);
  out.piece = slice.length < piece.length ? piece.subarray(slice.length) : undefined;
  out.creditBytes -= slice.length;
  return encodeFrame('data', out.stream, slice);
};

/** The frame that tells a reader why the rest will not come. */
export const resetFrame = (stream: number, error: KhloneError): Buffer => {
  const short = new KhloneError(error.code, error.message, error.hint);
  const reason = Buffer.from(JSON.stringify(toWire(short)));
  return encodeFrame('reset', stream, reason.length <= RESET_FRAME_BYTES ? reason : undefined);
};
