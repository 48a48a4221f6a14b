import type { Item } from './calls.ts';
import { createSanitizer } from './sanitize.ts';

/** Longest line that waits for its end, in characters. */
const MAX_PARTIAL = 64 * 1024;

/** Joins pieces of one clone's text to whole, harmless lines; anything else ends a line that was begun. */
export const createTextLines = () => {
  const sanitizer = createSanitizer();
  let partial = '';
  const end = (): string[] => {
    const last = partial + sanitizer.end();
    partial = '';
    return last === '' ? [] : [last];
  };
  const add = (text: string): string[] => {
    const lines = (partial + sanitizer.write(text)).split('\n');
    partial = lines.pop() ?? '';
    return partial.length > MAX_PARTIAL ? [...lines, ...end()] : lines;
  };
  return {
    end,
    /** Whether nothing of a line that was begun waits here. */
    isClean: (): boolean => partial === '' && sanitizer.isNew(),
    take: ({ event }: Item): { isPiece: boolean; lines: string[] } =>
      event.type === 'text' && !event.final
        ? { isPiece: true, lines: add(event.text) }
        : { isPiece: false, lines: end() },
  };
};

/** Clones that may have begun a line at a time: as many as a crew has. A server that names more of them lies. */
const MAX_BEGUN = 1_000;

/** The same for the words of many clones, each by its name; of too many that began a line the first one's is ended. */
export const createManyTextLines = () => {
  const begun = new Map<string, ReturnType<typeof createTextLines>>();
  const endOldest = (): string[] => {
    const [oldest] = begun.entries();
    if (begun.size <= MAX_BEGUN || oldest === undefined) return [];
    begun.delete(oldest[0]);
    return oldest[1].end();
  };
  return {
    isClean: (): boolean => begun.size === 0,
    take: (item: Item): { isPiece: boolean; lines: string[] } => {
      const clone = item.clone ?? '';
      const pieces = begun.get(clone) ?? createTextLines();
      const { isPiece, lines } = pieces.take(item);
      if (pieces.isClean()) begun.delete(clone);
      else begun.set(clone, pieces);
      return { isPiece, lines: [...endOldest(), ...lines] };
    },
    end: (): string[] => {
      const lines = [...begun.values()].flatMap((one) => one.end());
      begun.clear();
      return lines;
    },
  };
};
