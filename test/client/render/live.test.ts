import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { regionOf } from '../../../src/client/render/live-region.ts';
import {
  createPending,
  frameOf,
  readDrawn,
  regionRows,
  rowsOf,
  writeDrawn,
} from '../../../src/client/render/live-screen.ts';
import type { ZoneStatus } from '../../../src/client/render/status.ts';
import type { CloneView } from '../../../src/protocol/calls.ts';

/** The parts of a steady view: what waits for the next frame, the frame, and the rows that it keeps. */

const UP = '\u001b[';

describe('what waits for the next frame', () => {
  test('is the newest, within bounds, and every line is shown or counted', () => {
    const bursts = fc.array(fc.array(fc.nat({ max: 3_000 }), { size: 'max', maxLength: 900 }), {
      maxLength: 6,
    });
    fc.assert(
      fc.property(bursts, (pushes) => {
        const pending = createPending();
        for (const widths of pushes) pending.push(widths.map((width) => 'x'.repeat(width)));
        const { lines, passed } = pending.take();
        const all = pushes.flat();
        expect(lines.length + passed).toBe(all.length);
        expect(lines.map((line) => Math.min(line.length, 2_000))).toEqual(
          all.slice(passed).map((width) => Math.min(width, 2_000)),
        );
        expect(lines.length).toBeLessThanOrEqual(500);
        expect(lines.join('').length).toBeLessThanOrEqual(64 * 1024);
        expect(pending.take()).toEqual({ lines: [], passed: 0 });
      }),
      { numRuns: 50 },
    );
  });
});

describe('a frame', () => {
  const size = { columns: 10, rows: 20 };

  test('goes back over the rows that were drawn, as the terminal has wrapped them since', () => {
    const first = frameOf([], ['said'], ['zone', 'a clone at work'], { columns: 40, rows: 20 });
    expect(first).toEqual({
      text: `\r${UP}Jsaid\n${UP}?7lzone\na clone at work\n${UP}?7h`,
      drawn: [4, 15],
    });
    const second = frameOf(first.drawn, [], ['zone'], size);
    expect(second.text.startsWith(`\r${UP}3A${UP}J`)).toBe(true);
    expect(rowsOf(first.drawn, 5)).toBe(4);
  });

  test('cuts the rows at the edge, and goes back no further than the terminal reaches', () => {
    const { text, drawn } = frameOf([9, 9, 9, 9], [], ['0123456789abc'], { columns: 10, rows: 3 });
    expect(text).toContain(`${UP}2A`);
    expect(text).toContain('0123456789\n');
    expect(drawn).toEqual([10]);
  });

  test('tells the next hub how it was drawn, and nothing else is taken for it', () => {
    fc.assert(
      fc.property(fc.array(fc.nat({ max: 99_999 }), { minLength: 1, maxLength: 50 }), (widths) => {
        expect(readDrawn(writeDrawn(widths))).toEqual(widths);
      }),
    );
    for (const nonsense of [undefined, '', 'x', '1,,2', '1000000', '-1'])
      expect(readDrawn(nonsense)).toEqual([]);
  });
});

describe('the region', () => {
  const style = { utf8: true, colour: false };
  const clone = (name: string, state: CloneView['state']): CloneView => {
    return { name, role: name.replace(/\..*/, ''), brain: 'sh', state, queued: 0 };
  };
  const zone = (branch: string, crew: CloneView[]) =>
    ({
      view: {
        ...{ id: 'z-0', address: `o/r@${branch}`, branch, mode: 'local', path: '/p', state: 'ready' },
        ...{ epoch: 'e', seq: 1, paused: false, crew, attention: [], costUsd: 0, tokens: 0 },
      },
      ...{ host: 'local', link: 'connected', ageMs: 0, offlineMs: 0, queuedHere: 0, heldHere: [] },
      ...{ nextTryMs: undefined, trouble: undefined },
    }) as unknown as ZoneStatus;
  const rows = (
    zones: ZoneStatus[],
    terminal: number,
    who = (_: { name: string }): boolean => true,
  ): string[] =>
    regionOf(zones, who, style, { columns: 40, rows: terminal }).map((line) => line.replace(/ {2}.*/, ''));

  test('leaves out who has nothing to do where rows are few, then counts what does not fit', () => {
    const crew = [clone('mechanic.1', 'idle'), clone('mechanic.2', 'active'), clone('tester.1', 'waiting')];
    const zones = [zone('main', crew), zone('next', [clone('mechanic.1', 'idle')])];
    expect(rows(zones, 24)).toEqual([
      ...['zone o/r@main (local)', '├─ ○ mechanic.1', '├─ ● mechanic.2', '└─ ◐ tester.1'],
      ...['zone o/r@next (local)', '└─ ○ mechanic.1'],
    ]);
    expect(rows(zones, 8)).toEqual([
      ...['zone o/r@main (local)', '├─ ● mechanic.2', '└─ ◐ tester.1', 'zone o/r@next (local)'],
    ]);
    expect(rows(zones, 5)).toEqual(['zone o/r@main (local)', '… 3 lines more']);
    expect(rows(zones, 1)).toEqual(['… 4 lines more']);
  });

  test('of some clones does not say that there are no others', () => {
    const crew = [clone('mechanic.1', 'idle')];
    expect(rows([zone('main', crew)], 24, ({ name }) => name === 'x.1')).toEqual(['zone @main (local)']);
    expect(rows([zone('main', [])], 24)).toEqual(['zone @main (local)', '└─ no clones yet']);
  });

  test('never takes more than half of the terminal, nor more than twelve rows', () => {
    for (const terminal of [1, 2, 3, 10, 24, 25, 200])
      expect(regionRows({ columns: 80, rows: terminal })).toBe(
        Math.max(1, Math.min(12, Math.floor(terminal / 2))),
      );
  });
});
