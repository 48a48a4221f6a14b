import { readFileSync } from 'node:fs';
import type { Sight } from '../../protocol/attach.ts';
import type { Control } from '../tmux/control.ts';
import { type PaneProgram, respawn } from '../tmux/panes.ts';

/**
 * A viewer in tmux: one session with one window of its own, named by the viewer's id. Nothing is shared between
 * viewers, because a window has one size and one scroll position: a small terminal would shrink the others, and who
 * scrolls back would take them along. What a session is for stands in an option of it, so that a new server knows.
 */

/** Lines of scrollback: at 0.6 KB a line a full one costs 3 MB of tmux while it is looked at. */
const HISTORY_LINES = 5_000;

export type Seen = {
  viewer: string;
  zone: string;
  sight: Sight;
  attached: boolean;
  /** Of the tmux that holds it: another one means that the viewer's own died. */
  tmuxPid: number;
};

/** The constant at the beginning keeps a line from looking like one of the control protocol. */
export const SESSION_FORMAT = 'k #{pid} #{session_attached} #{session_name} #{@khlone_sight}';
const ROW = /^k (\d+) (\d+) (v-[0-9a-z]{16}) (z-[0-9a-z]{16}) (shell|view) (\S+)$/;

/** The viewers in what `list-sessions` says; sessions of other kinds are passed over. */
export const readSessions = (lines: readonly string[]): Seen[] =>
  lines.flatMap((line) => {
    const [, pid, attached, viewer, zone, kind, clone] = ROW.exec(line) ?? [];
    if (viewer === undefined || zone === undefined || clone === undefined) return [];
    const sight: Sight = kind === 'view' ? { kind, clone } : { kind: 'shell' };
    return [{ viewer, zone, sight, attached: attached !== '0', tmuxPid: Number(pid) }];
  });

export const listSessions = async (control: Control): Promise<Seen[]> =>
  readSessions(await control.command(['list-sessions', '-F', SESSION_FORMAT]));

export const serverPid = async (control: Control): Promise<number> => {
  const [line = ''] = await control.command(['display-message', '-p', 'k #{pid}']);
  return Number(line.slice('k '.length));
};

/** A session as the target of a command: exactly this name. */
export const target = (viewer: string): string => `=${viewer}:`;

/**
 * Keys of viewers. Their own tables stand in the place of tmux's root and prefix tables, of which nothing is reachable:
 * those could open windows, run commands, and lead to the sessions of clones. A view needs no more than these keys, and
 * what is typed into it is swallowed by its program; in a shell all but C-b is the shell's.
 */
const KEYS: readonly (readonly [table: string, key: string, ...command: string[]])[] = [
  ['khlone-view', 'C-d', 'detach-client'],
  ['khlone-view', 'C-b', 'switch-client', '-T', 'khlone-prefix'],
  ['khlone-view', 'PPage', 'copy-mode', '-eu'],
  ['khlone-view', 'WheelUpPane', 'copy-mode', '-e'],
  ['khlone-shell', 'C-b', 'switch-client', '-T', 'khlone-prefix'],
  ['khlone-prefix', 'd', 'detach-client'],
  ['khlone-prefix', '[', 'copy-mode'],
  ['khlone-prefix', 'PPage', 'copy-mode', '-u'],
  ['khlone-prefix', 'C-b', 'send-keys', 'C-b'],
];

/**
 * The wheel belongs to tmux in a view; in a shell the programs ask for the mouse themselves. Keys that come within a
 * millisecond of others are keys all the same: over a line that was away all that was typed meanwhile comes at once,
 * and tmux would take it for a paste, in which C-b means nothing.
 */
const optionsOf = ({ zone, sight }: SessionSpec): [name: string, value: string][] => [
  ['@khlone_sight', `${zone} ${sight.kind} ${sight.kind === 'view' ? sight.clone : '-'}`],
  ['key-table', `khlone-${sight.kind}`],
  ['prefix', 'None'],
  ['prefix2', 'None'],
  ['assume-paste-time', '0'],
  ['mouse', sight.kind === 'view' ? 'on' : 'off'],
  ['history-limit', String(HISTORY_LINES)],
];

export type SessionSpec = {
  viewer: string;
  zone: string;
  sight: Sight;
  columns: number;
  rows: number;
  /** Asked for when the session must be made. */
  program(): PaneProgram;
};

const isSame = (a: Sight, b: Sight): boolean =>
  a.kind === b.kind && (a.kind === 'shell' || (b.kind === 'view' && a.clone === b.clone));

/**
 * Does something to a session, which may end by itself at any moment: then it was not there. Answers whether it was.
 */
