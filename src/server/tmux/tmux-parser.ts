/**
 * Control mode of tmux (`tmux -C`) as events. This file imports nothing and holds no string of the stream until
 * a field is known to be one, because pane output is bytes: tmux cuts it anywhere, also inside a UTF-8 letter.
 * It is a little longer than other files so that the grammar can be read in one piece.
 *
 * ```
 * stream = [ "\x1bP1000p" ] , { block | notification | stray }
 * block  = "%begin " guard LF , { line LF } , ( "%end " | "%error " ) guard LF      the guard of the opener
 * guard  = seconds " " number " " flags                                             flags 1: asked by this client
 * ```
 *
 * Lines of a block are raw and may look like anything, so only the opener's own guard closes it.
 */

/** Longest line that is kept, in bytes; the longest that tmux 3.2 to 3.7 was seen to write has 2,915. */
export const MAX_LINE_BYTES = 1024 * 1024;
/** Most bytes of lines that one block keeps. */
export const MAX_BLOCK_BYTES = 16 * 1024 * 1024;

/** One thing that tmux said. Byte fields may share memory with the chunk they came in: read them, never write. */
export type TmuxEvent =
  /** The answer to one command. `cut`: a line or the block went over its bound, and what follows it is missing. */
  | {
      type: 'block';
      ok: boolean;
      timeS: number;
      number: number;
      flags: number;
      lines: Uint8Array[];
      cut: boolean;
    }
  /** Bytes of a pane, unescaped. `malformed` counts escapes that were none and were kept as they came. */
  | { type: 'output'; pane: string; bytes: Uint8Array; malformed: number; ageMs?: number }
  /**
   * A notification whose fields are as tmux documents them. `block`: it stood inside that block, where tmux puts
   * the answer of `refresh-client -A`; any command can print such a line, so only who sent that one may believe it.
   */
  | { type: 'notice'; name: string; fields: string[]; rest: Uint8Array; block?: number }
  /** A line that starts with `%` and is no notification we know. */
  | { type: 'unknown'; name: string; rest: Uint8Array }
  /** A line outside any block that is no notification, such as what a hook prints. */
  | { type: 'stray'; line: Uint8Array }
  | { type: 'error'; reason: 'line-too-long' | 'block-too-large' };

/** A block whose guard has not come again yet. `bytes` counts what its lines hold. */
type Block = Omit<Extract<TmuxEvent, { type: 'block' }>, 'type' | 'ok'> & {
  guard: Uint8Array;
  bytes: number;
};

const [LF, SPACE, PERCENT, BACKSLASH, ZERO] = [0x0a, 0x20, 0x25, 0x5c, 0x30];
const NOTHING = new Uint8Array(0);
const bytesOf = (ascii: string): Uint8Array => Uint8Array.from(ascii, (letter) => letter.charCodeAt(0));
const DCS = bytesOf('\x1bP1000p');
const SEPARATOR = bytesOf(' : ');
const [BEGIN, END, ERROR] = [bytesOf('%begin '), bytesOf('%end '), bytesOf('%error ')];
const [PAUSE, CONTINUE] = [bytesOf('%pause '), bytesOf('%continue ')];

const PANE = /^%\d+$/;
const WINDOW = /^@\d+$/;
const SESSION = /^\$\d+$/;
const WORD = /^.+$/s;
const INT = /^\d{1,15}$/;

/** The fixed leading fields of each notification. `rest`: free text follows, which may hold spaces or be missing. */
const NOTICES: Record<string, { fields: RegExp[]; rest?: 'text' | 'colon' }> = {
  pause: { fields: [PANE] },
  continue: { fields: [PANE] },
  'pane-mode-changed': { fields: [PANE] },
  'window-add': { fields: [WINDOW] },
  'window-close': { fields: [WINDOW] },
  'unlinked-window-add': { fields: [WINDOW] },
  'unlinked-window-close': { fields: [WINDOW] },
  'window-renamed': { fields: [WINDOW], rest: 'text' },
  'unlinked-window-renamed': { fields: [WINDOW], rest: 'text' },
  'window-pane-changed': { fields: [WINDOW, PANE] },
  'session-window-changed': { fields: [SESSION, WINDOW] },
  'layout-change': { fields: [WINDOW, WORD, WORD], rest: 'text' },
  'session-changed': { fields: [SESSION], rest: 'text' },
  'session-renamed': { fields: [SESSION], rest: 'text' },
  'sessions-changed': { fields: [] },
  'client-session-changed': { fields: [WORD, SESSION], rest: 'text' },
  'client-detached': { fields: [], rest: 'text' },
  'subscription-changed': { fields: [WORD, SESSION, /^(-|@\d+)$/, /^(-|\d+)$/, /^(-|%\d+)$/], rest: 'colon' },
  'paste-buffer-changed': { fields: [], rest: 'text' },
  'paste-buffer-deleted': { fields: [], rest: 'text' },
  message: { fields: [], rest: 'text' },
  'config-error': { fields: [], rest: 'text' },
  exit: { fields: [], rest: 'text' },
};

