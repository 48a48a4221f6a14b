/**
 * A terminal whose last rows are drawn anew while lines scroll by above them. The cursor waits at the beginning of the
 * row below, so whatever ends the command, a prompt stands where it should. Keys must not be shown meanwhile; no other
 * mode of the terminal is held between two frames.
 */

/** The rows are cut at the terminal's edge instead of wrapped: their number is known however wide a character is. */
const WRAP_OFF = '\u001b[?7l';
const WRAP_ON = '\u001b[?7h';
const ERASE_BELOW = '\u001b[J';

const up = (rows: number): string => (rows > 0 ? `\u001b[${rows}A` : '');

/** Rows that lines of these widths take: a terminal that became narrower has wrapped what it showed. */
export const rowsOf = (widths: readonly number[], columns: number): number =>
  widths.reduce((rows, width) => rows + Math.max(1, Math.ceil(width / Math.max(1, columns))), 0);

/** How the rows at the bottom were drawn, as a word for the next hub. */
export const writeDrawn = (widths: readonly number[]): string => widths.join(',');

export const readDrawn = (written: string | undefined): number[] =>
  written && /^\d{1,5}(,\d{1,5}){0,99}$/.test(written) ? written.split(',').map(Number) : [];

export type Size = { columns: number; rows: number };

/** What is sent to bring new lines above the region, and the region to a new state. Known: all lines are harmless. */
export const frameOf = (
  drawn: readonly number[],
  lines: readonly string[],
  region: readonly string[],
  size: Size,
): { text: string; drawn: number[] } => {
  const shown = region.map((line) => [...line].slice(0, size.columns).join(''));
  // A terminal of fewer rows than were drawn has lost the uppermost ones to its history.
  const back = Math.min(rowsOf(drawn, size.columns), Math.max(0, size.rows - 1));
  const above = lines.map((line) => `${line}\n`).join('');
  const below = shown.map((line) => `${line}\n`).join('');
  return {
    text: `\r${up(back)}${ERASE_BELOW}${above}${WRAP_OFF}${below}${WRAP_ON}`,
    drawn: shown.map((line) => [...line].length),
  };
};

/** Rows that the region may take: what scrolls by is to be seen too. */
const MAX_REGION_ROWS = 12;
export const regionRows = ({ rows }: Size): number =>
  Math.min(MAX_REGION_ROWS, Math.max(1, Math.floor(rows / 2)));

/** Lines and characters that wait for the next frame; who reads more than this in a tenth of a second reads nothing. */
const MAX_LINES = 500;
const MAX_CHARS = 64 * 1024;
const LINE_CHARS = 2_000;

/** The newest lines that were not shown yet, and how many older ones were passed over. */
export const createPending = () => {
  let lines: string[] = [];
  let passed = 0;
  const keepLast = (most: number): void => {
    passed += Math.max(0, lines.length - most);
    if (lines.length > most) lines = lines.slice(-most);
  };
  /** How many of the last lines fit into a frame. */
  const fitting = (): number => {
    let chars = 0;
    const tooOld = lines.findLastIndex((line) => {
      chars += line.length;
      return chars > MAX_CHARS;
    });
    return Math.min(MAX_LINES, lines.length - 1 - tooOld);
  };
  return {
    isEmpty: (): boolean => lines.length === 0,
    push: (more: readonly string[]): void => {
      for (const line of more.slice(-MAX_LINES))
        lines.push(line.length > LINE_CHARS ? `${line.slice(0, LINE_CHARS)}…` : line);
      passed += Math.max(0, more.length - MAX_LINES);
      // Seldom, because many lines are moved each time.
      if (lines.length > 4 * MAX_LINES) keepLast(MAX_LINES);
    },
    take: (): { lines: string[]; passed: number } => {
      keepLast(fitting());
      const taken = { lines, passed };
      lines = [];
      passed = 0;
      return taken;
    },
  };
};
