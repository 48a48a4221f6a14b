import { expect, test } from 'vitest';
import { nearConflicts } from '../../../src/client/render/near-conflicts.ts';

const numbered = (from: number, to: number): string =>
  Array.from({ length: to - from + 1 }, (_, n) => `${from + n}\n`).join('');
const conflict = '<<<<<<< local\na\n||||||| base\n=======\nb\n>>>>>>> remote\n';

test('shows each conflict with three lines around it, and counts the others', () => {
  const text = `${numbered(1, 49)}${conflict}${numbered(51, 60)}${conflict}${numbered(61, 64)}`;
  expect(nearConflicts(text, 7)).toBe(
    `… 46 lines\n47\n48\n49\n${conflict}51\n52\n53\n… 4 lines\n58\n59\n60\n${conflict}61\n62\n63\n64\n`,
  );
});

test('shows a short file whole, with an end of line where it has none', () => {
  const text = `${numbered(1, 4)}${conflict}last`;
  expect(nearConflicts(text, 7)).toBe(`${text}\n`);
  expect(nearConflicts(conflict, 7)).toBe(conflict);
});

test('takes no shorter run of signs for a marker', () => {
  const heading = `${numbered(1, 5)}<<<<<<< not one\n${numbered(6, 9)}`;
  const marked = '<<<<<<<< local\na\n|||||||| base\n========\n>>>>>>>> remote\n';
  expect(nearConflicts(`${heading}${marked}`, 8)).toBe(`… 7 lines\n7\n8\n9\n${marked}`);
});
