import { KhloneError } from '../../protocol/error.ts';

/** Bytes that mean nothing to tmux inside double quotes. `$ ~ # ; { } ' " \`, controls and all above ASCII are not here. */
const PLAIN = /^[\w ./:=,@%+-]$/;
const ESCAPED = Array.from({ length: 256 }, (_, byte) => {
  const letter = String.fromCharCode(byte);
  return PLAIN.test(letter) ? letter : `\\${byte.toString(8).padStart(3, '0')}`;
});

/**
 * A word for a line of tmux's command language: any bytes but NUL arrive as they are, newlines included.
 * Octal escapes inside double quotes do it, since tmux reads them before anything else sees the word.
 * Some arguments are formats, which tmux expands after that: for those see `literalFormat`.
 * Throws `invalid-params` for a NUL, which no argument of a process can hold.
 */
export const quoteTmux = (word: string | Uint8Array): string => {
  const bytes = typeof word === 'string' ? Buffer.from(word) : word;
  if (bytes.includes(0)) throw new KhloneError('invalid-params', 'a word for tmux holds a NUL byte');
  let quoted = '"';
  for (const byte of bytes) quoted += ESCAPED[byte];
  return `${quoted}"`;
};

/**
 * Text that a format expands to itself. `new-window -c` and `-n` are formats: in a directory named `#(touch x)`
 * tmux would run that command. `##` stands for `#`, except before `[`, where tmux leaves all of them as they are.
 */
export const literalFormat = (text: string): string => text.replace(/#+(?!#|\[)/g, '$&$&');
