import type { Cursor, Item } from '../protocol/calls.ts';
import { jsonLine } from '../protocol/sanitize.ts';
import { createTranscript, type Told, type Transcript } from '../protocol/transcript.ts';
import type { App } from './app.ts';
import type { Binding } from './bindings.ts';
import { createBookmarked, readBookmark } from './bookmark.ts';
import { call } from './call.ts';
import type { Caller, Marks } from './caller.ts';
import { serverOfZone } from './server-call.ts';

/**
 * Prints a journal as a transcript and says behind each piece how far it came: a hub that takes over from a dead one
 * goes on there, and reads nothing twice.
 */

export type Pen = {
  /** Where the reading begins. */
  after(): Cursor;
  write(item: Item): void;
  end(): void;
};

/** Tasks whose headings may be repeated behind the place where a dead hub stopped. */
const MAX_TASKS = 1_000;

const tasksOf = async (app: App, caller: Caller, binding: Binding): Promise<Told['tasks']> => {
  const { peer } = await serverOfZone(app, caller, binding);
  return (await call(peer, 'task.list', { zone: binding.zone, ended: true, most: MAX_TASKS })).tasks;
};

/** Items as they are, one a line. */
const jsonLines = (): Transcript => ({
  take: (item) => [jsonLine(item)],
  end: () => [],
  isClean: () => true,
  current: () => undefined,
});

/** Writes by `out`, each piece with the marks by which another pen goes on behind it. */
export const createPen = (marks: Marks, tasks: Told['tasks'], json: boolean, out: Caller['out']): Pen => {
  const start = readBookmark(marks.log, 'start');
  let heading = marks.heading ?? '';
  const transcript = json ? jsonLines() : createTranscript({ current: heading || undefined, tasks });
  const lines = createBookmarked(transcript, start);
  return {
    after: lines.after,
    write: (item) => {
      const before = { after: lines.after(), heading };
      const pieces = lines.take(item);
      // A heading belongs to the place that is read from again, not to the lines told since: only the last piece moves it.
      if (lines.after() !== before.after) heading = transcript.current() ?? '';
      for (const [i, { lines: text, mark }] of pieces.entries()) {
        const at = i < pieces.length - 1 ? before.heading : heading;
        // In one piece: a script's output may be many thousand lines, and each piece is a message.
        out(`${text.join('\n')}\n`, { log: mark, heading: at });
      }
    },
    end: () => {
      const last = transcript.end();
      if (last.length > 0) out(`${last.join('\n')}\n`);
    },
  };
};

/** A pen that goes on where the one of a dead hub stopped. */
export const openPen = async (app: App, caller: Caller, binding: Binding, json: boolean): Promise<Pen> => {
  const tasks = caller.marks.log === undefined ? [] : await tasksOf(app, caller, binding);
  return createPen(caller.marks, tasks, json, caller.out);
};
