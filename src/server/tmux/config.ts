import { execFile } from 'node:child_process';
import { chmodSync, lstatSync, mkdirSync, renameSync, writeFileSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { KhloneError } from '../../protocol/error.ts';
import { quoteTmux } from './quote.ts';

/** A unix socket's path has 108 bytes on Linux and 104 on macOS; tmux appends `.lock` to it while it starts. */
const MAX_SOCKET_PATH_BYTES = 90;
const DEADLINE_MS = 5_000;

/**
 * What our private tmux server is set to. The order does not matter; each line says what would go wrong without it.
 * tmux's defaults hold for all that is not named: nobody's own tmux.conf is read.
 */
const optionsFor = (terminal: string): [scope: '-s' | '-g' | '-gw', name: string, value: string][] => [
  ['-s', 'exit-empty', 'off'], // the server outlives its last window, so a start does not race its end
  ['-s', 'escape-time', '0'],
  ['-s', 'set-clipboard', 'off'], // what a clone prints cannot write a person's clipboard
  ['-s', 'default-terminal', terminal],
  // tmux keeps every command it ran for `show-messages`, our environments among them, 1,000 by default.
  ['-s', 'message-limit', '0'],
  ['-g', 'history-limit', '200'], // 0.6 KB a line and pane; transcripts are files, not scrollback
  ['-g', 'status', 'off'],
  ['-g', 'set-titles', 'off'],
  ['-g', 'update-environment', ''], // a viewer's environment never reaches a clone
  ['-g', 'default-shell', '/bin/sh'],
  ['-gw', 'remain-on-exit', 'on'],
  ['-gw', 'window-size', 'latest'],
  ['-gw', 'allow-rename', 'off'], // a clone cannot rename its window
  ['-gw', 'automatic-rename', 'off'],
];

/** Options of versions after 3.2: `-q` lets an older tmux pass over them. */
const LATER_OPTIONS = [['-gw', 'allow-passthrough', 'off']] as const;

/** The best terminal that this machine can describe; brains look it up for keys and colours. */
const findTerminal = async (env: Record<string, string>): Promise<string> => {
  for (const name of ['tmux-256color', 'screen-256color']) {
    const known = await new Promise<boolean>((resolve) => {
      execFile('infocmp', [name], { env, timeout: DEADLINE_MS }, (error) => resolve(!error));
    });
    if (known) return name;
  }
  return 'screen';
};

/** Makes the directory 0700, and refuses one that others own or may enter: who reaches the socket is the user. */
const checkDirectory = (path: string): void => {
  mkdirSync(path, { recursive: true, mode: 0o700 });
  const stat = lstatSync(path);
  if (stat.isDirectory() && stat.uid === process.getuid?.() && (stat.mode & 0o077) === 0) return;
  throw new KhloneError(
    'tmux-failed',
    `others may enter ${path}, where tmux has its socket`,
    `chmod 700 ${path}`,
  );
};

/**
 * Makes ready what the private server needs: its directory and its config file (0600), written anew each time.
 * The server's own environment is emptied by it, so that a pane gets nothing but what is given to it.
 * Throws `tmux-failed` where the directory is open to others or the socket's path too long for a socket.
 */
export const writeConfig = async (
  socketPath: string,
  configPath: string,
  env: Record<string, string>,
): Promise<void> => {
  if (Buffer.byteLength(socketPath) > MAX_SOCKET_PATH_BYTES) {
    throw new KhloneError(
      'tmux-failed',
      `${socketPath} is longer than ${MAX_SOCKET_PATH_BYTES} bytes`,
      'set KHLONE_HOME to a shorter path',
    );
  }
  checkDirectory(dirname(socketPath));
  const words = [
    ...optionsFor(await findTerminal(env)).map((option) => ['set-option', ...option]),
    ...LATER_OPTIONS.map((option) => ['set-option', '-q', ...option]),
    ...Object.keys(env).map((name) => ['set-environment', '-g', '-u', name]),
  ];
  const temporary = join(dirname(configPath), `.${basename(configPath)}.${process.pid}`);
  writeFileSync(temporary, words.map((line) => `${line.map(quoteTmux).join(' ')}\n`).join(''), {
    mode: 0o600,
  });
  chmodSync(temporary, 0o600);
  renameSync(temporary, configPath);
};
