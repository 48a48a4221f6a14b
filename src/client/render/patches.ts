import type { Halt } from '../../patch/halt.ts';
import { type Path, pathText } from '../../patch/listing.ts';
import { type LineRange, rangeText } from '../../patch/ranges.ts';
import { KhloneError } from '../../protocol/error.ts';
import { oneLine } from '../../protocol/sanitize.ts';
import type { Style } from '../caller.ts';
import type { Look } from '../patches/far.ts';
import { NOT_NAMED } from '../patches/judge.ts';
import type { ToldConflict } from '../patches/told.ts';
import { fileWord, type Standing } from './file-word.ts';
import { mark } from './receipt.ts';
import { counted } from './status.ts';

/** Pulls, syncs and conflicts as people read them. Every path was chosen by a stranger. */

/** Paths of one kind that are named before the rest is counted. */
const MAX_NAMED = 20;

export const shownPath = (path: Path): string => oneLine(pathText(path), 200);

const sideText = (ranges: readonly LineRange[]): string => ranges.map(rangeText).join(', ');

const KIND_WORDS: Readonly<Record<string, string>> = {
  'modify-delete': 'changed on one side, deleted on the other',
  'add-add': 'made on both sides',
  binary: 'a binary file, changed on both sides',
  rename: 'renamed differently on both sides',
  type: 'of another kind on each side',
  case: 'the same name as another file on this disk',
  'no-base': 'different, and what both had before is not known',
};

/** The next step names a file as it is typed where the person stands. */
export const conflictLines = (
  conflicts: readonly ToldConflict[],
  style: Style,
  standing?: Standing,
): string[] => {
  const lines = conflicts.slice(0, MAX_NAMED).flatMap(({ path, kind, ranges }) => {
    const what = KIND_WORDS[kind];
    const head = `${mark(style, 'attention')} conflict in ${shownPath(path)}${what ? ` (${what})` : ''}`;
    if (!ranges || ranges.length === 0) return [head];
    return [
      head,
      `    local:  ${sideText(ranges.map(({ local }) => local))}`,
      `    remote: ${sideText(ranges.map(({ remote }) => remote))}`,
    ];
  });
  const [first] = conflicts;
  if (!first) return [];
  const more = conflicts.length > MAX_NAMED ? [`  and ${conflicts.length - MAX_NAMED} more`] : [];
  const file = fileWord(first.path, standing);
  return [
    ...lines,
    ...more,
    `  ${mark(style, 'next')} khlone diff ${file}, then khlone resolve ${file} --keep local|remote|--merge`,
  ];
};

/** Conflicts as scripts read them. */
export const conflictsText = (conflicts: readonly ToldConflict[]) =>
  conflicts.map(({ path, paths, kind, ranges }) => ({
    ...{ path: pathText(path), paths: paths.map(pathText), kind },
    ...(ranges && { ranges }),
  }));

/** What was held for another reason than that the person named other files. */
export const named = <T extends { why: string }>(held: readonly T[]): T[] =>
  held.filter(({ why }) => why !== NOT_NAMED);

/** Named paths with their reasons, the rest counted. */
export const reasonLines = (
  word: string,
  paths: readonly { path: Path; why: string }[],
  style: Style,
): string[] => {
  const lines = paths
    .slice(0, MAX_NAMED)
    .map(({ path, why }) => `${mark(style, 'attention')} ${word} ${shownPath(path)}: ${oneLine(why, 200)}`);
  return paths.length > MAX_NAMED
    ? [...lines, `  and ${counted(paths.length - MAX_NAMED, 'more path')}`]
    : lines;
};

/** What git is in the middle of in the zone, which says so itself. */
export const underwayLines = ({ underway = [] }: Pick<Look, 'underway'>, style: Style): string[] =>
  underway.map((what) => `${mark(style, 'attention')} in the zone ${oneLine(what, 200)}`);

/** What stopped a step, as the error that it ends with: nothing moved. */
export const haltError = (halts: readonly Halt[]): KhloneError => {
  const [branch] = halts.filter(({ why }) => why === 'branch');
  const what = halts.map(({ message }) => oneLine(message, 300)).join('; ');
  const hint = branch
    ? 'git switch back, or khlone zone set --branch for a zone of this branch'
    : 'finish that first, or --yes';
  return new KhloneError('conflict', `nothing was moved: ${what}`, hint);
};

/** A sync that waits here for its host, or has nothing to wait with. */
export const queuedLine = (
  { files, waits }: { files: number; waits: boolean },
  host: string,
  style: Style,
): string => {
  const away = `${oneLine(host, 100)} unreachable`;
  const what = waits ? `${counted(files, 'file')} [queued here: ${away}]` : `nothing to send [${away}]`;
  return `${mark(style, 'attention')} ${what}`;
};
