import { Duplex } from 'node:stream';
import { setImmediate as turn } from 'node:timers/promises';
import { describe, expect, test } from 'vitest';
import { type Body, createInlet } from '../../src/protocol/body.ts';
import { createFrameDecoder, encodeControl, encodeCredit, type Frame } from '../../src/protocol/frame.ts';
import { CONTROL_QUEUE_BYTES, SLICE_BYTES, WINDOW_BYTES } from '../../src/protocol/limits.ts';
import { createSender } from '../../src/protocol/sender.ts';

/** A duplex that takes one write at a time, when the test lets it. */
const gate = () => {
  const decode = createFrameDecoder();
  const frames: Frame[] = [];
  let pass: (() => void) | undefined;
  const duplex = new Duplex({
    writableHighWaterMark: 1,
    read: () => undefined,
    write: (chunk, _encoding, done) => {
      frames.push(...decode(chunk));
      pass = done;
    },
  });
  /** Let the write that waits go, and see what the sender does then. */
  const open = async (): Promise<void> => {
    const go = pass;
    pass = undefined;
    go?.();
    for (let round = 0; round < 4; round++) await turn();
  };
  return { duplex, frames, open };
};

const source = (bytes: number) => {
  const told = { asked: 0 };
  const body: Body = {
    [Symbol.asyncIterator]: () => ({
      next: async () => {
        told.asked++;
        return { done: false, value: Buffer.alloc(bytes) };
      },
    }),
  };
  return { body, told };
};

const order = (frames: Frame[]) => frames.map((frame) => `${frame.type} ${frame.stream}`);
const nothing = (): void => undefined;

describe('what is sent first', () => {
  test('is control, then interactive, then bulk in turn, one slice at a time', async () => {
    const { duplex, frames, open } = gate();
    const sender = createSender(duplex, () => 512 * 1024, nothing);
    const [bulkA, bulkB, typed] = [sender.reserve(), sender.reserve(), sender.reserve()];
    sender.open(bulkA, source(1_000_000).body, 'bulk', nothing);
    sender.open(bulkB, source(1_000_000).body, 'bulk', nothing);
    for (let round = 0; round < 6; round++) await open();
    expect(new Set(order(frames))).toEqual(new Set([`data ${bulkA}`, `data ${bulkB}`]));
    const turns = order(frames).slice(2);
    expect(turns.every((one, index) => index === 0 || one !== turns[index - 1])).toBe(true);
    expect(Math.max(...frames.map((frame) => frame.payload.length))).toBe(SLICE_BYTES);

    frames.length = 0;
    sender.open(typed, source(10).body, 'interactive', nothing);
    sender.offer(encodeControl('{}'));
    sender.send(encodeCredit(9, 1));
    for (let round = 0; round < 6; round++) await open();
    expect(order(frames).slice(0, 2)).toEqual(['control 0', 'credit 9']);
    // A source is asked while the line is free: one bulk slice at most goes in between.
    const places = order(frames).flatMap((one, index) => (one === `data ${typed}` ? [index] : []));
    expect(places.length).toBeGreaterThanOrEqual(2);
    expect(places[0]).toBeLessThanOrEqual(3);
    for (const [index, place] of places.entries())
      expect(place - (places[index - 1] ?? place)).toBeLessThanOrEqual(2);
  });

  test('leaves bulk waiting while its window is under way, but not interactive', async () => {
    const { duplex, frames, open } = gate();
    let windowBytes = 4 * SLICE_BYTES;
    const sender = createSender(duplex, () => windowBytes, nothing);
    const [bulk, typed] = [sender.reserve(), sender.reserve()];
    sender.open(bulk, source(1_000_000).body, 'bulk', nothing);
    for (let round = 0; round < 10; round++) await open();
    expect(frames).toHaveLength(4);
    sender.credit(0, SLICE_BYTES);
    for (let round = 0; round < 10; round++) await open();
    expect(frames).toHaveLength(5);
    windowBytes = 6 * SLICE_BYTES;
    sender.credit(0, 0);
    for (let round = 0; round < 10; round++) await open();
    expect(frames).toHaveLength(7);
    sender.open(typed, source(10).body, 'interactive', nothing);
    for (let round = 0; round < 3; round++) await open();
    expect(order(frames).at(-1)).toBe(`data ${typed}`);
  });

  test('never is more than a reader has credit for', async () => {
    const { duplex, frames, open } = gate();
    const sender = createSender(duplex, () => 512 * 1024, nothing);
    const typed = sender.reserve();
    sender.open(typed, source(SLICE_BYTES).body, 'interactive', nothing);
    for (let round = 0; round < 40; round++) await open();
    expect(frames).toHaveLength(WINDOW_BYTES.interactive / SLICE_BYTES);
    sender.credit(typed, 100);
    for (let round = 0; round < 5; round++) await open();
    expect(frames.at(-1)?.payload.length).toBe(100);
  });
});

describe('what waits', () => {
  test('stays in its source while the line is busy', async () => {
    const { duplex, open } = gate();
    const sender = createSender(duplex, () => 512 * 1024, nothing);
    sender.send(encodeControl('{}'));
    await turn();
    const { body, told } = source(10);
    sender.open(sender.reserve(), body, 'interactive', nothing);
    for (let round = 0; round < 5; round++) await turn();
    expect(told.asked).toBe(0);
    await open();
    expect(told.asked).toBeGreaterThan(0);
  });

  test('is bounded: calls are refused first, then what must go ends the connection', () => {
    const { duplex } = gate();
    let full = 0;
    const sender = createSender(
      duplex,
      () => 512 * 1024,
      () => {
        full++;
      },
    );
    const frame = encodeControl(JSON.stringify('x'.repeat(1_000_000)));
    let offered = 0;
    while (sender.offer(frame)) offered++;
    expect(offered * frame.length).toBeLessThanOrEqual(CONTROL_QUEUE_BYTES.refuse);
    expect((offered + 1) * frame.length).toBeGreaterThan(CONTROL_QUEUE_BYTES.refuse);
    let sent = 0;
    for (; full === 0; sent++) sender.send(frame);
    expect((offered + sent) * frame.length).toBeGreaterThan(CONTROL_QUEUE_BYTES.cut);
    expect((offered + sent - 1) * frame.length).toBeLessThanOrEqual(CONTROL_QUEUE_BYTES.cut);
  });

  test('is joined where a writer sends single bytes, and read back in order', async () => {
    const inlet = createInlet('interactive', nothing, nothing);
    const sent = Buffer.from(Array.from({ length: 5_000 }, (_, index) => index % 251));
    for (const byte of sent) expect(inlet.push(Buffer.of(byte))).toBe(true);
    inlet.end();
    const got: Uint8Array[] = [];
    for await (const piece of inlet.body) got.push(piece);
    expect(Buffer.concat(got).equals(sent)).toBe(true);
    expect(got.length).toBeLessThan(300);
  });
});
