import fc from 'fast-check';
import { expect, test } from 'vitest';
import { createPrinter, MAX_CHARS, MAX_LINES } from '../../src/server/attach/printer.ts';
import { until } from '../fixtures/server.ts';

/** Lines for a terminal that is slower than they come. */

const screen = () => {
  const written: string[] = [];
  const printer = createPrinter(
    (text) => void written.push(text),
    (lines) => `passed ${lines}`,
  );
  const lines = (): string[] => written.flatMap((text) => text.split('\n').slice(0, -1));
  return { printer, written, lines };
};

test('what comes at a terminal’s pace is shown, all of it and in order', async () => {
  const { printer, lines } = screen();
  const all = Array.from({ length: 50 }, (_, n) => `line ${n}`);
  for (const line of all) {
    printer.print([line]);
    await until('the line', () => lines().at(-1) === line);
  }
  expect(lines()).toEqual(all);
});

test('of what comes faster, everything that a full scrollback holds is shown, and the rest is counted', () => {
  const group = fc.array(fc.integer({ min: 0, max: 60_000 }), { maxLength: 8, size: 'max' });
  const burst = fc.array(group, { maxLength: 12, size: 'max' });
  fc.assert(
    fc.property(burst, fc.integer({ min: 1, max: 400 }), (groups, times) => {
      const { printer, written, lines } = screen();
      const all: string[] = [];
      for (const group of groups) {
        const more = group.flatMap((length) => Array(times).fill('x'.repeat(length / 4)));
        all.push(...more);
        printer.print(more);
      }
      printer.flush();
      expect(written.length).toBeLessThanOrEqual(1);
      const [, count = '0'] = /^passed (\d+)$/.exec(lines()[0] ?? '') ?? [];
      const kept = lines().slice(count === '0' ? 0 : 1);
      expect(kept.length + Number(count)).toBe(all.length);
      expect(kept).toEqual(all.slice(all.length - kept.length));
      const rows = kept.reduce((sum, line) => sum + line.length, 0);
      if (count !== '0') expect(kept.length >= MAX_LINES || rows >= MAX_CHARS).toBe(true);
      expect(kept.length).toBeLessThanOrEqual(MAX_LINES);
    }),
    { numRuns: 30 },
  );
});
