import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import type { Link } from '../../../src/client/link/link.ts';
import { createRedial, type Redial, waitMs } from '../../../src/client/link/redial.ts';
import { createSurroundings } from '../../../src/client/link/surroundings.ts';
import { KhloneError } from '../../../src/protocol/error.ts';

/** Tries that go on, and their manners. Time is the test's own. */

const HOUR_MS = 3600_000;

describe('the wait before a try', () => {
  it('grows, is never longer than its outage earns, and never ends', () => {
    const chance = fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true });
    fc.assert(
      fc.property(fc.nat({ max: 100_000 }), fc.nat({ max: 48 * HOUR_MS }), chance, (tries, awayMs, by) => {
        const wait = waitMs(tries, awayMs, by);
        expect(wait).toBeGreaterThanOrEqual(0);
        expect(wait).toBeLessThanOrEqual(awayMs < 90_000 ? 750 : awayMs < HOUR_MS ? 30_000 : 60_000);
        expect(wait).toBeLessThanOrEqual(250 * 2 ** tries);
      }),
    );
  });
});

describe('redial', () => {
  let dials: number;
  let trouble: KhloneError | undefined;
  let state: 'offline' | 'refused' | 'online';
  let redial: Redial;
  beforeEach(() => {
    vi.useFakeTimers();
    [dials, state, trouble] = [0, 'offline', new KhloneError('unreachable', 'no', '', { stage: 'connect' })];
    const link = {
      ...{ name: 'box', state: () => state, trouble: () => trouble, dialing: () => false },
      current: () => (state === 'online' ? {} : undefined),
      connect: async () => {
        dials += 1;
        throw trouble;
      },
    } as unknown as Link;
    redial = createRedial({ link: () => link, env: () => ({}), wanted: () => true });
  });
  afterEach(() => {
    redial.stop();
    vi.useRealTimers();
  });
  const during = async (ms: number): Promise<number> => {
    const before = dials;
    await vi.advanceTimersByTimeAsync(ms);
    return dials - before;
  };

  it('tries at least once in 0.75 s during a minute, and goes on for days', async () => {
    redial.soon('box');
    for (let second = 0; second < 80; second += 1) expect(await during(750)).toBeGreaterThan(0);
    await during(10 * 60_000);
    expect(await during(60_000)).toBeGreaterThan(0);
    await during(48 * HOUR_MS);
    expect(await during(2 * 60_000)).toBeGreaterThan(0);
  });

  it('is gentle to an sshd that it reached: one try in 3 s at most', async () => {
    trouble = new KhloneError('unreachable', 'did not finish', '', { stage: 'handshake' });
    redial.soon('box');
    for (let n = 0; n < 20; n += 1) expect(await during(3_000)).toBeLessThanOrEqual(1);
    expect(dials).toBeGreaterThan(10);
  });

  it('stops at a refusal, which only a person can mend', async () => {
    redial.soon('box');
    await during(2_000);
    state = 'refused';
    await during(5_000);
    expect(await during(HOUR_MS)).toBe(0);
  });

  it('tries at once when the machine woke or a person asks, who may ask often', async () => {
    redial.soon('box');
    await during(20 * 60_000);
    redial.afresh('box');
    expect(await during(1)).toBe(1);
    await during(20 * 60_000);
    const before = dials;
    for (let n = 0; n < 50; n += 1) redial.person('box');
    await during(1);
    expect(dials - before).toBe(1);
    // And what follows begins with short waits again.
    expect(await during(5_000)).toBeGreaterThanOrEqual(5);
  });

  it('has short waits between two tunnels, however long the journey', async () => {
    for (let tunnel = 0; tunnel < 10; tunnel += 1) {
      redial.soon('box');
      for (let n = 0; n < 40; n += 1) expect(await during(750)).toBeGreaterThan(0);
      state = 'online';
      await during(750);
      redial.connected('box');
      await during(3_000);
      state = 'offline';
    }
  });

  it('does not begin anew for a host that takes connections and drops them', async () => {
    const waits: number[] = [];
    for (let n = 0; n < 30; n += 1) {
      redial.soon('box');
      waits.push(redial.nextTryMs('box') ?? -1);
      redial.connected('box');
      await during(1);
    }
    expect(Math.max(...waits.slice(-20))).toBeGreaterThan(250);
    await during(11_000);
    redial.soon('box');
    expect(redial.nextTryMs('box')).toBeLessThanOrEqual(250);
  });
});

describe('the surroundings', () => {
  let shifts: number;
  let found: string;
  let stop: () => void;
  beforeEach(() => {
    vi.useFakeTimers();
    [shifts, found] = [0, 'eth0/10.0.0.1'];
    const made = createSurroundings(
      () => {
        shifts += 1;
      },
      () => found,
    );
    made.watch();
    stop = made.stop;
  });
  afterEach(() => {
    stop();
    vi.useRealTimers();
  });

  it('are quiet while nothing changes', () => {
    vi.advanceTimersByTime(600_000);
    expect(shifts).toBe(0);
  });

  it('tell within a second that an address came or went', () => {
    for (const next of ['', 'eth0/10.0.0.1', 'wlan0/192.168.0.7']) {
      found = next;
      vi.advanceTimersByTime(1_000);
    }
    expect(shifts).toBe(3);
  });

  it('tell that the machine slept: the clock went on between two looks', () => {
    vi.setSystemTime(Date.now() + 5_000);
    vi.advanceTimersByTime(1_000);
    expect(shifts).toBe(1);
  });
});
