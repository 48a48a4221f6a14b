import type { Path } from './listing.ts';

/**
 * The plain kind of git patch, written, read and applied exactly: text under its own name, each line where the patch says it is.
 * Renames, binary files, quoted names and whatever else git can say are git's to read.
 */

/** One file of a patch. `before` and `after` are modes; undefined where the file is not there. */
export type FilePatch = {
  path: Path;
  before: string | undefined;
  after: string | undefined;
  hunks: readonly Hunk[];
};

/** `at`: the line of the old file where it begins, from 0; lines with their ends. */
export type Hunk = { at: number; old: readonly string[]; new: readonly string[] };

const FILE = /^diff --git a\/([^"\n]+) b\/\1$/u;
const INDEX = /^index [0-9a-f]+\.\.[0-9a-f]+(?: (\d{6}))?$/u;
const MODE = /^(old|new|deleted file|new file) mode (\d{6})$/u;
const HUNK = /^@@ -(\d+)(?:,(\d+))? \+\d+(?:,(\d+))? @@/u;
const NO_END = '\\ No newline at end of file';

type Reader = { lines: readonly string[]; at: number };

const readHunk = (reader: Reader): Hunk | undefined => {
  const found = HUNK.exec(reader.lines[reader.at] ?? '');
  if (!found) return undefined;
  reader.at += 1;
  const [begin, oldCount, newCount] = [Number(found[1]), Number(found[2] ?? 1), Number(found[3] ?? 1)];
  const [older, newer]: [string[], string[]] = [[], []];
  let last: string[][] = [];
  const line = (): string => reader.lines[reader.at] ?? '';
  while (older.length < oldCount || newer.length < newCount || line() === NO_END) {
    const text = line();
    reader.at += 1;
    if (text === NO_END) {
      for (const side of last) side.push((side.pop() ?? '').slice(0, -1));
      last = [];
      continue;
    }
    last = { ' ': [older, newer], '-': [older], '+': [newer] }[text.charAt(0)] ?? [];
    if (last.length === 0) return undefined;
    for (const side of last) side.push(`${text.slice(1)}\n`);
  }
  if (older.length !== oldCount || newer.length !== newCount) return undefined;
  // A hunk without old lines names the line before it.
  return { at: oldCount === 0 ? begin : begin - 1, old: older, new: newer };
};

const readModes = (reader: Reader): Pick<FilePatch, 'before' | 'after'> | undefined => {
  const modes = new Map<string, string>();
  for (let line = reader.lines[reader.at] ?? ''; ; line = reader.lines[reader.at] ?? '') {
    const mode = MODE.exec(line);
    if (!mode) break;
    modes.set(mode[1] ?? '', mode[2] ?? '');
    reader.at += 1;
  }
  const index = INDEX.exec(reader.lines[reader.at] ?? '');
  if (index) reader.at += 1;
  const kept = index?.[1];
  if (modes.has('new file')) return { before: undefined, after: modes.get('new file') };
  if (modes.has('deleted file')) return { before: modes.get('deleted file'), after: undefined };
  const [before, after] = [modes.get('old') ?? kept, modes.get('new') ?? kept];
  return before !== undefined && after !== undefined ? { before, after } : undefined;
};

const readFile = (reader: Reader): FilePatch | undefined => {
  const path = FILE.exec(reader.lines[reader.at] ?? '')?.[1];
  if (path === undefined) return undefined;
  reader.at += 1;
  const modes = readModes(reader);
  if (!modes) return undefined;
  const line = (): string => reader.lines[reader.at] ?? '';
  const hunks: Hunk[] = [];
  if (line().startsWith('--- ')) {
    reader.at += 2;
    while (line().startsWith('@@ ')) {
      const hunk = readHunk(reader);
      if (!hunk) return undefined;
      hunks.push(hunk);
    }
  }
  return { path, ...modes, hunks };
};

/** Reads a whole patch, one character per byte; undefined where it says more than is read here. */
export const readTextPatch = (text: string): FilePatch[] | undefined => {
  const lines = text.split('\n');
  if (lines.pop() !== '') return undefined;
  const reader: Reader = { lines, at: 0 };
  const files: FilePatch[] = [];
  while (reader.at < lines.length) {
    const file = readFile(reader);
    if (!file) return undefined;
    files.push(file);
  }
  return new Set(files.map(({ path }) => path)).size === files.length ? files : undefined;
};

/** The lines of a text, each with its end; the last may have none. */
const linesOf = (text: string): string[] => {
  const lines = text.split('\n').map((line) => `${line}\n`);
  const last = lines.pop()?.slice(0, -1) ?? '';
  return last === '' ? lines : [...lines, last];
};

/** The text after these hunks; undefined where a line is not as they say. */
export const applyHunks = (text: string, hunks: readonly Hunk[]): string | undefined => {
  const lines = linesOf(text);
  const made: string[] = [];
  let at = 0;
  for (const hunk of hunks) {
    if (hunk.at < at || hunk.old.some((line, i) => lines[hunk.at + i] !== line)) return undefined;
    made.push(...lines.slice(at, hunk.at), ...hunk.new);
    at = hunk.at + hunk.old.length;
  }
  made.push(...lines.slice(at));
  return made.join('');
};

/** Lines around a change that say where it is, as git has them. */
const CONTEXT = 3;
/** What lies between the first and the last change is told as one: above this git finds a shorter way to say it. */
const MAX_LINES = 40;
/** Names that git does not put in quotes, and ends without a tab. */
const PLAIN_NAME = /^[\w./+@-]+$/u;
const SHORT = 7;

const marked = (mark: string, lines: readonly string[]): string[] =>
  lines.map((line) => (line.endsWith('\n') ? `${mark}${line}` : `${mark}${line}\n${NO_END}\n`));

/** How many lines two texts have in common, from the beginning of the one and the other. */
const commonLines = (older: readonly string[], newer: readonly string[]): number => {
  const most = Math.min(older.length, newer.length);
  const at = older.slice(0, most).findIndex((line, i) => line !== newer[i]);
  return at < 0 ? most : at;
};

const hunkOf = (older: readonly string[], newer: readonly string[]): string | undefined => {
  const begin = commonLines(older, newer);
  const [oldRest, newRest] = [older.slice(begin), newer.slice(begin)];
  const end = commonLines(oldRest.toReversed(), newRest.toReversed());
  const [gone, come] = [oldRest.slice(0, oldRest.length - end), newRest.slice(0, newRest.length - end)];
  if (gone.length + come.length > MAX_LINES) return undefined;
  const before = older.slice(Math.max(begin - CONTEXT, 0), begin);
  const after = oldRest.slice(gone.length, gone.length + CONTEXT);
  const around = before.length + after.length;
  const range = (count: number): string => `${begin - before.length + (count > 0 ? 1 : 0)},${count}`;
  const head = `@@ -${range(around + gone.length)} +${range(around + come.length)} @@\n`;
  return [
    head,
    ...marked(' ', before),
    ...marked('-', gone),
    ...marked('+', come),
    ...marked(' ', after),
  ].join('');
};

type Version = readonly [oid: string, bytes: Buffer];

/**
 * The patch of one file whose mode stays, one character per byte; undefined where git has more to say, or says it
 * shorter: binary files, odd names, changes far from each other.
 */
export const textPatchOf = (
  path: Path,
  mode: string,
  [oldId, older]: Version,
  [newId, newer]: Version,
): string | undefined => {
  if (!mode.startsWith('100') || !PLAIN_NAME.test(path)) return undefined;
  if (older.includes(0) || newer.includes(0)) return undefined;
  const hunk = hunkOf(linesOf(older.toString('latin1')), linesOf(newer.toString('latin1')));
  if (hunk === undefined) return undefined;
  const ids = `index ${oldId.slice(0, SHORT)}..${newId.slice(0, SHORT)} ${mode}`;
  return `diff --git a/${path} b/${path}\n${ids}\n--- a/${path}\n+++ b/${path}\n${hunk}`;
};
