import { lstatSync, readFileSync, readlinkSync } from 'node:fs';
import { join } from 'node:path';
import { filesIn } from '../client/patches/random-edits.ts';

/** The words that edits write, each nowhere else, and what became of them. */

export const WORD = /token-\d+-\w+/gu;
/** What one side ignores and the other may not: it need not be the same on both. */
const OFTEN_IGNORED = /^gen-\d$/u;

const textAt = (path: string): string =>
  lstatSync(path).isSymbolicLink() ? readlinkSync(path) : readFileSync(path, 'utf8');

export const wordsIn = (root: string): Map<string, string[]> => {
  const found = new Map<string, string[]>();
  for (const path of filesIn(root))
    for (const word of textAt(join(root, path)).match(WORD) ?? [])
      found.set(word, [...(found.get(word) ?? []), path]);
  return found;
};

/** What became of every word that somebody wrote. */
export const bookOfWords = () => {
  const known = new Set<string>();
  const removed = new Map<string, string>();
  const free = new Set<string>();
  return {
    /** Where these end is a person's decision from here on. */
    decide: (words: Iterable<string>): void => {
      for (const word of words) free.add(word);
    },
    /** Notes what an edit of a worktree wrote, and took away. */
    noting: (root: string, edit: () => string): string => {
      const before = wordsIn(root);
      const what = edit();
      const after = wordsIn(root);
      for (const word of before.keys()) if (!after.has(word)) removed.set(word, what);
      for (const [word, paths] of after) {
        // Written twice, brought back by git, or in a file that may not travel.
        if (paths.length > 1 || paths.some((path) => OFTEN_IGNORED.test(path))) free.add(word);
        if (before.has(word)) continue;
        if (known.has(word)) free.add(word);
        removed.delete(word);
        known.add(word);
      }
      return what;
    },
    /** Nobody took it away, and no person decided about it. */
    stays: (word: string): boolean => known.has(word) && !free.has(word) && !removed.has(word),
    problems: (zone: string): string[] => {
      const there = wordsIn(zone);
      return [...known]
        .filter((word) => !free.has(word))
        .flatMap((word) => {
          const paths = there.get(word) ?? [];
          const gone = removed.get(word);
          if (!gone && paths.length === 0) return [`lost ${word}`];
          if (gone && paths.length > 0) return [`${word} is back in ${paths}, removed by: ${gone}`];
          return paths.length > 1 ? [`doubled ${word} in ${paths}`] : [];
        });
    },
  };
};
