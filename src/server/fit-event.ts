import type { BrainEvent } from '../protocol/event.ts';

/**
 * Events as they fit the journal: an item over the wire's bound would end every subscription that comes to it. Words of
 * the answer are told in several events, other strings are cut; the run's own output and the task's answer keep all.
 */

/** Characters of one string of an event. Escaped in JSON each may take six bytes, and an event has two long ones at most. */
export const EVENT_TEXT_CHARS = 64 * 1024;
/** Characters of a name, an id or a tool that was denied. */
const WORD_CHARS = 1_000;
const MAX_WORDS = 50;
const CUT = '… [cut here]';

const isHighSurrogate = (code: number): boolean => code >= 0xd800 && code <= 0xdbff;

/** The end of a piece that begins at `from`: a pair of surrogates is one character and stays together. */
const endOfPiece = (text: string, from: number, most: number): number => {
  const end = Math.min(from + most, text.length);
  return end < text.length && isHighSurrogate(text.charCodeAt(end - 1)) ? end - 1 : end;
};

const piecesOf = (text: string): string[] => {
  const pieces: string[] = [];
  for (let at = 0; at < text.length; ) {
    const end = endOfPiece(text, at, EVENT_TEXT_CHARS);
    pieces.push(text.slice(at, end));
    at = end;
  }
  return pieces.length > 0 ? pieces : [text];
};

const cut = (text: string, most: number): string =>
  text.length <= most ? text : text.slice(0, endOfPiece(text, 0, most - CUT.length)) + CUT;

/** The names of fields that hold words for people; all others are ids and names. */
const LONG_FIELDS: ReadonlySet<string> = new Set(['text', 'output', 'input', 'message', 'step']);

const fitted = (value: unknown, field: string): unknown => {
  if (typeof value === 'string') return cut(value, LONG_FIELDS.has(field) ? EVENT_TEXT_CHARS : WORD_CHARS);
  if (Array.isArray(value)) return value.slice(0, MAX_WORDS).map((one) => fitted(one, field));
  if (value === null || typeof value !== 'object') return value;
  return Object.fromEntries(Object.entries(value).map(([name, one]) => [name, fitted(one, name)]));
};

/** One event as the events that are journalled for it. */
export const fitEvent = (event: BrainEvent): BrainEvent[] => {
  if (event.type === 'text' || event.type === 'thinking' || event.type === 'warn') {
    return piecesOf(event.text).map((text) => ({ ...event, text }));
  }
  return [fitted(event, '') as BrainEvent];
};
