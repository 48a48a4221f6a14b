import { appendFileSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import { createBeat } from '../../src/server/beat.ts';
import { openTail } from '../../src/server/tail.ts';

/** Who comes now and then goes at once; a stream goes in beats. */

const dir = mkdtempSync(join(tmpdir(), 'khb-'));
afterAll(() => rmSync(dir, { recursive: true, force: true }));

test('a few go at once, and those who come behind them go together', async () => {
  const beat = createBeat(3, 30);
  expect([beat.wait(), beat.wait(), beat.wait()]).toEqual([undefined, undefined, undefined]);
  const begun = performance.now();
  const [one, other] = [beat.wait(), beat.wait()];
  expect(one).toBeInstanceOf(Promise);
  expect(other).toBe(one);
  await one;
  expect(performance.now() - begun).toBeGreaterThan(20);
  // A beat lets nobody go at once behind it: that would be two turns in one.
  expect(beat.wait()).toBeInstanceOf(Promise);
});

test('after a silence they go at once again, and no more of them than at first', async () => {
  const beat = createBeat(2, 10);
  for (let n = 0; n < 6; n += 1) await beat.wait();
  await new Promise((resolve) => setTimeout(resolve, 40));
  expect([beat.wait(), beat.wait()]).toEqual([undefined, undefined]);
  expect(beat.wait()).toBeInstanceOf(Promise);
});

const LINES = 150;
/** Reads at once that a stream may begin with, and some for a machine that stands still in between. */
const AT_ONCE = 10;
const BEAT_MS = 40;

test('a stream of lines is read whole and in order, many lines at a time', async () => {
  const path = join(dir, 'out.jsonl');
  writeFileSync(path, '');
  const tail = await openTail(dir, 'out.jsonl', 0);
  const never = new AbortController();
  let written = 0;
  const printer = setInterval(() => {
    if (written < LINES) appendFileSync(path, `${written++}\n`);
    else clearInterval(printer);
  }, 2);
  const begun = performance.now();
  const seen: string[] = [];
  let reads = 0;
  while (seen.length < LINES) {
    await tail.changed(never.signal);
    for (let found = await tail.read(); found; found = await tail.read()) {
      seen.push(...found.lines);
      reads += 1;
    }
  }
  await tail.close();
  expect(seen).toEqual(Array.from({ length: LINES }, (_, n) => String(n)));
  expect(reads).toBeLessThanOrEqual(AT_ONCE + (performance.now() - begun) / BEAT_MS);
});

test('who waits for a beat is woken by an abort at once', async () => {
  const path = join(dir, 'out.jsonl');
  writeFileSync(path, '');
  const tail = await openTail(dir, 'out.jsonl', 0);
  const never = new AbortController();
  // All that may go at once is used up, so the next change has to wait for its beat.
  for (let n = 0; n < AT_ONCE; n += 1) {
    appendFileSync(path, 'x\n');
    await tail.changed(never.signal);
  }
  const leave = new AbortController();
  leave.abort('woken');
  const begun = performance.now();
  for (let n = 0; n < 50; n += 1) await tail.changed(leave.signal);
  expect(performance.now() - begun).toBeLessThan(BEAT_MS);
  await tail.close();
});
