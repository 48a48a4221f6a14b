import type { App } from './app.ts';
import type { Binding } from './bindings.ts';
import type { Caller, Style } from './caller.ts';
import { printed } from './reader.ts';
import { regionOf } from './render/live-region.ts';
import { createPending, frameOf, readDrawn, type Size, writeDrawn } from './render/live-screen.ts';
import { counted } from './render/status.ts';
import type { Wanted } from './wanted.ts';
import { knownStatus } from './zone-status.ts';

/**
 * The steady view of `khlone watch`: the state of the zones in the last rows of the terminal, what happens above it. One
 * frame is on its way at a time, so a slow terminal sees fewer frames and never an old one; lines that came meanwhile
 * and found no room are counted.
 */

/** Ten frames a second at most. */
const FRAME_MS = 100;
/** Ages and links change without an event. */
const LOOK_MS = 1_000;
/** The state of a zone reaches the hub a moment after the event that changed it. */
const LIVELY_MS = 2_000;

export type WatchView = {
  /** Lines above the region. */
  push(lines: readonly string[]): void;
  /** How far is told what was pushed so far. */
  mark(places: Record<string, string>): void;
  close(): void;
};

export const createWatchView = (
  app: App,
  caller: Caller,
  zones: () => readonly Binding[],
  given: { who: Wanted; style: Style },
): WatchView => {
  const pending = createPending();
  let marks: Record<string, string> = {};
  let drawn = readDrawn(caller.marks.view);
  let shown = '';
  let isSending = false;
  let changedMs = performance.now();
  let timer: NodeJS.Timeout | undefined;
  let due = Number.POSITIVE_INFINITY;

  const send = async (region: readonly string[], size: Size): Promise<void> => {
    const { lines, passed } = pending.take();
    const sign = given.style.utf8 ? '…' : '...';
    const above = passed > 0 ? [`${sign} ${counted(passed, 'line')} passed (khlone log)`, ...lines] : lines;
    const frame = frameOf(drawn, above, region, size);
    ({ drawn } = frame);
    caller.out(frame.text, { ...marks, view: writeDrawn(drawn) });
    marks = {};
    isSending = true;
    await printed(caller).catch(() => false);
    isSending = false;
  };

  const look = (): void => {
    const size = { columns: caller.terminal.columns, rows: caller.terminal.rows };
    const statuses = zones().map((binding) => knownStatus(app, binding));
    const region = regionOf(statuses, given.who, given.style, size);
    const state = `${size.columns} ${size.rows} ${region.join('\n')}`;
    if (!isSending && (!pending.isEmpty() || state !== shown)) {
      shown = state;
      void send(region, size);
    }
    due = Number.POSITIVE_INFINITY;
    lookIn(performance.now() - changedMs < LIVELY_MS ? FRAME_MS : LOOK_MS);
  };
  const lookIn = (ms: number): void => {
    const atMs = performance.now() + ms;
    if (atMs >= due) return;
    clearTimeout(timer);
    due = atMs;
    timer = setTimeout(look, ms);
  };
  const changed = (): void => {
    changedMs = performance.now();
    lookIn(FRAME_MS);
  };
  const forget = caller.onResize((anew) => {
    // The shell has written below the rows while we were stopped: they are history now.
    if (anew) [drawn, shown] = [[], ''];
    changed();
  });
  // A key that is shown moves the cursor, and the rows would no longer be found.
  caller.hushKeys?.();
  look();
  return {
    push: (lines) => {
      pending.push(lines);
      changed();
    },
    mark: (places) => {
      Object.assign(marks, places);
    },
    close: () => {
      forget();
      clearTimeout(timer);
    },
  };
};
