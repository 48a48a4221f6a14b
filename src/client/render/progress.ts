import type { Item } from '../../protocol/calls.ts';
import { eventLines } from '../../protocol/event-lines.ts';
import { jsonLine, oneLine } from '../../protocol/sanitize.ts';
import { createTextLines } from '../../protocol/text-lines.ts';
import type { Caller } from '../caller.ts';

/** Events of a task as they come, for --watch. */

/** States that say nothing to somebody who just read the receipt, or who reads the outcome below. */
const SILENT = new Set(['queued', 'dispatching', 'done', 'failed', 'cancelled']);

/** Prints events as they come, where the caller wants them. */
export const createProgress = (
  caller: Caller,
  wish: { progress: boolean; json: boolean },
): ((item: Item) => void) => {
  const pieces = createTextLines();
  return (item) => {
    if (!wish.progress) return;
    if (wish.json) {
      caller.out(`${jsonLine(item)}\n`);
      return;
    }
    const { isPiece, lines } = pieces.take(item);
    const silent = isPiece || (item.event.type === 'task' && SILENT.has(item.event.state));
    const clone = oneLine(item.clone ?? '', 60);
    for (const line of [...lines, ...(silent ? [] : eventLines(item))]) caller.err(`[${clone}] ${line}\n`);
  };
};
