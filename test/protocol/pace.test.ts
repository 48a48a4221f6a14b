import { Duplex } from 'node:stream';
import fc from 'fast-check';
import { afterEach, describe, expect, it } from 'vitest';
import { BULK_IN_FLIGHT_BYTES } from '../../src/protocol/limits.ts';
import { nextWindow } from '../../src/protocol/pace.ts';
import { createPeer, type Peer } from '../../src/protocol/peer.ts';

const { min, max } = BULK_IN_FLIGHT_BYTES;
const bytes = fc.integer({ min, max });
const waitedMs = fc.double({ min: 0, max: 60_000, noNaN: true });

describe('the window of bulk', () => {
  it('stays within its bounds, and a longer wait never makes it larger', () => {
    fc.assert(
      fc.property(bytes, waitedMs, waitedMs, (before, one, other) => {
        const [shorter, longer] = [
          nextWindow(before, Math.min(one, other)),
          nextWindow(before, Math.max(one, other)),
        ];
        expect(shorter).toBeGreaterThanOrEqual(min);
        expect(shorter).toBeLessThanOrEqual(max);
        expect(longer).toBeLessThanOrEqual(shorter);
      }),
    );
  });

  it('comes down to what a slow line takes in a few answers, and up again when the line is free', () => {
    const rate = 150; // bytes a ms
    let now: number = max;
    for (let answer = 0; answer < 4; answer += 1) now = nextWindow(now, now / rate);
    expect(now).toBe(min);
    for (let answer = 0; answer < 20; answer += 1) now = nextWindow(now, 0);
    expect(now).toBe(max);
  });
});

/** A line with a round trip and a rate, and room for seconds of bytes in front of it, as a modem or a router has. */
type Line = { ends: [Duplex, Duplex]; rate(bytesPerMs: number): void };

const ONE_WAY_MS = 25;
/** After so many the window of bulk has come to what the line takes. */
const ROUND_TRIPS = 20;

const deepLine = (bytesPerMs: number): Line => {
  let rate = bytesPerMs;
  const end = (other: () => Duplex): Duplex => {
    let freeMs = 0;
    return new Duplex({
      read: () => {},
      // Taken at once, for the room is large; it leaves behind what was taken before.
      write: (chunk: Buffer, _encoding, done) => {
        freeMs = Math.max(freeMs, performance.now()) + chunk.length / rate;
        setTimeout(() => other().push(chunk), freeMs - performance.now() + ONE_WAY_MS);
        done();
      },
    });
  };
  const one: Duplex = end(() => two);
  const two: Duplex = end(() => one);
  return {
    ends: [one, two],
    rate: (next) => {
      rate = next;
    },
  };
};

const echo = async (peer: Peer): Promise<number> => {
  const begun = performance.now();
  await peer.call('$/ping', {}, { timeoutMs: 20_000 });
  return performance.now() - begun;
};

/** Bytes without an end, in pieces of 256 KiB. */
async function* flood(): AsyncGenerator<Uint8Array> {
  for (;;) yield Buffer.alloc(256 * 1024);
}

const read = async (body: AsyncIterable<Uint8Array> | undefined): Promise<void> => {
  for await (const _ of body ?? []);
};

// A live stream that floods is bulk, whatever its class says: a clone that prints, and somebody far away who watches.
describe.each(['bulk', 'interactive'] as const)('a word beside a flood that is called %s', (klass) => {
  const peers: Peer[] = [];
  afterEach(() => {
    for (const peer of peers.splice(0)) peer.close();
  });
  const over = ({ ends: [here, there] }: Line): Peer => {
    const near = createPeer(here, {});
    const far = createPeer(there, {
      up: ({ body }) =>
        read(body)
          .catch(() => {})
          .then(() => ({ value: null })),
      down: () => ({ value: null, body: flood(), klass }),
    });
    peers.push(near, far);
    return near;
  };
  /** The bulk has been under way for many round trips, and its pace is found. */
  const settled = async (near: Peer): Promise<void> => {
    for (let n = 0; n < ROUND_TRIPS; n += 1) await echo(near);
  };
  const start = {
    up: (near: Peer) => void near.call('up', {}, { body: flood(), klass }).catch(() => {}),
    down: (near: Peer) =>
      void near
        .call('down', {})
        .then(({ body }) => read(body))
        .catch(() => {}),
  };

  for (const way of ['up', 'down'] as const) {
    // At this rate the credit of a live stream is no more than that.
    if (klass === 'bulk')
      it(`waits no longer than 3 round trips at 10 MB/s, ${way}`, async () => {
        const near = over(deepLine(10_000));
        start[way](near);
        await settled(near);
        const waits: number[] = [];
        for (let n = 0; n < 20; n += 1) waits.push(await echo(near));
        waits.sort((a, b) => a - b);
        expect(waits.at(-2)).toBeLessThan(6 * ONE_WAY_MS);
      });

    it(`waits for a moment when the rate drops 60-fold, and then no longer, ${way}`, async () => {
      const line = deepLine(9_000);
      const near = over(line);
      start[way](near);
      // The drop comes in the middle.
      await settled(near);
      line.rate(150);
      const first = await echo(near);
      await echo(near);
      const later: number[] = [];
      for (let n = 0; n < 7; n += 1) later.push(await echo(near));
      later.sort((a, b) => a - b);
      expect(first).toBeLessThan(5_000);
      // What was under way lies before the first few; it is not sent as much again. Unpaced, each waits 1.6 s.
      expect(later[3]).toBeLessThan(600);
    }, 20_000);
  }
});
