import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { createBookmarked, readBookmark, writeBookmark } from '../../src/client/bookmark.ts';
import type { Marks } from '../../src/client/caller.ts';
import { createEventLines } from '../../src/client/render/progress.ts';
import { createPen } from '../../src/client/transcript-pen.ts';
import type { Item } from '../../src/protocol/calls.ts';
import type { BrainEvent } from '../../src/protocol/event.ts';
import { VERBOSITIES } from '../../src/protocol/event-lines.ts';

/** A hub may die behind any piece that it told: the next one goes on with the very next line. */

const words = fc.stringMatching(/^[a-c\n\r\u001b[P;]{0,12}$/);
const event: fc.Arbitrary<BrainEvent> = fc.oneof(
  { weight: 5, arbitrary: words.map((text) => ({ type: 'text', text, final: false }) as const) },
  words.map((text) => ({ type: 'text', text, final: true }) as const),
  words.map((text) => ({ type: 'thinking', text }) as const),
  words.map((text) => ({ type: 'warn', text }) as const),
  words.map((text) => ({ type: 'permission', id: 'i', tool: 't', input: text }) as const),
  fc.constant({ type: 'text', text: `${'long '.repeat(9_000)}\n`.repeat(2), final: false } as const),
);
const items = fc
  .array(fc.record({ event, clone: fc.constantFrom('mechanic.1', 'reviewer.1') }), {
    size: 'max',
    maxLength: 60,
  })
  .map((all) => all.map((one, n): Item => ({ epoch: 'e', seq: n + 1, atMs: 0, ...one })));

describe('a bookmark', () => {
  test('goes on where the lines ended, wherever that is', () => {
    fc.assert(
      fc.property(items, fc.constantFrom(...VERBOSITIES), fc.nat(), (journal, verbosity, pick) => {
        const start = { after: 'start', lines: 0 } as const;
        const maker = () => createEventLines({ verbosity, label: (clone) => `[${clone}] ` });
        const first = createBookmarked(maker(), start);
        const told = journal.flatMap((item) => first.take(item));
        const cut = told.length === 0 ? 0 : pick % (told.length + 1);
        const place = readBookmark(told[cut - 1]?.mark, 'start');
        const { after } = place;
        const second = createBookmarked(maker(), place);
        const rest = journal.filter(({ seq }) => typeof after === 'string' || seq > after.seq);
        const again = rest.flatMap((item) => second.take(item).flatMap(({ lines }) => lines));
        expect(again).toEqual(told.slice(cut).flatMap(({ lines }) => lines));
      }),
    );
  });

  test('moves on behind lines that are whole, and stays before one that is begun', () => {
    const lines = createBookmarked(createEventLines({ verbosity: 'normal', label: () => '' }), {
      after: 'live',
      lines: 0,
    });
    const take = (seq: number, text: string): string => {
      lines.take({
        epoch: 'e',
        seq,
        atMs: 0,
        clone: 'mechanic.1',
        event: { type: 'text', text, final: false },
      });
      return lines.mark();
    };
    expect(take(1, 'begun')).toBe(writeBookmark({ after: 'live', lines: 0 }));
    expect(take(2, ' and ended\nbegun')).toBe(writeBookmark({ after: 'live', lines: 1 }));
    expect(take(3, ' again\n')).toBe(writeBookmark({ after: { epoch: 'e', seq: 3 }, lines: 0 }));
  });

  test('that was written by nobody is refused', () => {
    for (const nonsense of ['', '{}', '["e",-1,0]', '["e",1]', 'e 1 2'])
      expect(() => readBookmark(nonsense, 'start')).toThrow();
  });
});

describe('the pen of a transcript', () => {
  const TASKS = ['task-0000000001', 'task-0000000002'];
  const listed = TASKS.map((id) => ({ id, kind: 'act' as const, title: `title of ${id}` }));
  const about = fc.record({ event, task: fc.constantFrom(...TASKS), clone: fc.constantFrom('a.1', 'b.1') });
  const journals = fc.array(about, { size: 'max', maxLength: 60 }).map((all): Item[] => {
    const queued = listed.map(({ id, kind, title }) => ({
      ...{ task: id, clone: 'a.1' },
      event: { type: 'task', state: 'queued', kind, title } as const,
    }));
    return [...queued, ...all].map((one, n) => ({ epoch: 'e', seq: n + 1, atMs: 0, ...one }));
  });
  const written = (journal: readonly Item[], marks: Marks, tasks: typeof listed) => {
    const pieces: { text: string; marks: Marks }[] = [];
    const pen = createPen(marks, tasks, false, (text, place = {}) => pieces.push({ text, marks: place }));
    const after = pen.after();
    for (const item of journal) if (typeof after === 'string' || item.seq > after.seq) pen.write(item);
    pen.end();
    return pieces;
  };
  const textOf = (pieces: { text: string }[]): string => pieces.map(({ text }) => text).join('');

  test('goes on behind any piece with the headings that were told', () => {
    fc.assert(
      fc.property(journals, fc.nat(), (journal, pick) => {
        const whole = written(journal, {}, []);
        // The last words that wait for a break have no place of their own: a dead hub never told them.
        const placed = whole.filter(({ marks }) => marks.log !== undefined);
        const cut = pick % (placed.length + 1);
        const rest = written(journal, placed[cut - 1]?.marks ?? {}, cut === 0 ? [] : listed);
        expect(textOf(placed.slice(0, cut)) + textOf(rest)).toBe(textOf(whole));
      }),
      { numRuns: 300 },
    );
  });
});
