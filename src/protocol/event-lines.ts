import type { Item } from './calls.ts';
import { oneLine, sanitize } from './sanitize.ts';

/** An event in words: what --watch, logs and the view of a clone show of it. */

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
