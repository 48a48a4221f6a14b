import type { Item } from './calls.ts';
import { jsonLine, oneLine, sanitize } from './sanitize.ts';

/** An event in words: what --watch, logs and the view of a clone show of it. */

/** How much of the events a person wants to see; each shows what the one before it shows. `raw`: all, as they are. */
export const VERBOSITIES = ['quiet', 'normal', 'verbose', 'raw'] as const;
export type Verbosity = (typeof VERBOSITIES)[number];

const LINE_CHARS = 400;

/** What ended or waits for somebody; the rest of a task's states is for those who look closer. */
const LOUD_STATES = new Set(['held', 'paused', 'done', 'failed', 'cancelled', 'unknown']);

const linesOf = (text: string): string[] => sanitize(text).trimEnd().split('\n');

/** What one event says to a person, without a line break at its end; nothing for what only machines need. */
export const eventLines = (item: Item): string[] => {
  const { event } = item;
  switch (event.type) {
    case 'task':
      return [
        `${event.state}${event.hold ? ` (${oneLine(event.hold, 40)})` : ''}${event.message ? `: ${oneLine(event.message, LINE_CHARS)}` : ''}`,
      ];
    case 'text':
      return event.final ? linesOf(event.text) : [];
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

/** What only those see who asked for everything that a brain tells. */
const verboseLines = (item: Item): string[] => {
  const { event } = item;
  switch (event.type) {
    case 'tool.end':
      return event.ok && event.output.trim() !== '' ? linesOf(event.output) : eventLines(item);
    case 'thinking':
      return linesOf(event.text);
    case 'session':
      return [`session ${oneLine(event.id, 200)}`];
    case 'usage': {
      const { input, output, cacheRead, cacheWrite } = event.usage;
      return [
        `tokens: ${input} in, ${output} out, ${cacheRead} read from and ${cacheWrite} written to the cache`,
      ];
    }
    default:
      return eventLines(item);
  }
};

/** The events that `quiet` shows any of. */
export const LOUD_TYPES: readonly string[] = ['task', 'permission'];

const isLoud = ({ event }: Item): boolean =>
  LOUD_TYPES.includes(event.type) && (event.type !== 'task' || LOUD_STATES.has(event.state));

/** The same with more or fewer events. Pieces of text are not told here: they are lines only when they are joined. */
export const linesAt = (item: Item, verbosity: Verbosity): string[] => {
  if (verbosity === 'raw') return [jsonLine(item.event)];
  if (verbosity === 'verbose') return verboseLines(item);
  return verbosity === 'quiet' && !isLoud(item) ? [] : eventLines(item);
};
