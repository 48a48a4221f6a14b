import { KhloneError } from './error.ts';
import { CONTROL_FRAME_BYTES, DATA_FRAME_BYTES, RESET_FRAME_BYTES } from './limits.ts';

/**
 * The frame: u32be payload length, u8 type, u32be stream id, payload.
 *
 * control  one JSON-RPC 2.0 object; stream id 0
 * data     bytes of a body, never empty
 * credit   u32be: so many more bytes of that body may come; on stream 0: so many bytes of bodies have arrived
 * end      the body is complete
 * reset    the body's writer gives up; payload: nothing, or a JSON error object
 * stop     the body's reader wants no more of it
 *
 * A stream id belongs to the side that writes the body: data, end and reset name the sender's own streams,
 * credit and stop the receiver's. So both sides count from 1 without asking each other.
 */
export const FRAME_TYPES = ['control', 'data', 'credit', 'end', 'reset', 'stop'] as const;
export type FrameType = (typeof FRAME_TYPES)[number];
export type Frame = { type: FrameType; stream: number; payload: Buffer };

export const HEADER_BYTES = 9;

/** Payload bytes each type may have: [least, most]. */
const PAYLOAD: Record<FrameType, readonly [number, number]> = {
  control: [2, CONTROL_FRAME_BYTES],
  data: [1, DATA_FRAME_BYTES],
  credit: [4, 4],
  end: [0, 0],
  reset: [0, RESET_FRAME_BYTES],
  stop: [0, 0],
};

/** Chunks kept before they are joined: a sender of single bytes must not cost an object per byte. */
const PENDING_CHUNKS = 1024;

const writeHeader = (frame: Buffer, type: FrameType, stream: number): Buffer => {
  frame.writeUInt32BE(frame.length - HEADER_BYTES, 0);
  frame.writeUInt8(FRAME_TYPES.indexOf(type) + 1, 4);
  frame.writeUInt32BE(stream, 5);
  return frame;
};

/** One frame as bytes. The caller keeps to the bounds in limits.ts: the other side cuts the link on a breach. */
export const encodeFrame = (type: FrameType, stream: number, payload?: Uint8Array): Buffer => {
  const frame = Buffer.allocUnsafe(HEADER_BYTES + (payload?.length ?? 0));
  if (payload) frame.set(payload, HEADER_BYTES);
  return writeHeader(frame, type, stream);
};

/** A control frame from JSON text. Throws `too-large` over its bound. */
export const encodeControl = (json: string): Buffer => {
  const bytes = Buffer.byteLength(json);
  if (bytes > CONTROL_FRAME_BYTES) {
    throw new KhloneError(
      'too-large',
      `a message of ${bytes} bytes is over the limit of ${CONTROL_FRAME_BYTES}`,
    );
  }
  const frame = Buffer.allocUnsafe(HEADER_BYTES + bytes);
  frame.write(json, HEADER_BYTES, 'utf8');
  return writeHeader(frame, 'control', 0);
};

/** A credit frame for `bytes` (u32). */
export const encodeCredit = (stream: number, bytes: number): Buffer => {
  const frame = Buffer.allocUnsafe(HEADER_BYTES + 4);
  frame.writeUInt32BE(bytes, HEADER_BYTES);
  return writeHeader(frame, 'credit', stream);
};

/** The type and the payload length of the header at `at`. Throws `parse-error` on an unknown type or a wrong length. */
const readHeader = (bytes: Buffer, at: number): { type: FrameType; length: number } => {
  const length = bytes.readUInt32BE(at);
  const type = FRAME_TYPES[bytes.readUInt8(at + 4) - 1];
  if (!type) throw new KhloneError('parse-error', `unknown frame type ${bytes.readUInt8(at + 4)}`);
  const [least, most] = PAYLOAD[type];
  if (length < least || length > most) {
    throw new KhloneError('parse-error', `a ${type} frame of ${length} bytes is outside ${least} to ${most}`);
  }
  return { type, length };
};

/**
 * A decoder for one direction of one connection: give it chunks of any size, get the frames they complete.
 * Payloads are views of the chunks. Holds at most one incomplete frame. Throws KhloneError `parse-error`;
 * after that the decoder is of no more use, as the connection is.
 */
export const createFrameDecoder = (): ((chunk: Buffer) => Frame[]) => {
  let pending: Buffer[] = [];
  let pendingBytes = 0;
  let wantedBytes = HEADER_BYTES;

  const joined = (): Buffer => {
    const [only] = pending;
    return pending.length === 1 && only ? only : Buffer.concat(pending, pendingBytes);
  };

  return (chunk) => {
    pending.push(chunk);
    pendingBytes += chunk.length;
    if (pendingBytes < wantedBytes) {
      if (pending.length >= PENDING_CHUNKS) pending = [joined()];
      return [];
    }
    const bytes = joined();
    const frames: Frame[] = [];
    let at = 0;
    wantedBytes = HEADER_BYTES;
    while (bytes.length - at >= HEADER_BYTES) {
      const { type, length } = readHeader(bytes, at);
      wantedBytes = HEADER_BYTES + length;
      if (bytes.length - at < wantedBytes) break;
      const payload = bytes.subarray(at + HEADER_BYTES, at + wantedBytes);
      frames.push({ type, stream: bytes.readUInt32BE(at + 5), payload });
      at += wantedBytes;
      wantedBytes = HEADER_BYTES;
    }
    pending = at < bytes.length ? [bytes.subarray(at)] : [];
    pendingBytes = bytes.length - at;
    return frames;
  };
};
