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
