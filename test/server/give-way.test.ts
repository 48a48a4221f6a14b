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
        await giveWay(PIECE);
        got[i] = (got[i] ?? 0) + 1;
        await new Promise(setImmediate);
      }
    })();
  }
  return got;
};

const sum = (counts: readonly number[]): number => counts.reduce((all, count) => all + count, 0);

test('while a clone floods, watchers share a part of it in turns; then nobody waits', async () => {
  expect(giveWay(PIECE)).toBeUndefined();
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
  expect(giveWay(PIECE)).toBeUndefined();
});

test('a few words wait for nobody', async () => {
  flooded(READ);
  const turns = Array.from({ length: 50 }, () => giveWay(PIECE));
  expect(giveWay(WORDS_BYTES)).toBeUndefined();
  await Promise.all(turns);
});
