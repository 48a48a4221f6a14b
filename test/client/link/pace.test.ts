import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { nextWindow } from '../../../src/client/link/pace.ts';
import { BULK_IN_FLIGHT_BYTES } from '../../../src/protocol/limits.ts';

const { min, max } = BULK_IN_FLIGHT_BYTES;
const bytes = fc.integer({ min, max });
const waitedMs = fc.double({ min: 0, max: 60_000, noNaN: true });

describe('the window of an upload', () => {
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
