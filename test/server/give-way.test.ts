import { expect, test } from 'vitest';
import { flooded, giveWay, WORDS_BYTES } from '../../src/server/give-way.ts';
import { until } from '../fixtures/server.ts';

/** Watchers beside a clone that prints without a pause. */

const PIECE = 128 * 1024;
const READ = 256 * 1024;

/** Watchers that take pieces one after another, and how many each has got. */
const openWatchers = (count: number, leave: AbortSignal): number[] => {
  const got = Array<number>(count).fill(0);
  for (const i of got.keys()) {
    void (async () => {
      while (!leave.aborted) {
        await giveWay(PIECE, leave);
        got[i] = (got[i] ?? 0) + 1;
        await new Promise(setImmediate);
      }
    })();
  }
  return got;
};

const sum = (counts: readonly number[]): number => counts.reduce((all, count) => all + count, 0);

test('while a clone floods, watchers share a part of it in turns; then nobody waits', async () => {
  expect(giveWay(PIECE, new AbortController().signal)).toBeUndefined();
  flooded(READ);
  const leave = new AbortController();
  const got = openWatchers(5, leave.signal);
  let reads = 0;
  for (; reads < 400; reads += 1) {
    flooded(READ);
    await new Promise(setImmediate);
  }
  expect(sum(got) * PIECE).toBeGreaterThan((reads * READ) / 16);
  expect(sum(got) * PIECE).toBeLessThan((reads * READ) / 4);
  expect(Math.max(...got) - Math.min(...got)).toBeLessThanOrEqual(2);
  const before = [...got];
  await until('everybody free again', () => got.every((count, i) => count > (before[i] ?? 0) + 100));
  leave.abort();
  expect(giveWay(PIECE, new AbortController().signal)).toBeUndefined();
});

test('a few words wait for nobody', async () => {
  flooded(READ);
  const { signal } = new AbortController();
  const turns = Array.from({ length: 50 }, () => giveWay(PIECE, signal));
  expect(giveWay(WORDS_BYTES, signal)).toBeUndefined();
  await Promise.all(turns);
});

test('whoever leaves while they wait takes no share of those who stay', async () => {
  flooded(READ);
  const [leave, stay] = [new AbortController(), new AbortController()];
  const left = Array.from({ length: 200 }, () => giveWay(PIECE, leave.signal));
  let isServed = false;
  void giveWay(PIECE, stay.signal)?.then(() => {
    isServed = true;
  });
  leave.abort();
  for (let reads = 0; reads < 16; reads += 1) flooded(READ);
  await Promise.resolve();
  expect(isServed).toBe(true);
  await Promise.all(left);
});
