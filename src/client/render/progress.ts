import type { Item } from '../../protocol/calls.ts';
import type { Caller } from '../caller.ts';
import { jsonLine, oneLine, sanitize } from '../terminal/sanitize.ts';
import { createPieces } from './pieces.ts';

/** Events of a task as plain lines, for --watch and for logs. */

const LINE_CHARS = 400;

/** What one event says to a person, without a line break at its end; nothing for what only machines need. */
export const eventLines = (item: Item): string[] => {
  const { event } = item;
  switch (event.type) {
    case 'task':
      return [
        `${event.state}${event.hold ? ` (${oneLine(event.hold, 40)})` : ''}${event.message ? `: ${oneLine(event.message, LINE_CHARS)}` : ''}`,
      ];
    case 'text':
      return event.final ? sanitize(event.text).trimEnd().split('\n') : [];
    case 'tool.start':
      return [`${oneLine(event.name, 60)} ${oneLine(event.input, LINE_CHARS)}`];
    case 'tool.end':
      return event.denied
        ? [`refused: ${oneLine(event.output, LINE_CHARS)}`]
        : event.ok
          ? []
          : [`failed: ${oneLine(event.output, LINE_CHARS)}`];
    case 'plan':
      return [
        `${event.done} of ${event.total} steps${event.step ? `: ${oneLine(event.step, LINE_CHARS)}` : ''}`,
      ];
    case 'permission':
      return [`asks for permission: ${oneLine(event.tool, 60)} ${oneLine(event.input, LINE_CHARS)}`];
    case 'retry':
      return [`the API answers ${event.status ?? 'nothing'}; try ${event.attempt}`];
    case 'warn':
      return [oneLine(event.text, LINE_CHARS)];
    case 'note':
      return [oneLine(event.text, LINE_CHARS)];
    default:
      return [];
  }
};

/** States that say nothing to somebody who just read the receipt, or who reads the outcome below. */
const SILENT = new Set(['queued', 'dispatching', 'done', 'failed', 'cancelled']);

/** Prints events as they come, where the caller wants them. */
export const createProgress = (
  caller: Caller,
  wish: { progress: boolean; json: boolean },
): ((item: Item) => void) => {
  const pieces = createPieces();
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
