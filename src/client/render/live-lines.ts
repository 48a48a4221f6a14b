import type { Item, TaskState } from '../../protocol/calls.ts';
import { linesAt, type Verbosity } from '../../protocol/event-lines.ts';
import { oneLine } from '../../protocol/sanitize.ts';
import type { LineMaker } from '../bookmark.ts';
import type { Style } from '../caller.ts';
import { createEventLines } from './progress.ts';
import { type MARKS, mark } from './receipt.ts';

/** The lines of `khlone watch`: what the clones do, each behind its name, and what becomes of their tasks. */

const MARK_OF: Readonly<Partial<Record<TaskState, keyof typeof MARKS>>> = {
  queued: 'queued',
  held: 'waiting',
  paused: 'waiting',
  active: 'active',
  done: 'done',
  failed: 'failed',
  cancelled: 'failed',
  unknown: 'attention',
};
/** Titles that are remembered: tasks that wait in one zone are fewer. */
const MAX_TITLES = 2_000;
const TITLE_CHARS = 120;

export type LiveWish = {
  verbosity: Verbosity;
  style: Style;
  /** Before a clone's name: its zone, where several are watched. */
  zone: string;
  /** Titles of tasks that were queued before. */
  titles: ReadonlyMap<string, string>;
};

/** Whether a state is worth a line to somebody who watches, and not only to somebody who looks closer. */
const isPassedOver = (state: TaskState, verbosity: Verbosity): boolean =>
  MARK_OF[state] === undefined && verbosity !== 'verbose';

export const createLiveLines = ({ verbosity, style, zone, titles: known }: LiveWish): LineMaker => {
  const titles = new Map(known);
  const titleOf = (item: Item): string => {
    const { event, task = '' } = item;
    if (event.type !== 'task') return '';
    const title = event.title ?? titles.get(task) ?? '';
    titles.delete(task);
    const isOver = ['done', 'failed', 'cancelled'].includes(event.state);
    if (!isOver && title !== '') titles.set(task, title);
    const [oldest] = titles.keys();
    if (titles.size > MAX_TITLES && oldest !== undefined) titles.delete(oldest);
    return oneLine(title, TITLE_CHARS);
  };
  const stateLines = (item: Item): string[] => {
    const title = titleOf(item);
    const [words = ''] = linesAt(item, 'normal');
    if (item.event.type !== 'task' || isPassedOver(item.event.state, verbosity)) return [];
    const sign = MARK_OF[item.event.state];
    const task = `${item.event.kind} ${oneLine(item.task ?? '', 40)}`;
    return [`${sign ? `${mark(style, sign)} ` : ''}${words}  ${[task, title].filter(Boolean).join(' ')}`];
  };
  const dim = (text: string): string => (style.colour ? `\u001b[2m${text}\u001b[22m` : text);
  const label = (clone: string): string =>
    `${dim(`[${[zone, clone].filter(Boolean).join(' ') || 'zone'}]`)} `;
  return createEventLines({ verbosity, label, stateLines });
};
