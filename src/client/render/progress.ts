import type { Item } from '../../protocol/calls.ts';
import { linesAt, type Verbosity } from '../../protocol/event-lines.ts';
import { jsonLine, oneLine } from '../../protocol/sanitize.ts';
import { createManyTextLines } from '../../protocol/text-lines.ts';
import { type Bookmark, createBookmarked, type LineMaker } from '../bookmark.ts';
import type { Caller } from '../caller.ts';

/** Events as lines while they come, each behind the name of its clone. */

/** States that say nothing to somebody who just read the receipt, or who reads the outcome below. */
const SILENT = new Set(['queued', 'dispatching', 'done', 'failed', 'cancelled']);

export type EventLineWish = {
  verbosity: Verbosity;
  label: (clone: string) => string;
  /** What a state of a task says; without it the words of all events. */
  stateLines?: (item: Item) => string[];
};

/** Lines of events of many clones, each of which may have begun a line that another one's words do not end. */
export const createEventLines = ({ verbosity, label, stateLines }: EventLineWish): LineMaker => {
  const joined = createManyTextLines();
  const linesOf = (item: Item): string[] => {
    if (verbosity === 'raw') return linesAt(item, 'raw');
    const own = (): string[] =>
      stateLines && item.event.type === 'task' ? stateLines(item) : linesAt(item, verbosity);
    if (verbosity === 'quiet') return linesAt(item, 'quiet').length > 0 ? own() : [];
    const { isPiece, lines } = joined.take(item);
    return isPiece ? lines : [...lines, ...own()];
  };
  return {
    take: (item) => linesOf(item).map((line) => `${label(oneLine(item.clone ?? '', 60))}${line}`),
    isClean: joined.isClean,
  };
};

export const bracketed = (clone: string): string => `[${clone}] `;

/** Prints events of a task as they come, where the caller wants them, and marks how far it is. */
export const createProgress = (
  caller: Caller,
  wish: { progress: boolean; json: boolean; verbosity: Verbosity },
  start: Bookmark,
): ((item: Item) => void) => {
  if (!wish.progress) return () => {};
  const stateLines = (item: Item): string[] =>
    item.event.type === 'task' && SILENT.has(item.event.state) ? [] : linesAt(item, wish.verbosity);
  const maker: LineMaker = wish.json
    ? { take: (item) => [jsonLine(item)], isClean: () => true }
    : createEventLines({ verbosity: wish.verbosity, label: bracketed, stateLines });
  const lines = createBookmarked(maker, start);
  const print = wish.json ? caller.out : caller.err;
  return (item) => {
    for (const told of lines.take(item)) print(`${told.lines.join('\n')}\n`, { at: told.mark });
  };
};
