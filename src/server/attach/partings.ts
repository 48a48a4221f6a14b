import type { AnswerOf } from '../../protocol/calls.ts';

/** How viewers ended, for the terminals that ask afterwards. */

export type End = AnswerOf<'attach.end'>;

/** Ends that are remembered; the oldest is forgotten first. A terminal asks within a moment. */
const MOST = 1_000;

export const createPartings = () => {
  const ends = new Map<string, End>();
  return {
    of: (viewer: string): End | undefined => ends.get(viewer),
    note: (viewer: string, end: End): void => {
      ends.delete(viewer);
      ends.set(viewer, end);
      const oldest = ends.keys().next();
      if (ends.size > MOST && !oldest.done) ends.delete(oldest.value);
    },
    forget: (viewer: string): void => void ends.delete(viewer),
  };
};
