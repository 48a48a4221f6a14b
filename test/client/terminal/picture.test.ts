import fc from 'fast-check';
import { expect, test } from 'vitest';
import { createModeMemory, createScreenFilter, overLastRow } from '../../../src/client/terminal/picture.ts';

/** The bytes of a picture on their way to a terminal. */

const SWITCHES = ['1049', '1047', '47'].flatMap((mode) => [`\u001b[?${mode}h`, `\u001b[?${mode}l`]);

const filtered = (chunks: string[]): string => {
  const filter = createScreenFilter();
  return chunks.map((chunk) => Buffer.from(filter(Buffer.from(chunk, 'latin1'))).toString('latin1')).join('');
};

test('only the switching of screens is taken out, in any chunking', () => {
  const words = fc.constantFrom(
    ...SWITCHES,
    'a',
    '\xff',
    '\u001b[H',
    '\u001b[?25h',
    '\u001b(B',
    '\u001b',
    '[?10',
  );
  const isTorn = (text: string): boolean =>
    SWITCHES.some((one) =>
      Array.from(one, (_, n) => one.slice(0, n + 1)).some((part) => text.endsWith(part)),
    );
  fc.assert(
    fc.property(
      fc.array(words, { maxLength: 200, size: 'max' }),
      fc.integer({ min: 1, max: 9 }),
      (all, size) => {
        const text = `${all.join('')}\u001b[m`;
        const chunks = text.match(new RegExp(`[^]{1,${size}}`, 'g')) ?? [];
        const expected = text.replace(/\u001b\[\?(1049|1047|47)[hl]/g, '');
        expect(filtered([...chunks, 'x'])).toBe(`${expected}x`);
        expect(isTorn(text)).toBe(false);
      },
    ),
  );
});

test('a line of ours fits the narrowest terminal', () => {
  for (const columns of [1, 2, 10, 200]) {
    const line = overLastRow('reconnecting to devbox…', { columns, rows: 3 });
    const shown = line.replace(/\u001b\[[\d;]*[a-zA-Z]/g, '');
    expect([...shown].length).toBeLessThan(columns === 1 ? 1 : columns);
    expect(line).toContain('[3;1H');
  }
});

test('the modes of a picture are remembered as they were last, in any chunking', () => {
  const sequences = [
    ...['1h', '1l', '25l', '25h', '1000;1006h', '1006l', '2004h'].map((mode) => `\u001b[?${mode}`),
    ...['\u001b=', '\u001b>', '\u001b[>4;1m', '\u001b[>4m', '\u001b[2 q', '\u001b[ q'],
  ];
  const other = ['a', '\u001b[1m', '\u001b[2J', '\u001b', '\u001b[?2026h', '[?7l'];
  const lastOf = (text: string, pattern: RegExp): string => text.match(pattern)?.at(-1) ?? '';
  fc.assert(
    fc.property(
      fc.array(fc.constantFrom(...sequences, ...other), { maxLength: 100, size: 'max' }),
      fc.integer({ min: 1, max: 9 }),
      (all, size) => {
        const text = all.join('');
        const memory = createModeMemory();
        for (const chunk of text.match(new RegExp(`[^]{1,${size}}`, 'g')) ?? [])
          memory.note(Buffer.from(chunk, 'latin1'));
        const again = memory.again();
        for (const pattern of [/\u001b\[\?1[hl]/g, /\u001b\[\?25[hl]/g, /\u001b[=>]/g, /\u001b\[\d? q/g])
          expect(lastOf(again, pattern)).toBe(lastOf(text, pattern));
        const mouse = lastOf(text, /\u001b\[\?(1000;)?1006[hl]/g).at(-1);
        expect(lastOf(again, /\u001b\[\?1006[hl]/g).at(-1)).toBe(mouse);
        expect(again).not.toMatch(/2026|2J|\[1m/);
      },
    ),
  );
});

test('a program that asks for modes without end is not remembered without end', () => {
  const memory = createModeMemory();
  for (let mode = 3000; mode < 9000; mode += 1) memory.note(Buffer.from(`\u001b[?${mode}h`));
  memory.note(Buffer.from(`\u001b[?${'1'.repeat(1_000_000)}`));
  expect(memory.again().length).toBeLessThan(1_000);
});