const startsWith = (line: Uint8Array, prefix: Uint8Array, at = 0): boolean => {
  if (line.length - at < prefix.length) return false;
  for (let i = 0; i < prefix.length; i++) if (line[at + i] !== prefix[i]) return false;
  return true;
};

/** Bytes as one character each, for fields that are ASCII and for names that are only compared. */
const latin1 = (bytes: Uint8Array): string => {
  let text = '';
  for (const byte of bytes) text += String.fromCharCode(byte);
  return text;
};

/** The bytes up to the next space, and where the next field starts; beyond the end there is none. */
const fieldAt = (line: Uint8Array, from: number): { text: string; next: number } => {
  const space = line.indexOf(SPACE, from);
  const end = space < 0 ? line.length : space;
  return { text: latin1(line.subarray(from, end)), next: end + 1 };
};

/** Where the first ` : ` starts at or after `from`, or -1. */
const separatorAt = (line: Uint8Array, from: number): number => {
  for (let at = line.indexOf(SPACE, from); at >= 0; at = line.indexOf(SPACE, at + 1)) {
    if (startsWith(line, SEPARATOR, at)) return at;
  }
  return -1;
};

/** The byte that three octal digits at `at` name, or -1. */
const octalAt = (line: Uint8Array, at: number): number => {
  const high = (line[at] ?? 0) - ZERO;
  const mid = (line[at + 1] ?? 0) - ZERO;
  const low = (line[at + 2] ?? 0) - ZERO;
  const isOctal = high >= 0 && high <= 3 && mid >= 0 && mid <= 7 && low >= 0 && low <= 7;
  return isOctal ? high * 64 + mid * 8 + low : -1;
};

/** Undoes tmux's escape of pane output: bytes below 0x20 and `\` come as `\ooo`, all others as they are. */
const unescaped = (escaped: Uint8Array): { bytes: Uint8Array; malformed: number } => {
  const first = escaped.indexOf(BACKSLASH);
  if (first < 0) return { bytes: escaped, malformed: 0 };
  const bytes = new Uint8Array(escaped.length);
  bytes.set(escaped.subarray(0, first));
  let length = first;
  let malformed = 0;
  for (let at = first; at < escaped.length; at++) {
    const byte = escaped[at] ?? 0;
    const value = byte === BACKSLASH ? octalAt(escaped, at + 1) : -1;
    if (value >= 0) at += 3;
    else if (byte === BACKSLASH) malformed++;
    bytes[length++] = value >= 0 ? value : byte;
  }
  return { bytes: bytes.subarray(0, length), malformed };
};

const parseBegin = (line: Uint8Array): Block | undefined => {
  if (!startsWith(line, BEGIN) || line.length > 64) return undefined;
  const guard = line.slice(BEGIN.length);
  const [time = '', number = '', flags = '', ...more] = latin1(guard).split(' ');
  if (more.length > 0 || ![time, number, flags].every((word) => INT.test(word))) return undefined;
  return {
    guard,
    timeS: Number(time),
    number: Number(number),
    flags: Number(flags),
    lines: [],
    bytes: 0,
    cut: false,
  };
};

const parseOutput = (line: Uint8Array, from: number): TmuxEvent | undefined => {
  const pane = fieldAt(line, from);
  if (!PANE.test(pane.text) || pane.next > line.length) return undefined;
  return { type: 'output', pane: pane.text, ...unescaped(line.subarray(pane.next)) };
};

const parseExtendedOutput = (line: Uint8Array, from: number): TmuxEvent | undefined => {
  const pane = fieldAt(line, from);
  const age = fieldAt(line, pane.next);
  const separator = separatorAt(line, age.next - 1);
  if (!PANE.test(pane.text) || !INT.test(age.text) || separator < 0) return undefined;
  const escaped = line.subarray(separator + SEPARATOR.length);
  return { type: 'output', pane: pane.text, ageMs: Number(age.text), ...unescaped(escaped) };
};

const parseNotice = (name: string, line: Uint8Array, from: number): TmuxEvent | undefined => {
  const shape = Object.hasOwn(NOTICES, name) ? NOTICES[name] : undefined;
  if (!shape) return undefined;
  const fields: string[] = [];
  let at = from;
  for (const wanted of shape.fields) {
    const field = fieldAt(line, at);
    if (!wanted.test(field.text)) return undefined;
    fields.push(field.text);
    at = field.next;
  }
  if (shape.rest === undefined)
    return at < line.length ? undefined : { type: 'notice', name, fields, rest: NOTHING };
  if (shape.rest === 'text') return { type: 'notice', name, fields, rest: line.subarray(at) };
  const separator = separatorAt(line, at - 1);
  if (separator < 0) return undefined;
  return { type: 'notice', name, fields, rest: line.subarray(separator + SEPARATOR.length) };
};

