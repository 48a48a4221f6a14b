import type { CloneView, TaskView, ZoneView } from '../../protocol/calls.ts';
import { oneLine } from '../../protocol/sanitize.ts';
import type { Style } from '../caller.ts';
import { ago } from '../duration.ts';
import { dollars } from './money.ts';
import { mark } from './receipt.ts';
import { wrapped } from './wrap.ts';

/** A zone as people read it. Work state and link state are separate words: silence is never "done" or "dead". */

export type ZoneStatus = {
  view: ZoneView;
  host: string;
  link: 'connected' | 'connecting' | 'silent' | 'offline' | 'refused' | 'not connected';
  /** How old the view is; 0 when it was just asked for. */
  ageMs: number;
  offlineMs: number | undefined;
  queuedHere: number;
  /** Cancels that wait for the host. */
  cancelsHere: number;
  /** States of the worktree that wait, and of how many files the last one is. */
  patchesHere?: { count: number; files: number };
  /** How far both sides were apart when they were last compared; undefined: they never were, or are one folder. */
  sync?: { toSend: number; toPull: number; conflicts: number; ageMs: number } | undefined;
  /** Patches travel by themselves, or are paused. Paths are one character per byte. */
  auto?: { paused?: string; lookAt: { path: string; why: string }[] } | undefined;
  /** For how long the oldest of what is queued here has waited. */
  queuedSinceMs: number | undefined;
  /** When the link is tried again, where that is planned; 0 while it is being tried. */
  nextTryMs: number | undefined;
  /** What keeps the link or the code away until a person looks. */
  trouble: { message: string; hint?: string | undefined } | undefined;
  /** Tasks that wait here for a person's word. */
  heldHere: string[];
};

const markOf = (clone: CloneView, fresh: boolean, style: Style): string => {
  if (!fresh) return mark(style, 'unknown');
  if (clone.state === 'active') return mark(style, 'active');
  if (clone.state === 'waiting') return mark(style, 'waiting');
  return clone.queued > 0 ? mark(style, 'queued') : mark(style, 'idle');
};

export const percent = (clone: CloneView): string => {
  const { progress } = clone;
  return progress && progress.total > 0 ? `${Math.floor((progress.done / progress.total) * 100)}%` : '—';
};

export const counted = (n: number, noun: string): string => `${n} ${noun}${n === 1 ? '' : 's'}`;

/** Columns padded to their widest cell, the last one free. */
export const columns = (rows: readonly string[][]): string[] => {
  const widths = (rows[0] ?? []).map((_, i) => Math.max(...rows.map((row) => [...(row[i] ?? '')].length)));
  return rows.map((row) =>
    row
      .map((cell, i) =>
        i === row.length - 1 ? cell : cell + ' '.repeat((widths[i] ?? 0) - [...cell].length),
      )
      .join('  ')
      .trimEnd(),
  );
};

const cloneRows = (status: ZoneStatus, style: Style): string[] => {
  const fresh = status.ageMs < 5_000 && status.link === 'connected';
  const dash = style.utf8 ? '—' : '-';
  const rows = status.view.crew.map((clone) => {
    const title = clone.title ? oneLine(clone.title, 60) : dash;
    const waits = clone.note && clone.task && clone.state !== 'active' ? ` (${oneLine(clone.note, 80)})` : '';
    const count = clone.queued > 0 ? counted(clone.queued + (clone.state === 'active' ? 1 : 0), 'task') : '';
    const progress = style.utf8 ? percent(clone) : percent(clone).replace('—', '-');
    const asOf = fresh ? '' : `(as of ${ago(status.ageMs)} ago)`;
    return [
      `${markOf(clone, fresh, style)} ${oneLine(clone.name, 60)}`,
      oneLine(clone.brain, 100),
      progress,
      `${title}${waits}`,
      [count, asOf].filter(Boolean).join(' '),
    ];
  });
  return columns(rows);
};

/** The crew alone, a clone a line. */
export const crewLines = (status: ZoneStatus, style: Style, width: number): string[] =>
  cloneRows(status, style).map((line) => cut(line, width, style));

const nextTry = ({ link, nextTryMs }: ZoneStatus): string => {
  if (link !== 'offline' || nextTryMs === undefined) return '';
  return nextTryMs === 0 ? ', trying now' : `, next try in ${ago(nextTryMs)}`;
};

const linkWords = (status: ZoneStatus): string => {
  if (status.view.mode === 'local') return status.link === 'connected' ? 'local' : `local, ${status.link}`;
  const known = status.offlineMs === undefined ? '' : ` for ${ago(status.offlineMs)}`;
  const since = status.link === 'offline' || status.link === 'silent' ? known : '';
  const link = `${status.link}${since}${nextTry(status)}`;
  return `${status.view.mode} ${oneLine(status.host, 80)}, ${link}`;
};

const troubleLine = ({ trouble }: ZoneStatus, style: Style): string[] => {
  if (!trouble) return [];
  const hint = trouble.hint ? ` ${style.utf8 ? '↳' : '->'} ${oneLine(trouble.hint, 300)}` : '';
  return [`${mark(style, 'failed')} ${oneLine(trouble.message, 300)}${hint}`];
};

const heldLine = (task: string, status: ZoneStatus, style: Style): string =>
  `${mark(style, 'attention')} ${task} outcome unknown: khlone-server on ${oneLine(status.host, 80)} was set up anew ` +
  `${style.utf8 ? '↳' : '->'} khlone retry ${task}, or khlone cancel ${task}`;

const attentionLine = (task: TaskView, style: Style): string => {
  const what =
    task.state === 'unknown' ? 'outcome unknown' : oneLine(task.message ?? task.hold ?? task.state, 160);
  const hint = task.hint ? ` ${style.utf8 ? '↳' : '->'} ${oneLine(task.hint, 160)}` : '';
  const sign = task.state === 'unknown' ? mark(style, 'attention') : mark(style, 'waiting');
  return `${sign} ${oneLine(task.id, 40)} ${what}${hint}`;
};

