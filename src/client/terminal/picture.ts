/**
 * What a terminal is told besides the picture itself. The whole of an attach is drawn on the terminal's second screen,
 * which we open once and close once: what the program over there says about it is taken out of its bytes.
 */

const ESC = '\u001b';
const CSI = `${ESC}[`;

/** A second screen of our own, cleared, with nothing left over of earlier colours or margins. */
export const OPEN_PICTURE = `${CSI}?1049h${CSI}r${CSI}0m${CSI}2J${CSI}H`;

/** All that a program may have switched on, switched off, and back to the screen that was there before. */
export const CLOSE_PICTURE = [
  // Mouse in all its forms, focus, bracketed paste, synchronized drawing.
  ...['1000', '1002', '1003', '1005', '1006', '1015', '1004', '2004', '2026'].map(
    (mode) => `${CSI}?${mode}l`,
  ),
  `${CSI}?1l${ESC}>`, // cursor keys and keypad as they are by default
  `${CSI}>4m`, // extended keys
  `${CSI}r${CSI}?6l${CSI}4l${CSI}?7h`, // margins, origin, insert, wrapping
  `${CSI}0 q${CSI}?25h${CSI}0m`, // the cursor's shape, the cursor, colours
  `${ESC}(B\u000f`, // letters are letters
  `${CSI}?1049l`,
].join('');

/** Letters of a text that fit a line of so many cells, the last one left free: some terminals would wrap there. */
const fitted = (text: string, columns: number): string =>
  [...text].slice(0, Math.max(0, columns - 1)).join('');

/** A line over the last row of the picture. The cursor is left there: who draws next puts it where it belongs. */
export const overLastRow = (text: string, size: { columns: number; rows: number }): string =>
  `${CSI}r${CSI}${size.rows};1H${CSI}0m${CSI}7m${fitted(text, size.columns)}${CSI}0m${CSI}K`;

const SCREENS = ['1049', '1047', '47'].flatMap((mode) => [`${CSI}?${mode}h`, `${CSI}?${mode}l`]);
const SCREEN = new RegExp(SCREENS.map((s) => s.replace(/[[?]/g, '\\$&')).join('|'), 'g');

/** Characters at the end of `text` that may be the beginning of one of the sequences. */
const tornAt = (text: string): number => {
  const at = text.lastIndexOf(ESC);
  const tail = text.slice(at);
  return at >= 0 && SCREENS.some((whole) => whole.length > tail.length && whole.startsWith(tail))
    ? at
    : text.length;
};

/** Takes the switching of screens out of what a program draws, for any chunking. Every other byte goes through. */
export const createScreenFilter = (): ((bytes: Uint8Array) => Uint8Array) => {
  let rest = '';
  return (bytes) => {
    if (rest === '' && bytes.indexOf(0x1b) < 0) return bytes;
    // latin1: a byte is a character, so that nothing of any encoding is touched.
    const text = (
      rest + Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString('latin1')
    ).replace(SCREEN, '');
    const torn = tornAt(text);
    rest = text.slice(torn);
    return Buffer.from(text.slice(0, torn), 'latin1');
  };
};

/** What a program asked of the terminal and not of its screen: DEC's private modes, the keypad, longer keys, the cursor. */
const MODE = new RegExp(
  `${ESC}\\[\\?(?<modes>[\\d;]{1,60})[hl]|${ESC}[=>]|${ESC}\\[>4(?:;\\d{1,3})?m|${ESC}\\[\\d{0,3} q`,
  'g',
);
/** A sequence of these that is longer is none of them. */
const MODE_CHARS = 80;
/** Synchronized drawing: set without its end it would hold the screen still. */
const HELD_DRAWING = '2026';
/** Modes that there are, and more: a program that asks for others is not remembered in them. */
const MODES_KEPT = 64;

/** Remembers the modes that a picture was drawn with, for any chunking; `again` sets them anew. */
export const createModeMemory = (): { note(bytes: Uint8Array): void; again(): string } => {
  const modes = new Map<string, string>();
  let rest = '';
  const keep = (name: string, sequence: string): void => {
    // The last one said comes last: two names may be about one thing.
    modes.delete(name);
    if (name !== HELD_DRAWING && modes.size < MODES_KEPT) modes.set(name, sequence);
  };
  return {
    note: (bytes) => {
      if (rest === '' && bytes.indexOf(0x1b) < 0) return;
      const text = rest + Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString('latin1');
      let end = 0;
      for (const found of text.matchAll(MODE)) {
        const [sequence] = found;
        end = found.index + sequence.length;
        const names = found.groups?.modes?.split(';') ?? [];
        for (const name of names) keep(name, `${CSI}?${name}${sequence.at(-1)}`);
        if (names.length === 0) keep(/[=>]$/.test(sequence) ? 'keypad' : (sequence.at(-1) ?? ''), sequence);
      }
      const at = text.lastIndexOf(ESC);
      rest = at >= end && text.length - at < MODE_CHARS ? text.slice(at) : '';
    },
    again: () => [...modes.values()].join(''),
  };
};
