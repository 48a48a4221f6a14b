/** Words longer than this are nobody's slip of the pen, and the table below grows with their length. */
const MAX_WORD_CHARS = 64;

/** Edits (insert, delete, replace, swap of neighbours) between two words: optimal string alignment. */
const distance = (a: string, b: string): number => {
  let before: number[] = [];
  let last = Array.from({ length: b.length + 1 }, (_, index) => index);
  for (let i = 1; i <= a.length; i += 1) {
    const row = [i];
    for (let j = 1; j <= b.length; j += 1) {
      const same = a[i - 1] === b[j - 1];
      const cost = (last[j - 1] ?? 0) + (same ? 0 : 1);
      let best = Math.min(cost, (last[j] ?? 0) + 1, (row[j - 1] ?? 0) + 1);
      const swapped = i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1];
      if (swapped) best = Math.min(best, (before[j - 2] ?? 0) + 1);
      row.push(best);
    }
    before = last;
    last = row;
  }
  return last[b.length] ?? 0;
};

/** The known word that somebody probably meant, or undefined where none is close (a third of its letters, at most 3). */
export const nearest = (word: string, known: readonly string[]): string | undefined => {
  const plain = (text: string): string => text.toLowerCase().replaceAll('_', '-');
  if (word.length > MAX_WORD_CHARS) return undefined;
  const ranked = known
    .map((candidate) => ({ candidate, edits: distance(plain(word), plain(candidate)) }))
    .filter(({ candidate, edits }) => edits <= Math.min(3, Math.max(1, Math.floor(candidate.length / 3))))
    .sort((a, b) => a.edits - b.edits);
  return ranked[0]?.candidate;
};
