/**
 * What a person means for khlone among what they type: as in ssh, a `~` at the start of a line asks for something of
 * the program here. Pure, and the same for any chunking of the keys.
 */

export type Act = 'leave' | 'help' | 'suspend';

/** `pass` goes on to the other side, `act` is for us. */
export type Typed = { pass: Uint8Array } | { act: Act };

export type Escapes = {
  feed(bytes: Uint8Array): Typed[];
  /** What comes now stands at the start of a line, whatever was typed before. */
  restart(): void;
};

const TILDE = 0x7e;
const ESC = 0x1b;
const BEL = 0x07;
const LINE_ENDS: ReadonlySet<number> = new Set([0x0d, 0x0a]);
const ACTS: ReadonlyMap<number, Act> = new Map([
  [0x2e, 'leave'],
  [0x3f, 'help'],
  [0x1a, 'suspend'], // Ctrl-Z
]);

/**
 * Where in a control sequence the last byte was. A terminal answers a program's questions among the keys, and tells of
 * the mouse there: such a sequence is no typing, so a `~` behind it may still begin a line.
 */
type Place = 'keys' | 'escape' | 'csi' | 'one-more' | 'string';

const AFTER_ESCAPE: ReadonlyMap<number, Place> = new Map([
  [0x5b, 'csi'], // [
  [0x4f, 'one-more'], // O: cursor and function keys
  [0x50, 'string'], // P
  [0x5d, 'string'], // ]
  [0x5c, 'keys'], // \ ends a string
]);

/** The place after a byte inside of a sequence; undefined where the byte shows that somebody typed after all. */
const placeAfter = (place: Place, byte: number): Place | undefined => {
  if (byte === ESC) return 'escape';
  if (place === 'escape') return AFTER_ESCAPE.get(byte);
  if (place === 'csi') return byte >= 0x40 && byte <= 0x7e ? 'keys' : 'csi';
  if (place === 'string') return byte === BEL ? 'keys' : 'string';
  return place === 'one-more' ? 'keys' : undefined;
};

export const createEscapes = (): Escapes => {
  let atStart = true;
  /** A `~` that began a line waits for the key behind it. */
  let held = false;
  let place: Place = 'keys';

  /** What a byte that goes through means for those behind it. */
  const note = (byte: number): void => {
    const next = LINE_ENDS.has(byte) ? undefined : placeAfter(place, byte);
    place = next ?? 'keys';
    if (next === undefined) atStart = LINE_ENDS.has(byte);
  };

  return {
    feed: (bytes) => {
      const typed: Typed[] = [];
      let plain: number[] = [];
      const flush = (): void => {
        if (plain.length > 0) typed.push({ pass: Uint8Array.from(plain) });
        plain = [];
      };
      for (const byte of bytes) {
        const act = held ? ACTS.get(byte) : undefined;
        if (!held && atStart && place === 'keys' && byte === TILDE) {
          held = true;
        } else if (act) {
          flush();
          typed.push({ act });
          held = false;
        } else {
          // Twice is the sign itself; before any other key it was meant as it is.
          if (held) atStart = false;
          if (held && byte !== TILDE) plain.push(TILDE);
          plain.push(byte);
          held = false;
          note(byte);
        }
      }
      flush();
      return typed;
    },
    restart: () => {
      atStart = true;
    },
  };
};
