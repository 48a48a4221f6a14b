/**
 * Lines on their way to a terminal that keeps only so many. Of lines that come faster than they can be shown, those are
 * passed over that would have left the scrollback by now: what it holds in the end is the same, and a clone that prints
 * 100 MB does not have to go through tmux once for each viewer.
 */

/** Lines that wait at most: tmux's scrollback for a view. Longer ones take more rows of it, never fewer. */
export const MAX_LINES = 5_000;
/** Characters that wait at most: as many rows of 200 columns. */
export const MAX_CHARS = MAX_LINES * 200;
/** The terminal rests for so many times what it took to write to it, and so the program has time to read on. */
const REST = 4;
const MAX_REST_MS = 500;

export type Printer = {
  print(lines: readonly string[]): void;
  /** Writes what waits. */
  flush(): void;
};

/** What waits, the newest of it; `passed` counts the lines that were not kept. */
const createWaiting = () => {
  let lines: string[] = [];
  let chars = 0;
  let passed = 0;
  /** Where the newest lines begin that are enough to fill the scrollback. */
  const newest = (): number => {
    let [from, kept] = [lines.length, 0];
    while (from > 0 && lines.length - from < MAX_LINES && kept < MAX_CHARS) {
      from -= 1;
      kept += lines[from]?.length ?? 0;
    }
    return from;
  };
  const trim = (): void => {
    const from = newest();
    passed += from;
    lines = lines.slice(from);
    chars = lines.reduce((sum, line) => sum + line.length, 0);
  };
  return {
    push: (more: readonly string[]): void => {
      for (const line of more) {
        lines.push(line);
        chars += line.length;
      }
      // Seldom, because many lines are moved each time.
      if (lines.length > 2 * MAX_LINES || chars > 2 * MAX_CHARS) trim();
    },
    take: (): { lines: string[]; passed: number } => {
      trim();
      const taken = { lines, passed };
      [lines, chars, passed] = [[], 0, 0];
      return taken;
    },
  };
};

/** `write` returns when the terminal has taken the text. `passedWords`: what stands in place of lines passed over. */
export const createPrinter = (
  write: (text: string) => void,
  passedWords: (lines: number) => string,
): Printer => {
  const waiting = createWaiting();
  let timer: NodeJS.Timeout | undefined;
  let readyMs = 0;
  const flush = (): void => {
    clearTimeout(timer);
    timer = undefined;
    const { lines, passed } = waiting.take();
    if (lines.length === 0) return;
    const begunMs = performance.now();
    write(`${(passed > 0 ? [passedWords(passed), ...lines] : lines).join('\n')}\n`);
    const nowMs = performance.now();
    readyMs = nowMs + Math.min(MAX_REST_MS, REST * (nowMs - begunMs));
  };
  return {
    print: (lines) => {
      if (lines.length === 0) return;
      waiting.push(lines);
      timer ??= setTimeout(flush, Math.max(0, readyMs - performance.now()));
    },
    flush,
  };
};
