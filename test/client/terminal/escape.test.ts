import fc from 'fast-check';
import { expect, test } from 'vitest';
import { createEscapes, type Typed } from '../../../src/client/terminal/escape.ts';

/** The `~` of a person: ours at the start of a line, theirs everywhere else, however the keys arrive. */

/** What goes on and what is ours, in order, with pieces that follow each other joined. */
const said = (typed: Typed[]): string[] => {
  const words: string[] = [];
  let plain = '';
  for (const one of typed) {
    if ('pass' in one) plain += Buffer.from(one.pass).toString('latin1');
    else {
      words.push(plain, one.act);
      plain = '';
    }
  }
  return [...words, plain];
};

const fed = (...chunks: string[]): string[] => {
  const escapes = createEscapes();
  return said(chunks.flatMap((chunk) => escapes.feed(Buffer.from(chunk, 'latin1'))));
};

test.each([
  ['~.', ['', 'leave', '']],
  ['~?', ['', 'help', '']],
  ['~~', ['~']],
  ['~~.', ['~.']],
  ['ls\r~.', ['ls\r', 'leave', '']],
  ['ls\n~.', ['ls\n', 'leave', '']],
  ['ls ~.', ['ls ~.']],
  ['~x~.', ['~x~.']],
  ['~\r~.', ['~\r', 'leave', '']],
  ['~?~.', ['', 'help', '', 'leave', '']],
  ['~\u001a', ['', 'suspend', '']],
  ['a~\u001a', ['a~\u001a']],
  ['\u001b[3~.', ['\u001b[3~.']],
  ['\u001b[?1;2c~.', ['\u001b[?1;2c', 'leave', '']],
  ['\u001bP>|tmux 3.3a\u001b\\~.', ['\u001bP>|tmux 3.3a\u001b\\', 'leave', '']],
  ['\u001b]11;rgb:0/0/0\u0007~.', ['\u001b]11;rgb:0/0/0\u0007', 'leave', '']],
  ['\u001bOA~.', ['\u001bOA', 'leave', '']],
  ['\u001bx~.', ['\u001bx~.']],
  ['\u001b]never ends\r~.', ['\u001b]never ends\r', 'leave', '']],
  ['a\u001b[A~.', ['a\u001b[A~.']],
  ['~', ['']],
] as const)('%j', (keys, expected) => {
  expect(fed(keys)).toEqual(expected);
  expect(fed(...keys)).toEqual(expected);
});

test('what comes after a restart stands at the start of a line', () => {
  const escapes = createEscapes();
  const before = escapes.feed(Buffer.from('half a line'));
  escapes.restart();
  expect(said([...before, ...escapes.feed(Buffer.from('~.'))])).toEqual(['half a line', 'leave', '']);
});

test('any chunking of any keys says the same', () => {
  const keys = fc.array(fc.constantFrom('~', '.', '?', '\r', '\n', 'a', '\u001b', '\u0004', '\xff'), {
    maxLength: 200,
    size: 'max',
  });
  const sizes = fc.array(fc.integer({ min: 1, max: 7 }), { minLength: 1, maxLength: 20, size: 'max' });
  fc.assert(
    fc.property(keys, sizes, (all, steps) => {
      const chunks: string[] = [];
      for (let at = 0, n = 0; at < all.length; n += 1) {
        const step = steps[n % steps.length] ?? 1;
        chunks.push(all.slice(at, at + step).join(''));
        at += step;
      }
      expect(fed(...chunks)).toEqual(fed(all.join('')));
    }),
  );
});

test('nothing but a sign at the start of a line is ever taken away', () => {
  const safe = fc.array(fc.constantFrom('.', '?', 'a', 'b', '\r', '\xe2'), { maxLength: 200, size: 'max' });
  fc.assert(
    fc.property(safe, (all) => {
      expect(fed(all.join(''))).toEqual([all.join('')]);
    }),
  );
});
