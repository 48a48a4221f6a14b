import type { CloneView, Item, TaskState } from '../../protocol/calls.ts';
import { oneLine } from '../../protocol/sanitize.ts';
import { createTranscript } from '../../protocol/transcript.ts';

/** A clone's journal as its view shows it: the transcript, harmless by itself, with a few colours of ours. */

const RESET = '\x1b[m';
const BOLD = '\x1b[1m';
const FAINT = '\x1b[2m';
const COLOURS: Partial<Record<TaskState, string>> = {
  done: '\x1b[32m',
  failed: '\x1b[31m',
  cancelled: '\x1b[31m',
  held: '\x1b[33m',
  unknown: '\x1b[33m',
};
const TITLE_CHARS = 200;

const inColour = (colour: string | undefined, line: string): string =>
  colour === undefined || line === '' ? line : `${colour}${line}${RESET}`;

/** What belongs to a task is indented, and so is every line that a clone wrote: headings and states are ours. */
const paint = (item: Item, line: string): string => {
  if (line.startsWith('  $ ')) return inColour(FAINT, line);
  if (line.startsWith('  ')) return line;
  return inColour(item.event.type === 'task' ? (COLOURS[item.event.state] ?? BOLD) : BOLD, line);
};

export const faint = (line: string): string => inColour(FAINT, line);

/** Takes items one by one; the lines, without line breaks, that each adds to the screen, and `end` what waits for more. */
export const createPainting = (): { take(item: Item): string[]; end(): string[] } => {
  const transcript = createTranscript();
  return {
    end: transcript.end,
    take: (item) =>
      transcript
        .take(item)
        .flatMap((line) => line.split('\n'))
        .map((line) => paint(item, line)),
  };
};

/** What the clone does now, on one line. */
export const nowLine = ({ state, title = '', note, queued }: CloneView): string => {
  const words =
    state === 'active'
      ? `● at work: ${oneLine(title, TITLE_CHARS)}`
      : state === 'waiting' || note !== undefined
        ? `◐ ${oneLine(note ?? 'waits', TITLE_CHARS)}`
        : queued > 0
          ? '◌ about to begin'
          : '○ idle, its queue is empty';
  return faint(queued > 0 ? `${words}, ${queued} queued` : words);
};
