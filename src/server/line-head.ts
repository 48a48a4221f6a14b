import type { Item } from '../protocol/calls.ts';

/**
 * What a line of a journal says of itself in its first bytes, as the store writes them. Most of a line is what a clone
 * printed, and nobody here has to know that.
 */

/** A line is an item in JSON; its sequence number comes second. */
const SEQ = /^\{"epoch":"[^"]{0,64}","seq":(\d{1,16})[,}]/;
/** Bytes from a line's beginning in which its sequence number stands. */
export const SEQ_BYTES = 128;

/** Text that means itself: no escape, no byte over ASCII. What is written otherwise is parsed. */
const PLAIN = '"([ !#-\\[\\]-~]*)"';
const ABOUT = new RegExp(
  String.raw`^\{"epoch":"[^"]{0,64}","seq":\d{1,16},"atMs":\d{1,16}(?:\.\d{1,16})?(?:,"task":${PLAIN})?` +
    String.raw`(?:,"clone":${PLAIN})?(?:,"session":${PLAIN})?,"event":\{"type":${PLAIN}[,}]`,
);
const ABOUT_BYTES = 1024;

/** Whose item a line is, and the type of its event. */
export type About = {
  task: string | undefined;
  clone: string | undefined;
  session: string | undefined;
  type: string;
};

/** The item in a line; undefined where it is none, which only somebody else can have written. */
export const itemIn = (line: Buffer): Item | undefined => {
  try {
    const item = JSON.parse(line.toString('utf8')) as Item;
    return typeof item.seq === 'number' ? item : undefined;
  } catch {
    return undefined;
  }
};

/** `start`: at least SEQ_BYTES of the line, or all of it. */
export const seqAtStart = (start: Buffer): number | undefined => {
  const seq = SEQ.exec(start.toString('latin1', 0, SEQ_BYTES))?.[1];
  return seq === undefined ? undefined : Number(seq);
};

export const seqOf = (line: Buffer): number | undefined => seqAtStart(line) ?? itemIn(line)?.seq;

export const aboutOf = (line: Buffer): About | undefined => {
  const [found, task, clone, session, type = ''] = ABOUT.exec(line.toString('latin1', 0, ABOUT_BYTES)) ?? [];
  if (found !== undefined) return { task, clone, session, type };
  const item = itemIn(line);
  return item && { task: item.task, clone: item.clone, session: item.session, type: item.event.type };
};
