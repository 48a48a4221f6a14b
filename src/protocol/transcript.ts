import type { Item, TaskView } from './calls.ts';
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

export type Transcript = {
  /** The lines, without line breaks, that an item adds. */
  take(item: Item): string[];
  /** What still waits for a break. */
  end(): string[];
  /** Whether no line is begun. */
  isClean(): boolean;
  /** The task whose heading stands above what comes next. */
  current(): string | undefined;
};

const headingOf = (kind: string, task: string, title: string): string =>
  `${kind} ${task}  ${oneLine(title, HEADING_CHARS)}`;

/** What was told before: the tasks that had begun or were queued, and the one that was told of last. */
export type Told = { current: string | undefined; tasks: readonly Pick<TaskView, 'id' | 'kind' | 'title'>[] };

/** Takes items one by one, from the beginning of a journal or behind what was told of it. */
export const createTranscript = (told: Told = { current: undefined, tasks: [] }): Transcript => {
  const titles = new Map(told.tasks.map(({ id, kind, title }) => [id, headingOf(kind, id, title)]));
  const pieces = createManyTextLines();
  let { current } = told;

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
        remember(task, headingOf(event.kind, task, event.title));
      }
      const begun = pieces.take(item);
      return under(item, [...begun.lines.map(indented), ...(begun.isPiece ? [] : linesOf(item))]);
    },
    end: () => pieces.end().map(indented),
    isClean: pieces.isClean,
    current: () => current,
  };
};
