import type { Item } from './calls.ts';
import { eventLines } from './event-lines.ts';
import { oneLine } from './sanitize.ts';
import { createManyTextLines } from './text-lines.ts';

/**
 * A journal as a person reads it: each task with what was done for it below. Tasks are queued while others run, so a
 * task's heading waits for its start; clones work at the same time, so a heading is repeated where another's words end.
 */

const HEADING_CHARS = 400;
/** Tasks whose titles are remembered: a view of a clone may be looked at for weeks. The oldest is forgotten. */
const MAX_TITLES = 2_000;
/** States that a reader of the past needs no line for. */
const PASSED_OVER = new Set(['queued', 'dispatching', 'active']);

const timeOf = (atMs: number): string => new Date(atMs).toISOString().slice(0, 19).replace('T', ' ');

const cloneOf = (item: Item): string => oneLine(item.clone ?? '', 60);

const indented = (line: string): string => `  ${line}`;

/** What one event adds below its task's heading; a state stands beside its time. */
const linesOf = (item: Item): string[] => {
  const { event } = item;
  if (event.type !== 'task') {
    return eventLines(item).map((line) => indented(event.type === 'tool.start' ? `$ ${line}` : line));
  }
  if (PASSED_OVER.has(event.state)) return [];
  return [`${timeOf(item.atMs)}  ${cloneOf(item)}: ${eventLines(item).join(' ')}`];
};

/** Takes items one by one; the lines, without line breaks, that each adds. `end` gives what still waits for a break. */
export const createTranscript = (): { take(item: Item): string[]; end(): string[] } => {
  const titles = new Map<string, string>();
  const pieces = createManyTextLines();
  let current: string | undefined;

  const remember = (task: string, title: string): void => {
    titles.delete(task);
    titles.set(task, title);
    const [oldest] = titles.keys();
    if (titles.size > MAX_TITLES && oldest !== undefined) titles.delete(oldest);
  };

  const under = (item: Item, lines: string[]): string[] => {
    const task = oneLine(item.task ?? '', 40);
    if (lines.length === 0 || task === current) return lines;
    current = task;
    return ['', `${timeOf(item.atMs)}  ${cloneOf(item)}  ${titles.get(task) ?? task}`, ...lines];
  };

  return {
    take: (item) => {
      const { event } = item;
      if (event.type === 'task' && event.title !== undefined) {
        const task = oneLine(item.task ?? '', 40);
        remember(task, `${event.kind} ${task}  ${oneLine(event.title, HEADING_CHARS)}`);
      }
      const begun = pieces.take(item);
      return under(item, [...begun.lines.map(indented), ...(begun.isPiece ? [] : linesOf(item))]);
    },
    end: () => pieces.end().map(indented),
  };
};