/** A line outside a block. */
const parseLine = (line: Uint8Array): TmuxEvent => {
  if (line[0] !== PERCENT) return { type: 'stray', line };
  const { text: name, next } = fieldAt(line, 1);
  const known =
    name === 'output'
      ? parseOutput(line, next)
      : name === 'extended-output'
        ? parseExtendedOutput(line, next)
        : parseNotice(name, line, next);
  return known ?? { type: 'unknown', name, rest: line.subarray(next) };
};

/** Whether a line closes this block, and how: it must be the word and the opener's guard, byte for byte. */
const closes = (line: Uint8Array, { guard }: Block): 'end' | 'error' | undefined => {
  const word = startsWith(line, END) ? END : startsWith(line, ERROR) ? ERROR : undefined;
  if (!word || line.length !== word.length + guard.length) return undefined;
  if (!startsWith(line, guard, word.length)) return undefined;
  return word === END ? 'end' : 'error';
};

/** Whole lines to events, in a block or outside of one. `tooLong` stands for a line that went over its bound. */
const createLineReader = (emit: (event: TmuxEvent) => void) => {
  let block: Block | undefined;
  let isFirst = true;

  const inBlock = (line: Uint8Array, open: Block): void => {
    const closed = closes(line, open);
    if (closed) {
      const { timeS, number, flags, lines, cut } = open;
      emit({ type: 'block', ok: closed === 'end', timeS, number, flags, lines, cut });
      block = undefined;
      return;
    }
    if (startsWith(line, PAUSE) || startsWith(line, CONTINUE)) {
      const notice = parseLine(line);
      if (notice.type === 'notice') emit({ ...notice, block: open.number });
    }
    const wasFull = open.bytes > MAX_BLOCK_BYTES;
    if (!wasFull) open.bytes += line.length + 1;
    if (open.bytes <= MAX_BLOCK_BYTES) open.lines.push(line);
    else if (!wasFull) {
      open.cut = true;
      emit({ type: 'error', reason: 'block-too-large' });
    }
  };

  const outside = (whole: Uint8Array): void => {
    const line = isFirst && startsWith(whole, DCS) ? whole.subarray(DCS.length) : whole;
    isFirst = false;
    block = parseBegin(line);
    if (!block) emit(parseLine(line));
  };

  return {
    line: (line: Uint8Array): void => (block ? inBlock(line, block) : outside(line)),
    tooLong: (): void => {
      isFirst = false;
      if (block) block.cut = true;
      emit({ type: 'error', reason: 'line-too-long' });
    },
  };
};

/**
 * A parser for one control client's output. Chunks may be cut anywhere: the events are the same for every
 * chunking. It never throws; what it cannot read is an event too.
 */
export const createTmuxParser = (): ((chunk: Uint8Array) => TmuxEvent[]) => {
  let events: TmuxEvent[] = [];
  const reader = createLineReader((event) => events.push(event));
  let held = new Uint8Array(256);
  let heldBytes = 0;
  let skipping = false;

  /** Adds to the unfinished line, or gives the line up at its bound and skips to its end. */
  const hold = (part: Uint8Array): void => {
    if (skipping) return;
    if (heldBytes + part.length > MAX_LINE_BYTES) {
      reader.tooLong();
      heldBytes = 0;
      skipping = true;
      return;
    }
    if (heldBytes + part.length > held.length) {
      const grown = new Uint8Array(Math.max(held.length * 2, heldBytes + part.length));
      grown.set(held.subarray(0, heldBytes));
      held = grown;
    }
    held.set(part, heldBytes);
    heldBytes += part.length;
  };

  const finishLine = (part: Uint8Array): void => {
    const isWhole = heldBytes === 0 && !skipping && part.length <= MAX_LINE_BYTES;
    if (!isWhole) hold(part);
    if (!skipping) reader.line(isWhole ? part : held.slice(0, heldBytes));
    heldBytes = 0;
    skipping = false;
  };

  return (given) => {
    // A plain view: cutting lines off a Buffer takes three times as long.
    const chunk = new Uint8Array(given.buffer, given.byteOffset, given.byteLength);
    events = [];
    let start = 0;
    for (let end = chunk.indexOf(LF); end >= 0; end = chunk.indexOf(LF, start)) {
      finishLine(chunk.subarray(start, end));
      start = end + 1;
    }
    if (start < chunk.length) hold(chunk.subarray(start));
    return events;
  };
};
