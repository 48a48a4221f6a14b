import { appendFileSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterAll, beforeEach, expect, test } from 'vitest';
import { OUT_LINE_MAX_BYTES, openTail } from '../../src/server/tail.ts';

/** The lines of a file that grows, however long they are and however they come. */

const dir = mkdtempSync(join(tmpdir(), 'kht-'));
const path = join(dir, 'out.jsonl');
afterAll(() => rmSync(dir, { recursive: true, force: true }));
beforeEach(() => writeFileSync(path, ''));

/** Reads until nothing more is there: the lines, and where they end. */
const readAll = async (tail: Awaited<ReturnType<typeof openTail>>) => {
  const lines: string[] = [];
  let end = 0;
  for (let found = await tail.read(); found; found = await tail.read()) {
    lines.push(...found.lines);
    ({ end } = found);
  }
  return { lines, end };
};

test('each complete line is read once and in order, and what is begun waits', async () => {
  const length = fc.oneof(fc.integer({ min: 0, max: 200 }), fc.integer({ min: 250_000, max: 1_400_000 }));
  await fc.assert(
    fc.asyncProperty(
      fc.array(length, { maxLength: 12 }),
      fc.array(fc.nat(), { maxLength: 6 }),
      async (lengths, cuts) => {
        const all = lengths.map((chars, i) => `${i}é${'x'.repeat(chars)}`);
        const bytes = Buffer.from(all.map((line) => `${line}\n`).join(''));
        const places = cuts.map((cut) => cut % (bytes.length + 1)).sort((a, b) => a - b);
        writeFileSync(path, '');
        const tail = await openTail(dir, 'out.jsonl', 0);
        const seen: string[] = [];
        let from = 0;
        for (const to of [...places, bytes.length]) {
          appendFileSync(path, bytes.subarray(from, to));
          from = to;
          const { lines, end } = await readAll(tail);
          seen.push(...lines);
          if (lines.length > 0) expect(end).toBe(bytes.subarray(0, to).lastIndexOf(10) + 1);
        }
        appendFileSync(path, 'begun');
        expect(await tail.read()).toBeUndefined();
        expect(await tail.rest()).toEqual({ lines: ['begun'], end: bytes.length + 5 });
        await tail.close();
        expect(seen).toEqual(all);
      },
    ),
    { numRuns: 25 },
  );
});

test('a line over the bound is passed over, and the next one is read', async () => {
  appendFileSync(path, `first\n${'x'.repeat(OUT_LINE_MAX_BYTES + 300_000)}\nlast\n`);
  const tail = await openTail(dir, 'out.jsonl', 0);
  const { lines } = await readAll(tail);
  await tail.close();
  expect([lines[0], lines[1], lines.at(-1)]).toEqual(['first', '', 'last']);
  expect(lines.map((one) => one.length).reduce((a, b) => Math.max(a, b))).toBeLessThan(OUT_LINE_MAX_BYTES);
});
