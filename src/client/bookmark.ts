import * as z from 'zod';
import type { Cursor, Item } from '../protocol/calls.ts';

/**
 * Lines that are made of a journal's items, and how far they are told. A line may be made of many items, and an item of
 * many lines, so a place between two lines is the last item before which nothing was begun, and the lines told since:
 * whoever makes the lines of the items behind it again passes over those, and goes on without a gap or a repeat.
 */

export type Bookmark = { after: Cursor; lines: number };

/** Makes lines of items; the same items give as many lines each time. */
export type LineMaker = {
  take(item: Item): string[];
  /** Whether no line is begun. */
  isClean(): boolean;
};

/** Lines to print in one piece, and the place behind them. */
export type Told = { lines: string[]; mark: string };

/** Characters of lines that are told as one: far below what may travel in one message. */
const PIECE_CHARS = 32 * 1024;

const Written = z.tuple([z.string().max(40), z.number().int().min(0), z.number().int().min(0)]);

export const writeBookmark = ({ after, lines }: Bookmark): string =>
  JSON.stringify(typeof after === 'string' ? [after, 0, lines] : [after.epoch, after.seq, lines]);

/** A place that was written down, or `otherwise` where none was. */
export const readBookmark = (written: string | undefined, otherwise: Cursor): Bookmark => {
  if (written === undefined) return { after: otherwise, lines: 0 };
  const [epoch, seq, lines] = Written.parse(JSON.parse(written));
  return { after: epoch === 'start' || epoch === 'live' ? epoch : { epoch, seq }, lines };
};

/** Cuts lines into pieces that are not much longer than PIECE_CHARS; a line stays whole. */
const inPieces = (lines: readonly string[]): string[][] => {
  const pieces: string[][] = [];
  let chars = 0;
  for (const line of lines) {
    if (pieces.length === 0 || chars + line.length > PIECE_CHARS) {
      pieces.push([]);
      chars = 0;
    }
    pieces.at(-1)?.push(line);
    chars += line.length + 1;
  }
  return pieces;
};

/** Goes on from a place. `take` gives what an item adds, already told lines left out. */
export const createBookmarked = (maker: LineMaker, start: Bookmark) => {
  let { after, lines: passOver } = start;
  /** Lines made since `after`. */
  let made = 0;
  return {
    /** Where a subscription begins that goes on from here. */
    after: (): Cursor => after,
    /** The place behind all that was taken. */
    mark: (): string => writeBookmark({ after, lines: made }),
    take: (item: Item): Told[] => {
      const all = maker.take(item);
      const old = Math.min(passOver, all.length);
      passOver -= old;
      let at = made + old;
      const told = inPieces(all.slice(old)).map((lines) => {
        at += lines.length;
        return { lines, mark: writeBookmark({ after, lines: at }) };
      });
      made += all.length;
      if (!maker.isClean()) return told;
      after = { epoch: item.epoch, seq: item.seq };
      made = 0;
      passOver = 0;
      const last = told.at(-1);
      if (last) last.mark = writeBookmark({ after, lines: 0 });
      return told;
    },
  };
};
