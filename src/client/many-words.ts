import { randomBytes } from 'node:crypto';

/**
 * The parser copies all words that it has seen at each word, in the hub that everybody shares: ten thousand file names
 * would hold it for half a minute. So a long row of plain words is one word to it, and is put back afterwards.
 */

/** Fewer words cost a few milliseconds. */
const MANY = 100;
/** Words of a row that stay: the value of an option before it, and one that shows where the row belongs. */
const KEPT = 2;

type Row = { from: number; to: number };

/** The longest row of words without an option among them; behind `--` nothing is an option. */
const longestRow = (argv: readonly string[]): Row => {
  const end = argv.indexOf('--');
  let longest: Row = { from: 0, to: 0 };
  let from = 0;
  for (let at = 0; at <= argv.length; at += 1) {
    const isBreak = at === argv.length || (argv[at]?.startsWith('-') && (end < 0 || at <= end));
    if (!isBreak) continue;
    if (at - from > longest.to - longest.from) longest = { from, to: at };
    from = at + 1;
  }
  return longest;
};

export type FewWords = {
  argv: string[];
  /** Puts the words back into the fields of what was made of the shorter ones. */
  restore(command: object): void;
};

export const fewWords = (argv: readonly string[]): FewWords => {
  const { from, to } = longestRow(argv);
  if (to - from <= MANY) return { argv: [...argv], restore: () => {} };
  const [first, words] = [from + KEPT, argv.slice(from + KEPT, to)];
  const standIn = `words-${randomBytes(16).toString('hex')}`;
  return {
    argv: [...argv.slice(0, first), standIn, ...argv.slice(to)],
    restore: (command) => {
      for (const [name, value] of Object.entries(command)) {
        if (!Array.isArray(value) || !value.includes(standIn)) continue;
        const all = value.flatMap((word) => (word === standIn ? words : [word]));
        Object.assign(command, { [name]: all });
      }
    },
  };
};
