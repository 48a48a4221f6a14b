/**
 * A tmux client asks its terminal what it is, takes one answer of each kind, soon, and types any other to the program
 * that is looked at: a shell then has `>|tmux 3.3a` at its prompt. After a break of the way the answers to a client that
 * is gone are typed once more, and on a slow line they come late; so those that a client no longer takes end here.
 */

const ESC = '\u001b';
/** tmux waits 5 s from its own start, which is a little later than ours. */
const AWAITED_MS = 4_000;

/** What kind of terminal, and its name and version: `CSI ? … c`, `CSI > … c`, `DCS > | … ST`. No key sends these. */
const ANSWER = new RegExp(`${ESC}(?:\\[(?<kind>[?>])[\\d;]{0,60}c|P>\\|[ -~]{0,100}${ESC}\\\\)`, 'g');
/** The beginning of one that goes on in the next piece; nothing shorter, because Escape is a key. */
const TORN = new RegExp(`${ESC}(?:\\[[?>][\\d;]{0,60}|P>(?:\\|[ -~]{0,100}${ESC}?)?)$`);

/** For one client: what is to be typed of what came, for any chunking that leaves the first three characters together. */
export const createAnswerFilter = (): ((bytes: Uint8Array) => Uint8Array) => {
  const begunMs = performance.now();
  const had = new Set<string>();
  let rest = '';
  const keep = (answer: string, kind = 'name'): string => {
    const isAwaited = !had.has(kind) && performance.now() - begunMs < AWAITED_MS;
    had.add(kind);
    return isAwaited ? answer : '';
  };
  return (bytes) => {
    if (rest === '' && bytes.indexOf(0x1b) < 0) return bytes;
    // latin1: a byte is a character, so that nothing of any encoding is touched.
    const text = rest + Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString('latin1');
    const whole = text.replace(ANSWER, keep);
    const torn = TORN.exec(whole)?.index ?? whole.length;
    rest = whole.slice(torn);
    return Buffer.from(whole.slice(0, torn), 'latin1');
  };
};
