import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  createFrameDecoder,
  encodeControl,
  encodeFrame,
  FRAME_TYPES,
  type Frame,
} from '../../src/protocol/frame.ts';
import { CONTROL_FRAME_BYTES, DATA_FRAME_BYTES } from '../../src/protocol/limits.ts';

const stream = fc.integer({ min: 0, max: 0xffffffff });
const bytes = (least: number, most: number) =>
  fc.uint8Array({ minLength: least, maxLength: most, size: 'max' });
const frame: fc.Arbitrary<Frame> = fc
  .oneof(
    fc.record({ type: fc.constant('control' as const), payload: bytes(2, 3_000) }),
    fc.record({ type: fc.constant('data' as const), payload: bytes(1, 3_000) }),
    fc.record({ type: fc.constant('credit' as const), payload: bytes(4, 4) }),
    fc.record({ type: fc.constantFrom('end' as const, 'stop' as const), payload: bytes(0, 0) }),
    fc.record({ type: fc.constant('reset' as const), payload: bytes(0, 500) }),
  )
  .chain((part) => stream.map((id) => ({ ...part, payload: Buffer.from(part.payload), stream: id })));

/** The bytes cut at the given places. */
const cut = (whole: Buffer, places: number[]): Buffer[] => {
  const at = [0, ...places.map((place) => place % (whole.length + 1)).sort((a, b) => a - b), whole.length];
  return at.slice(1).map((end, index) => whole.subarray(at[index], end));
};

const plain = (frames: Frame[]) =>
  frames.map(({ type, stream, payload }) => [type, stream, payload.toString('hex')]);

describe('frames', () => {
  test('come out as they went in, whatever the chunks', () => {
    fc.assert(
      fc.property(
        fc.array(frame, { maxLength: 30, size: 'max' }),
        fc.array(fc.nat(), { maxLength: 60, size: 'max' }),
        (frames, places) => {
          const whole = Buffer.concat(frames.map((one) => encodeFrame(one.type, one.stream, one.payload)));
          const decode = createFrameDecoder();
          const read = cut(whole, places).flatMap((chunk) => decode(chunk));
          expect(plain(read)).toEqual(plain(frames));
        },
      ),
      { numRuns: 300 },
    );
  });

  test('come out of single bytes', () => {
    const whole = Buffer.concat([encodeControl(`{"a":"${'ä'.repeat(2_000)}"}`), encodeFrame('end', 7)]);
    const decode = createFrameDecoder();
    const read = [...whole].flatMap((byte) => decode(Buffer.of(byte)));
    expect(read.map((one) => one.type)).toEqual(['control', 'end']);
    expect(JSON.parse(String(read[0]?.payload))).toEqual({ a: 'ä'.repeat(2_000) });
  });

  test('that are too long are refused by their header alone', () => {
    const header = (length: number, type: number) => {
      const head = Buffer.alloc(9);
      head.writeUInt32BE(length, 0);
      head.writeUInt8(type, 4);
      return head;
    };
    const parse = (head: Buffer) => () => createFrameDecoder()(head);
    expect(parse(header(CONTROL_FRAME_BYTES, 1))).not.toThrow();
    expect(parse(header(CONTROL_FRAME_BYTES + 1, 1))).toThrow(
      expect.objectContaining({ code: 'parse-error' }),
    );
    expect(parse(header(DATA_FRAME_BYTES, 2))).not.toThrow();
    expect(parse(header(DATA_FRAME_BYTES + 1, 2))).toThrow(expect.objectContaining({ code: 'parse-error' }));
    expect(parse(header(0, 2))).toThrow(/data frame of 0 bytes/);
    expect(parse(header(0, 0))).toThrow(/unknown frame type 0/);
    expect(parse(header(0, FRAME_TYPES.length + 1))).toThrow(/unknown frame type 7/);
    expect(() => encodeControl(JSON.stringify('x'.repeat(CONTROL_FRAME_BYTES)))).toThrow(
      expect.objectContaining({ code: 'too-large' }),
    );
  });

  test('of random bytes end in frames or in a parse error, never in anything else', () => {
    fc.assert(
      fc.property(fc.array(fc.uint8Array({ maxLength: 3_000, size: 'max' }), { maxLength: 20 }), (chunks) => {
        const decode = createFrameDecoder();
        try {
          for (const chunk of chunks) decode(Buffer.from(chunk));
        } catch (thrown) {
          expect(thrown).toMatchObject({ code: 'parse-error' });
        }
      }),
      { numRuns: 500 },
    );
  });
});
