import { join, relative } from 'node:path';
import { type Path, pathText, toBytes } from '../../patch/listing.ts';
import { oneLine } from '../../protocol/sanitize.ts';

/** Where a person stands, and the worktree that paths are told of. */
export type Standing = { cwd: string; root: string };

/** Words that zsh and bash take as they are. */
const PLAIN = /^[\w@%+:,./-][\w@%+=:,./-]*$/u;
const MAX_CHARS = 10_000;

const bytewise = (text: string): Path => Buffer.from(text, 'utf8').toString('latin1');

/** Bytes that a terminal must not see, or that are no text, in the quotes that zsh and bash share. */
const escaped = (path: Path): string => {
  const hex = (byte: string): string => `\\x${byte.charCodeAt(0).toString(16).padStart(2, '0')}`;
  return `$'${path.replace(/[\\']/gu, '\\$&').replace(/[^ -~]/gu, hex)}'`;
};

/**
 * A path as a word of a command line, to be typed or pasted in zsh or bash where the person stands; without that, at
 * the worktree's root. A stranger chose its name: the word is one, and the shell runs nothing of it.
 */
export const fileWord = (path: Path, standing?: Standing): string => {
  const there = standing
    ? relative(bytewise(standing.cwd), join(bytewise(standing.root), path)) || '.'
    : path;
  const word = there.startsWith('-') ? `./${there}` : there;
  const text = pathText(word);
  if (PLAIN.test(text)) return text;
  const isText = toBytes(word).equals(Buffer.from(text, 'utf8')) && oneLine(text, MAX_CHARS) === text;
  return isText ? `'${text.replaceAll("'", `'\\''`)}'` : escaped(word);
};
