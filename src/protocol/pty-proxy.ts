/**
 * What a pty proxy reads: one byte that says what, two numbers (u16be), and with keys their bytes. It writes what the
 * terminal draws, behind a magic line, and never more than a window ahead of what was taken.
 *
 * k  typed, size    so many bytes were typed, of which these are for the terminal
 * s  columns, rows  the terminal's size
 * a  high, low      so many bytes of what was drawn were taken
 */

const HEADER_BYTES = 5;
/** A piece of keys; far below what two bytes can count. */
export const KEYS_MAX_BYTES = 32 * 1024;
/**
 * Bytes that may be drawn ahead of their reader. All of them may lie before the echo of a key: on a line of 150 KB/s
 * that is 0.4 s. On one of 50 ms they draw 1.3 MB a second, which no tmux client does for long.
 */
export const WINDOW_BYTES = 64 * 1024;
/** What was taken is told in steps of this. */
export const TAKEN_STEP_BYTES = WINDOW_BYTES / 4;

const words = (kind: 'k' | 's' | 'a', a: number, b: number, bytes?: Uint8Array): Buffer => {
  const all = Buffer.allocUnsafe(HEADER_BYTES + (bytes?.byteLength ?? 0));
  all.write(kind, 0, 'latin1');
  all.writeUInt16BE(a, 1);
  all.writeUInt16BE(b, 3);
  if (bytes) all.set(bytes, HEADER_BYTES);
  return all;
};

/** `typed` bytes became `bytes`; both at most twice KEYS_MAX_BYTES less one. */
export const keysWord = (typed: number, bytes: Uint8Array): Buffer =>
  words('k', typed, bytes.byteLength, bytes);

export const sizeWord = ({ columns, rows }: { columns: number; rows: number }): Buffer =>
  words('s', columns, rows);

export const takenWord = (bytes: number): Buffer => words('a', bytes >>> 16, bytes & 0xffff);