const whileThere = async (control: Control, viewer: string, words: string[]): Promise<boolean> => {
  const isThere = async (): Promise<boolean> =>
    (await control.command(['list-sessions', '-F', 'k #{session_name}'])).includes(`k ${viewer}`);
  if (!(await isThere())) return false;
  try {
    await control.command(words);
    return true;
  } catch (thrown) {
    if (await isThere()) throw thrown;
    return false;
  }
};

/** The processes that this one started; none where nothing tells. */
const childrenOf = (pid: number): number[] => {
  try {
    return readFileSync(`/proc/${pid}/task/${pid}/children`, 'latin1').trim().split(' ').map(Number);
  } catch {
    return [];
  }
};

const tellHangUp = (pid: number): void => {
  try {
    if (pid > 1) process.kill(pid, 'SIGHUP');
  } catch {
    // It has ended.
  }
};

/**
 * A shell that hears of a hang-up ends its jobs. From the terminal only the pane's first process and the foreground
 * hear of it: with an editor there, a program in the background would stay behind when the shell is gone.
 */
const hangUp = async (control: Control, viewer: string): Promise<void> => {
  const rows = await control.command(['list-panes', '-a', '-F', 'k #{session_name} #{pane_pid}']);
  for (const [, name, pid] of rows.map((row) => row.split(' '))) {
    // The shell's keeper goes first, because it would keep the exit code for nobody.
    if (name === viewer) for (const one of [Number(pid), ...childrenOf(Number(pid))]) tellHangUp(one);
  }
};

/** Ends a session with its program; nothing happens where there is none. */
export const endSession = async (control: Control, viewer: string): Promise<void> => {
  await hangUp(control, viewer);
  await whileThere(control, viewer, ['kill-session', '-t', `=${viewer}`]);
};

/** Without a terminal a view would go at once, so its end with the last client is asked for after the attach. */
const stay = (control: Control, viewer: string): Promise<boolean> =>
  whileThere(control, viewer, ['set-option', '-t', target(viewer), 'destroy-unattached', 'off']);

/** Holds a pane until its program is there; where that never comes, it ends by itself, and the session with it. */
const WAITING = ['--', '/bin/sh', '-c', 'exec sleep 60'];

const make = async (control: Control, spec: SessionSpec): Promise<void> => {
  const to = target(spec.viewer);
  const size = ['-x', String(spec.columns), '-y', String(spec.rows)];
  await control.command(['new-session', '-d', '-E', '-s', spec.viewer, ...size, ...WAITING]);
  for (const [name, value] of optionsOf(spec)) await control.command(['set-option', '-t', to, name, value]);
  for (const [table, key, ...command] of KEYS) {
    await control.command(['bind-key', '-T', table, key, ...command]);
  }
  // The depth of the scrollback is fixed when a window is made, so the first one only held the place.
  const place = ['-d', '-P', '-F', 'k #{pane_id}', '-t', to, '-n', spec.sight.kind, ...WAITING];
  const [line = ''] = await control.command(['new-window', ...place]);
  const pane = line.slice('k '.length);
  await control.command(['kill-window', '-t', `=${spec.viewer}:^`]);
  // Its program's end is the session's end, and so the end of every terminal on it.
  await control.command(['set-option', '-w', '-t', pane, 'remain-on-exit', 'off']);
  await respawn(control, pane, spec.program());
};

/**
 * Finds the viewer's session, or makes it; one that shows something else is ended first. It stays without a terminal
 * until one is attached, so that the terminal on it now may be replaced.
 */
export const findsertSession = async (control: Control, spec: SessionSpec): Promise<Seen> => {
  const { viewer, zone, sight } = spec;
  const found = (await listSessions(control)).find((row) => row.viewer === viewer);
  const fits = found !== undefined && found.zone === zone && isSame(found.sight, sight);
  if (fits && (await stay(control, viewer))) return found;
  await endSession(control, viewer);
  await make(control, spec);
  return { viewer, zone, sight, attached: false, tmuxPid: await serverPid(control) };
};

/**
 * The words of a tmux client on the viewer's session, which any pty may run. It takes the place of one that is there.
 * A view ends with its last terminal, by tmux itself: nobody else has to be there for that.
 */
export const clientArgv = (socketPath: string, viewer: string, sight: Sight, utf8: boolean): string[] => {
  const attach = ['attach-session', '-d', '-E', '-t', target(viewer)];
  const unseen = [
    'set-option',
    '-t',
    target(viewer),
    'destroy-unattached',
    sight.kind === 'view' ? 'on' : 'off',
  ];
  return ['tmux', ...(utf8 ? ['-u'] : []), '-S', socketPath, ...attach, ';', ...unseen];
};
