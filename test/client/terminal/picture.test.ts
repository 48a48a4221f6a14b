import fc from 'fast-check';
import { expect, test } from 'vitest';
import { createScreenFilter, overLastRow } from '../../../src/client/terminal/picture.ts';

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
