import type { Style } from '../caller.ts';
import { mark } from './receipt.ts';

/** Lines that a person has to read to the end, broken to the width of a terminal instead of cut. */

/** Below this many cells words would stand letter under letter. */
const LEAST_CELLS = 10;
const INDENT = '  ';

/** Words in lines of so many cells; a longer word is broken. What follows the first line is indented. */
const filled = (text: string, width: number): string[] => {
  const lines: string[][] = [[]];
  const room = (): number => width - (lines.length > 1 ? INDENT.length : 0) - (lines.at(-1)?.length ?? 0);
  for (const word of text.split(' ')) {
    let rest = [...word];
    const isFirst = lines.at(-1)?.length === 0;
    if (!isFirst && rest.length + 1 <= room()) lines.at(-1)?.push(' ');
    else if (!isFirst) lines.push([]);
    while (rest.length > room()) {
      const taken = room();
      lines.at(-1)?.push(...rest.slice(0, taken));
      rest = rest.slice(taken);
      lines.push([]);
    }
    lines.at(-1)?.push(...rest);
  }
  return lines.map((line, n) => (n === 0 ? '' : INDENT) + line.join(''));
};

/** A line in as many as it takes; where it has a next step, that begins a line of its own. */
export const wrapped = (line: string, width: number, style: Style): string[] => {
  const cells = Math.max(LEAST_CELLS, width);
  if ([...line].length <= cells) return [line];
  const at = line.indexOf(` ${mark(style, 'next')} `);
  if (at < 0) return filled(line, cells);
  return [
    ...filled(line.slice(0, at), cells),
    ...filled(line.slice(at + 1), cells - INDENT.length).map((one) => INDENT + one),
  ];
};
