import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { fewWords } from '../../src/client/many-words.ts';

/** Long rows of words that the parser need not look at. */

const plain = fc.string({ minLength: 1 }).filter((word) => !word.startsWith('-'));
const word = fc.oneof(plain, fc.constantFrom('--', '-x', '--zone'));

/** What may be an option: nothing behind `--`. */
const optionsOf = (argv: readonly string[]): string[] => {
  const end = argv.indexOf('--');
  return argv.slice(0, end < 0 ? argv.length : end + 1).filter((one) => one.startsWith('-'));
};

describe('many words', () => {
  test('are few to the parser, and all of them to the command', () => {
    const names = Array.from({ length: 10_000 }, (_, n) => `file ${n}`);
    const { argv, restore } = fewWords(['sync', '--zone', '@b', ...names, '--json']);
    expect(argv.length).toBeLessThan(10);
    expect([argv[0], argv[1], argv[2], argv.at(-1)]).toEqual(['sync', '--zone', '@b', '--json']);
    const command = { files: argv.slice(3, -1), zone: '@b' };
    restore(command);
    expect(command).toEqual({ files: names, zone: '@b' });
  });

  test('come back as they were, whatever stands around them', () => {
    fc.assert(
      fc.property(
        fc.array(word, { maxLength: 6 }),
        fc.array(plain, { minLength: 90, maxLength: 130 }),
        fc.array(word, { maxLength: 6 }),
        (before, row, after) => {
          const all = [...before, ...row, ...after];
          const { argv, restore } = fewWords(all);
          const command = { all: argv };
          restore(command);
          expect(command.all).toEqual(all);
          expect(optionsOf(argv)).toEqual(optionsOf(all));
          expect(argv.length).toBeLessThanOrEqual(115);
        },
      ),
    );
  });

  test('behind -- are words, whatever they begin with', () => {
    const row = Array.from({ length: 200 }, (_, n) => `-${n}`);
    expect(fewWords(['act', '--', ...row]).argv.length).toBe(5);
    expect(fewWords(['act', ...row]).argv).toEqual(['act', ...row]);
  });
});
