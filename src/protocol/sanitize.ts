/**
 * Makes text of strangers (clones, remotes, file names) safe to print on a person's terminal.
 *
 * Guarantees, for any input in any chunking: the output holds no code below U+0020 but newline and tab, none from
 * U+007F to U+009F, no control sequence or its payload, and no character that reorders, hides or fakes other text
 * (each of those becomes U+FFFD). The shape of the machine follows the VT500 parser (vt100.net/emu/dec_ansi_parser),
 * with three deliberate differences: C1 codes count in text too, a newline ends every sequence that fits on one
 * line, and a sequence that never ends gives up after MAX_SEQUENCE, so that nobody can hide the rest of a stream.
 */

export type Sanitizer = {
  /** The safe part of what is known so far; a torn surrogate pair waits for its other half. */
  write(text: string): string;
  /** What was still waiting; the sanitizer is as new afterwards. */
  end(): string;
  /** Whether it is as new: what comes now is read as the beginning of a text would be. */
  isNew(): boolean;
};

/** Longest control sequence that is swallowed, in code points; what follows it is treated as text. */
export const MAX_SEQUENCE = 64 * 1024;

const REPLACEMENT = '\uFFFD';

// Bidi controls, zero-width and invisible characters, line separators, annotations, tags, lone surrogates.
const UNSEEN =
  '\\u00AD\\u034F\\u061C\\u115F\\u1160\\u17B4\\u17B5\\u180B-\\u180F\\u200B-\\u200F\\u2028-\\u202E\\u2060-\\u206F' +
  '\\u3164\\uFEFF\\uFFA0\\uFFF9-\\uFFFB\\u{1BCA0}-\\u{1BCA3}\\u{1D173}-\\u{1D17A}\\u{E0000}-\\u{E0FFF}\\p{Cs}';
const UNSEEN_CHARACTER = new RegExp(`[${UNSEEN}]`, 'u');
const SUSPECT = new RegExp(`[\\u0000-\\u0008\\u000B-\\u001F\\u007F-\\u009F${UNSEEN}]`, 'gu');
const JSON_SUSPECT = /[\u007F-\u009F\u061C\u200E\u200F\u2028-\u202E\u2066-\u2069]/g;

/** `line` sequences (OSC, screen titles) end at a newline, `block` ones (DCS, APC, PM, SOS) do not. */
type State = 'ground' | 'escape' | 'intermediate' | 'csi' | 'line' | 'block';

const AFTER_ESCAPE: Readonly<Record<string, State>> = {
  '[': 'csi',
  ']': 'line',
  k: 'line',
  P: 'block',
  X: 'block',
  '^': 'block',
  _: 'block',
};
const C1: Readonly<Record<number, State>> = {
  144: 'block',
  152: 'block',
  155: 'csi',
  157: 'line',
  158: 'block',
  159: 'block',
};

const ESC = 0x1b;
const isHighSurrogate = (code: number): boolean => code >= 0xd800 && code <= 0xdbff;

/** The state after a code that acts from anywhere, or undefined where the code has no such power. */
const fromAnywhere = (code: number): State | undefined => {
  if (code === ESC) return 'escape';
  if (code === 0x18 || code === 0x1a) return 'ground';
  if (code >= 0x80 && code <= 0x9f) return C1[code] ?? 'ground';
  return undefined;
};

/**
 * The state after one code inside a sequence; `text` means that the sequence is over and the code is not part of it.
 * Known here: the code acts not from anywhere, and is no newline in a sequence that a newline ends.
 */
const inside = (state: State, code: number, character: string): State | 'text' => {
  if (state === 'line') return code === 0x07 ? 'ground' : 'line';
  if (state === 'block') return 'block';
  if (code > 0x7e) return code === 0x7f ? state : 'text';
  if (code < 0x20) return state;
  if (state === 'csi') return code >= 0x40 ? 'ground' : 'csi';
  if (code <= 0x2f) return 'intermediate';
  if (state === 'escape') return AFTER_ESCAPE[character] ?? 'ground';
  return 'ground';
};

/** A sanitizer for one stream. The output is the same for every way to cut the input into chunks. */
export const createSanitizer = (): Sanitizer => {
  let state: State = 'ground';
  let length = 0;
  let held = '';
  // A CR was printed as a newline: the LF of the same line end, even behind removed codes, prints nothing.
  let afterCr = false;

  /** The printed form of one code point outside of sequences. */
  const print = (code: number, character: string): string => {
    if (code === 0x0d) {
      afterCr = true;
      return '\n';
    }
    if (code === 0x0a && afterCr) {
      afterCr = false;
      return '';
    }
    if ((code < 0x20 && code !== 0x09 && code !== 0x0a) || code === 0x7f) return '';
    afterCr = false;
    return UNSEEN_CHARACTER.test(character) ? REPLACEMENT : character;
  };

  const step = (code: number, character: string): string => {
    const anywhere = fromAnywhere(code);
    if (anywhere) {
      state = anywhere;
      length = 0;
      return '';
    }
    if (state !== 'ground' && state !== 'block' && (code === 0x0a || code === 0x0d)) state = 'ground';
    if (state === 'ground') return print(code, character);
    const next = inside(state, code, character);
    length += 1;
    state = next === 'text' || length >= MAX_SEQUENCE ? 'ground' : next;
    return next === 'text' ? print(code, character) : '';
  };

  const run = (text: string): string => {
    let output = '';
    let at = 0;
    while (at < text.length) {
      if (state === 'ground' && !afterCr) {
        SUSPECT.lastIndex = at;
        const next = SUSPECT.exec(text)?.index ?? text.length;
        output += text.slice(at, next);
        at = next;
        if (at >= text.length) break;
      }
      const code = text.codePointAt(at) ?? 0;
      const size = code > 0xffff ? 2 : 1;
      output += step(code, text.slice(at, at + size));
      at += size;
    }
    return output;
  };

  return {
    write: (text) => {
      const all = held + text;
      const torn = all.length > 0 && isHighSurrogate(all.charCodeAt(all.length - 1));
      held = torn ? all.slice(-1) : '';
      return run(torn ? all.slice(0, -1) : all);
    },
    end: () => {
      const output = run(held);
      state = 'ground';
      held = '';
      afterCr = false;
      return output;
    },
    isNew: () => state === 'ground' && held === '' && !afterCr,
  };
};

/** The safe form of a whole text. */
export const sanitize = (text: string): string => {
  const sanitizer = createSanitizer();
  return sanitizer.write(text) + sanitizer.end();
};

/** The safe form of a text on one line: runs of white space become one space, longer than maxChars (code points) ends in "…". */
export const oneLine = (text: string, maxChars: number): string => {
  // Slicing first bounds the work; what is removed by sanitizing may only shorten the result further.
  const clean = sanitize(text.slice(0, Math.max(4096, maxChars * 8)))
    .replace(/\s+/gu, ' ')
    .trim();
  const characters = [...clean];
  return characters.length <= maxChars
    ? clean
    : `${characters.slice(0, Math.max(0, maxChars - 1)).join('')}…`;
};

/** JSON on one line for scripts and terminals: the same value, its control codes above ASCII and its bidi controls escaped too. */
export const jsonLine = (value: unknown): string =>
  JSON.stringify(value).replace(JSON_SUSPECT, (c) => `\\u${c.charCodeAt(0).toString(16).padStart(4, '0')}`);
