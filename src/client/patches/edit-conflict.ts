import { randomBytes } from 'node:crypto';
import { readFile, rm, writeFile } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { type Path, pathText } from '../../patch/listing.ts';
import { markersLeft } from '../../patch/markers.ts';
import { KhloneError } from '../../protocol/error.ts';
import { fileWord } from '../render/file-word.ts';
import { startOf } from './maker.ts';

/** A text with markers in the person's editor. It takes as long as they like: nothing is locked meanwhile. */

const EDIT_ATTEMPTS = 10;
const MAX_EDITED_BYTES = 64 * 1024 * 1024;

/** `word`: the file as it is typed where the person stands. */
export type Marked = { path: Path; text: Buffer; markerSize: number; word?: string };

const leftBehind = (word: string, left: readonly number[]): KhloneError =>
  new KhloneError(
    'conflict',
    `conflict markers are left in line ${left.slice(0, 5).join(', ')}: nothing was changed`,
    `khlone resolve ${word} --merge opens it again`,
  );

/** What a person saved; an editor may have removed the file, or made another kind of thing of it. */
const editedText = (file: string, word: string): Promise<Buffer> =>
  readFile(file).catch(() => {
    throw new KhloneError(
      'conflict',
      'the editor left no text: nothing was changed',
      `khlone resolve ${word} --merge opens it again`,
    );
  });

const NOT_EXECUTABLE = 126;
const NO_SUCH_PROGRAM = 127;
/** From here on a shell's exit code tells of a signal. */
const SIGNALLED = 128;

/** An editor that could not start, one that was killed, or one that the person left in order to give up. */
const editorFailed = (word: string, code: number): KhloneError => {
  if (code === NOT_EXECUTABLE || code === NO_SUCH_PROGRAM)
    return new KhloneError(
      'usage',
      'the editor could not be started: nothing was changed',
      'set EDITOR to one that is installed, or --keep local|remote',
    );
  return new KhloneError(
    code >= SIGNALLED ? 'interrupted' : 'conflict',
    `the editor ended with ${code}: nothing was changed`,
    `khlone resolve ${word} --merge opens it again`,
  );
};

const editUntilWhole = async (
  file: string,
  { path, text, markerSize, word = fileWord(path) }: Marked,
  open: (file: string) => Promise<number>,
): Promise<Buffer> => {
  for (let attempt = 1; ; attempt += 1) {
    const code = await open(file);
    if (code !== 0) throw editorFailed(word, code);
    const edited = await editedText(file, word);
    if (edited.length > MAX_EDITED_BYTES) throw new KhloneError('too-large', 'the merged text is too large');
    const left = markersLeft(edited, markerSize);
    if (left.length === 0) return edited;
    if (edited.equals(text) || attempt === EDIT_ATTEMPTS) throw leftBehind(word, left);
  }
};

/**
 * Lets the person edit the text until no marker is left, and gives it to `use`, which answers whether it took it: if
 * not, the file stays. Throws `conflict` when they give up and for markers, `usage` without an editor, `interrupted`.
 */
export const editMarked = async <T>(
  dir: string,
  marked: Marked,
  open: (file: string) => Promise<number>,
  use: (edited: Buffer, file: string) => Promise<{ taken: boolean; value: T }>,
): Promise<T> => {
  const name = basename(pathText(marked.path))
    .replace(/[^\w.-]/gu, '_')
    .slice(-100);
  // Who made it is told by its name: a text that a killed khlone leaves behind is swept, one in an editor is not.
  const maker = `${process.pid}-${(await startOf(process.pid)) || '-'}`;
  const file = join(dir, `resolve-${maker}-${randomBytes(4).toString('hex')}-${name}`);
  await writeFile(file, marked.text, { mode: 0o600, flag: 'wx' });
  let isTheirs = false;
  try {
    const edited = await editUntilWhole(file, marked, open);
    isTheirs = true;
    const { taken, value } = await use(edited, file);
    isTheirs = !taken;
    return value;
  } finally {
    if (!isTheirs) await rm(file, { force: true });
  }
};
