import { createHash, randomBytes } from 'node:crypto';
import { KhloneError } from './error.ts';

/**
 * Task ids. An id comes from a nonce that the caller mints once, before the first send: every retry, and every
 * fallback to another way of sending, names the same task.
 */

/** Digits and lower-case letters without i, l, o and u, which are read as others. */
const LETTERS = '0123456789abcdefghjkmnpqrstvwxyz';
const PREFIX = 'task-';
/** 50 bits: one chance in a million of a clash among 48,000 tasks, and a clash is refused as `id-reused`. */
const ID_LETTERS = 10;
const ID = new RegExp(`^${PREFIX}[${LETTERS}]{${ID_LETTERS}}$`, 'u');
/** Candidates that an error lists. */
const LISTED = 8;

/** 128 random bits in hex. */
export const mintNonce = (): string => randomBytes(16).toString('hex');

/** The task id of a nonce: the first bits of its sha256. */
export const taskIdOf = (nonce: string): string => {
  const hash = createHash('sha256').update(nonce).digest();
  const letters = Array.from(hash.subarray(0, ID_LETTERS), (byte) => LETTERS[byte & 31]);
  return `${PREFIX}${letters.join('')}`;
};

export const isTaskId = (text: string): boolean => ID.test(text);

/**
 * The one id that begins with `prefix`, typed with or without `task-`; a whole id wins over all.
 * Throws `not-found` where none does, `usage` with the candidates where several do.
 */
export const matchTaskPrefix = (prefix: string, ids: Iterable<string>): string => {
  const typed = prefix.trim().toLowerCase();
  const whole = typed.startsWith(PREFIX) ? typed : `${PREFIX}${typed}`;
  const found =
    typed === '' || typed === PREFIX ? [] : [...new Set(ids)].filter((id) => id.startsWith(whole));
  const shown = JSON.stringify(prefix.slice(0, 40)).replace(/[^\x20-\x7e]/gu, '?');
  const [only] = found;
  if (only === undefined)
    throw new KhloneError('not-found', `no task begins with ${shown}`, 'khlone list tasks');
  if (found.length === 1) return only;
  const rest = found.length > LISTED ? `, and ${found.length - LISTED} more` : '';
  const listed = found.sort().slice(0, LISTED).join(', ');
  throw new KhloneError('usage', `${shown} is the beginning of ${found.length} tasks`, `${listed}${rest}`, {
    candidates: found.slice(0, LISTED),
  });
};