/** What waits here, and for how long. */
const queuedLine = ({ queuedHere, cancelsHere, queuedSinceMs, patchesHere }: ZoneStatus): string[] => {
  const { count, files } = patchesHere ?? { count: 0, files: 0 };
  const patches = `${count} ${count === 1 ? 'patch' : 'patches'} (${counted(files, 'file')})`;
  const words = [
    ...(queuedHere > 0 ? [counted(queuedHere, 'task')] : []),
    ...(count > 0 ? [patches] : []),
    ...(cancelsHere > 0 ? [counted(cancelsHere, 'cancel')] : []),
  ];
  if (words.length === 0) return [];
  const since = queuedSinceMs === undefined ? '' : ` (for ${ago(queuedSinceMs)})`;
  return [`queued here  ${words.join(', ')}${since}`];
};

/** Older counts are told with their age. */
const FRESH_MS = 6_000;

/** How far both sides are apart; nothing where they were just seen to be in step. */
const syncLine = ({ sync, auto }: ZoneStatus): string[] => {
  const { toSend, toPull, conflicts, ageMs } = sync ?? { toSend: 0, toPull: 0, conflicts: 0, ageMs: 0 };
  const isFresh = ageMs < FRESH_MS || auto !== undefined;
  const paused = auto?.paused === undefined ? 'auto' : `auto, paused: ${oneLine(auto.paused, 200)}`;
  const words = [
    ...(auto ? [paused] : []),
    ...(toSend > 0 ? [`${counted(toSend, 'file')} to send`] : []),
    ...(toPull > 0 ? [`${toSend > 0 ? toPull : counted(toPull, 'file')} to pull`] : []),
    ...(conflicts > 0 ? [counted(conflicts, 'conflict')] : []),
  ];
  if (words.length === 0 && isFresh) return [];
  return [`sync  ${words.join(', ') || 'in step'}${isFresh ? '' : ` (as of ${ago(ageMs)} ago)`}`];
};

/** What came by itself and is run by something: a person who pulls sees it at once, here it waits for a look. */
const lookAtLines = ({ auto }: ZoneStatus, style: Style): string[] =>
  (auto?.lookAt ?? []).slice(0, 5).map(({ path, why }) => {
    const shown = oneLine(Buffer.from(path, 'latin1').toString('utf8'), 200);
    return `${mark(style, 'attention')} look at ${shown}: ${oneLine(why, 200)}`;
  });

/** Lines cut to the terminal, so that a narrow one shows a tree and not a tangle. */
export const cut = (line: string, width: number, style: Style): string => {
  const chars = [...line];
  if (chars.length <= width) return line;
  return `${chars.slice(0, Math.max(1, width - 1)).join('')}${style.utf8 ? '…' : '~'}`;
};

/** What waits here and was written by another version, in one line; nothing where all is well. */
export const unreadableLine = (files: readonly string[]): string | undefined => {
  const [first] = files;
  if (first === undefined) return undefined;
  const others = files.length > 1 ? ` and ${files.length - 1} more` : '';
  return `queued by another version of khlone and kept for it: ${oneLine(first, 300)}${others}`;
};

/** Clones are cut to the width, in cells; what waits for a person is whole. `name`: the zone's short address where the person stands in it, the whole one among others. */
export const zoneLines = (
  status: ZoneStatus,
  style: Style,
  width: number,
  name: 'short' | 'whole' = 'short',
): string[] => {
  const { view } = status;
  const address = name === 'whole' ? oneLine(view.address, 200) : `@${oneLine(view.branch, 100)}`;
  const stale = status.link === 'offline' || status.link === 'refused';
  const state = view.state === 'ready' ? '' : view.state === 'preparing' ? ' — preparing' : ' — halted';
  const head = `${stale ? `${mark(style, 'attention')} ` : ''}zone ${address} (${linkWords(status)})${state}`;
  const waiting = view.crew.reduce((sum, clone) => sum + clone.queued, 0);
  const clones = cloneRows(status, style);
  const rest = [
    ...view.attention.slice(0, 5).map((task) => attentionLine(task, style)),
    ...troubleLine(status, style),
    ...status.heldHere.slice(0, 5).map((task) => heldLine(task, status, style)),
    ...(waiting > 0 || view.paused
      ? [`queue  ${counted(waiting, 'task')}${view.paused ? ', paused' : ''}`]
      : []),
    ...syncLine(status),
    ...lookAtLines(status, style),
    ...queuedLine(status),
    ...(view.tokens > 0
      ? [`spent  ${view.tokens.toLocaleString('en-US')} tokens, ${dollars(view.costUsd)}`]
      : []),
  ];
  if (clones.length + rest.length === 0) rest.push('no clones yet');
  const inside = width - BRANCH_CELLS;
  const rows = [
    ...clones.map((row) => [cut(row, inside, style)]),
    ...rest.map((row) => wrapped(row, inside, style)),
  ];
  return [...wrapped(head, width, style), ...treeOf(rows, style)];
};

const BRANCH_CELLS = 3;

/** Each row on a branch, with the lines that it takes. */
const treeOf = (rows: readonly string[][], style: Style): string[] => {
  const [tee, corner, trunk] = style.utf8 ? ['├─ ', '└─ ', '│  '] : ['|- ', '`- ', '|  '];
  return rows.flatMap((lines, i) => {
    const isLast = i === rows.length - 1;
    return lines.map((line, n) => `${n > 0 ? (isLast ? '   ' : trunk) : isLast ? corner : tee}${line}`);
  });
};
