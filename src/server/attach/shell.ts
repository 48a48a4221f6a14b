import { accessSync, constants, mkdirSync, readFileSync, rmSync } from 'node:fs';
import { userInfo } from 'node:os';
import { basename, join } from 'node:path';
import type { Environment } from '../prepare.ts';
import type { ZoneRow } from '../store/zones.ts';
import type { PaneProgram } from '../tmux/panes.ts';

/** A shell of the person's own in a zone's worktree, with the environment that clones get there. */

/** Shells that take `-i` and `-l` as POSIX does; others are started without a word, and know a terminal by themselves. */
const TAKES_FLAGS = new Set(['sh', 'bash', 'zsh', 'dash', 'ash', 'ksh', 'mksh', 'fish']);
/** What accounts without a login have in the place of a shell. */
const NO_SHELLS = new Set(['nologin', 'false', 'true', 'sync']);

/**
 * Keeps the exit code in a file: tmux forgets it with the pane, and the server may be away when the shell ends. Ctrl-C
 * on the way into the shell must not end its keeper, and must stay deadly to the shell: hence a trap that does nothing.
 */
const KEEPER = [
  'trap : INT QUIT',
  'file=$1; shift',
  '"$@"',
  `code=$?; printf '%s\\n' "$code" >"$file.new" && mv "$file.new" "$file"`,
].join('\n');

const isProgram = (path: string): boolean => {
  try {
    accessSync(path, constants.X_OK);
    return path.startsWith('/') && !NO_SHELLS.has(basename(path));
  } catch {
    return false;
  }
};

/** The shell of the account that the server runs as. */
export const shellOfPerson = (): string => {
  const { shell } = userInfo();
  return shell !== null && isProgram(shell) ? shell : '/bin/sh';
};

const exitFile = (dir: string, viewer: string): string => join(dir, `${viewer}.exit`);

/**
 * The program of a shell. In a local zone the environment is the one of the shell that dispatched, which a login would
 * set back (PATH above all), so it is an interactive shell only; elsewhere there was no login, so this is one.
 */
export const shellProgram = (
  zone: ZoneRow,
  environment: Environment,
  place: { dir: string; viewer: string; shell: string },
): PaneProgram => {
  const { dir, viewer, shell } = place;
  mkdirSync(dir, { recursive: true, mode: 0o700 });
  const flags = TAKES_FLAGS.has(basename(shell)) ? [zone.mode === 'local' ? '-i' : '-l'] : [];
  const { username } = userInfo();
  return {
    argv: ['/bin/sh', '-c', KEEPER, 'khlone-shell', exitFile(dir, viewer), shell, ...flags],
    env: { USER: username, LOGNAME: username, ...environment, SHELL: shell },
    cwd: zone.path,
  };
};

/** The exit code of a viewer's shell that ended by itself. */
export const shellExit = (dir: string, viewer: string): number | undefined => {
  try {
    const code = Number(readFileSync(exitFile(dir, viewer), 'utf8').trim());
    return Number.isInteger(code) && code >= 0 && code <= 255 ? code : undefined;
  } catch {
    return undefined;
  }
};

export const forgetExit = (dir: string, viewer: string): void => {
  for (const end of ['', '.new']) rmSync(`${exitFile(dir, viewer)}${end}`, { force: true });
};
