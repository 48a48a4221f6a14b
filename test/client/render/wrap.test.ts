import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { type ZoneStatus, zoneLines } from '../../../src/client/render/status.ts';
import { wrapped } from '../../../src/client/render/wrap.ts';

/** What a person has to read to the end, in terminals of few columns. */

const STYLE = { utf8: true, colour: false };
const solid = (text: string): string => text.replaceAll(' ', '');

describe('a line that is broken', () => {
  test('loses nothing and stands in its width, for any words', () => {
    const word = fc.oneof(fc.string({ unit: 'grapheme', maxLength: 60 }), fc.constantFrom('↳', '', '↳ ↳'));
    fc.assert(
      fc.property(
        fc.array(word, { maxLength: 60, size: 'max' }),
        fc.integer({ min: 1, max: 90 }),
        (words, width) => {
          const text = words.join(' ');
          const lines = wrapped(text, width, STYLE);
          expect(solid(lines.join(''))).toBe(solid(text));
          for (const line of lines) expect([...line].length).toBeLessThanOrEqual(Math.max(10, width));
        },
      ),
    );
  });

  test('begins its next step on a line of its own', () => {
    expect(wrapped('✗ the host said no ↳ run khlone reconnect', 30, STYLE)).toEqual([
      '✗ the host said no',
      '  ↳ run khlone reconnect',
    ]);
    const short = '✗ no ↳ khlone reconnect';
    expect(wrapped(short, 30, STYLE)).toEqual([short]);
    expect(wrapped('x lost -> khlone reconnect devbox', 24, { utf8: false, colour: false })).toEqual([
      'x lost',
      '  -> khlone reconnect',
      '    devbox',
    ]);
  });
});

describe('a status in 40 columns', () => {
  const clone = {
    ...{ name: 'mechanic.1', role: 'mechanic', brain: 'claude', state: 'idle', queued: 0 },
    title: 'a long title that is no news to whoever gave it',
  };
  const task = {
    ...{ id: 'task-0123456789', zone: 'z-0', clone: 'mechanic.1', kind: 'act', title: 't', session: 's' },
    ...{ state: 'unknown', prioritized: false, createdMs: 1, attempt: 1 },
    hint: 'khlone retry task-0123456789, or khlone cancel task-0123456789',
  };
  const status = (over: Partial<ZoneStatus>, attention: unknown[] = []): ZoneStatus =>
    ({
      ...{ host: 'devbox', link: 'offline', ageMs: 300_000, offlineMs: 300_000, nextTryMs: 8_000 },
      ...{ queuedHere: 0, cancelsHere: 0, queuedSinceMs: undefined, trouble: undefined, heldHere: [] },
      ...over,
      view: {
        ...{
          id: 'z-0',
          address: 'o/r@feat/auth',
          branch: 'feat/auth',
          mode: 'ssh',
          path: '/p',
          state: 'ready',
        },
        ...{ epoch: 'e', seq: 1, paused: false, crew: [clone], attention, costUsd: 0, tokens: 0 },
      },
    }) as ZoneStatus;

  test('has every next step whole, and clones in a line each', () => {
    const trouble = {
      message: 'the key for devbox waits for a touch, and nobody was asked for it',
      hint: 'run khlone reconnect when you are there',
    };
    const lines = zoneLines(status({ trouble }, [task]), STYLE, 40);
    expect(lines).toEqual([
      '⚠ zone @feat/auth (ssh devbox, offline',
      '  for 5m, next try in 8s)',
      '├─ ? mechanic.1  claude  —  a long titl…',
      '├─ ⚠ task-0123456789 outcome unknown',
      '│    ↳ khlone retry task-0123456789, or',
      '│      khlone cancel task-0123456789',
      '└─ ✗ the key for devbox waits for a',
      '     touch, and nobody was asked for it',
      '     ↳ run khlone reconnect when you are',
      '       there',
    ]);
  });

  test('tells the tasks that wait for a word in full', () => {
    const said = zoneLines(status({ heldHere: ['task-0123456789'] }), STYLE, 40);
    expect(said.join('\n')).toMatch(/↳ khlone retry task-0123456789, or\n {7}khlone cancel task-0123456789$/);
  });

  test('is not broken in a pipe', () => {
    const trouble = { message: 'm'.repeat(300), hint: 'h'.repeat(300) };
    expect(zoneLines(status({ trouble }), STYLE, Number.POSITIVE_INFINITY)).toHaveLength(3);
  });
});
