import { spawn, spawnSync } from 'node:child_process';
import { KhloneError } from '../../protocol/error.ts';
import { CLOSE_PICTURE, OPEN_PICTURE, overLastRow } from './picture.ts';

/** The person's terminal, taken over for a while: every key comes to us, and whatever ends us, it is given back. */

export type Size = { columns: number; rows: number };

export type HereTerminal = {
  size(): Size;
  /** Every key from now on, as bytes. */
  onKeys(take: (bytes: Uint8Array) => void): void;
  onResize(tell: () => void): void;
  /** Resolves when the terminal took it. */
  draw(bytes: Uint8Array): Promise<void>;
  /** A line of ours over the last row, until something is drawn there. */
  say(text: string): void;
  /** As it was before: modes, screen, cursor. Harmless to repeat. */
  giveBack(): void;
};

const STTY_DEADLINE_MS = 2_000;

/** Node's own raw mode lets the terminal turn LF into CR LF, which a full-screen program does not expect. */
const RAW = 'stty -g && stty raw -echo -iexten';

/**
 * Waits beside us for a word that all is well; our death is the end of its input, and then it puts things right. It
 * has a session of its own, so that neither the keys nor the end of the shell reach it.
 */
const GUARD = 'read -r well || { stty "$1" <&3; printf %s "$2"; }';

const withStty = (words: string[]): string => {
  const { status, stdout } = spawnSync('sh', ['-c', words.join(' ')], {
    stdio: ['inherit', 'pipe', 'ignore'],
    timeout: STTY_DEADLINE_MS,
  });
  if (status === 0) return stdout.toString('latin1').trim();
  throw new KhloneError('usage', 'this terminal cannot be set up', 'stty -a shows whether it is one');
};

export const terminalSize = (): Size => ({
  columns: Math.max(1, process.stdout.columns || 80),
  rows: Math.max(1, process.stdout.rows || 24),
});

/** Leaves `closing` to be printed and the modes to be set if this process dies by a signal that nobody can catch. */
const startGuard = (saved: string, closing: string): (() => void) => {
  const guard = spawn('sh', ['-c', GUARD, 'khlone-guard', saved, closing], {
    cwd: '/',
    detached: true,
    stdio: ['pipe', 'inherit', 'ignore', 0],
  });
  guard.on('error', () => {});
  guard.stdin?.on('error', () => {});
  guard.unref();
  return () => guard.stdin?.end('well\n');
};

/** Remembers the modes; the answer puts them back, once, also when the process ends on its own or by a fault. */
const hold = (saved: string, closing: string): (() => void) => {
  const dismiss = startGuard(saved, closing);
  let held = true;
  const giveBack = (): void => {
    if (!held) return;
    held = false;
    process.off('exit', giveBack);
    process.stdout.write(closing);
    spawnSync('stty', [saved], { stdio: ['inherit', 'ignore', 'ignore'], timeout: STTY_DEADLINE_MS });
    dismiss();
  };
  process.on('exit', giveBack);
  return giveBack;
};

/** For a program that has the terminal itself and sets its modes: after it they are as they were. */
export const lendTerminal = (): (() => void) => {
  const giveBack = hold(withStty(['stty -g']), CLOSE_PICTURE);
  process.stdout.write(OPEN_PICTURE);
  return giveBack;
};

/** Takes the terminal. Throws `usage` where standard input is none. */
export const takeTerminal = (): HereTerminal => {
  const giveBack = hold(withStty([RAW]), CLOSE_PICTURE);
  const { stdin, stdout } = process;
  let onResize: (() => void) | undefined;
  const resized = (): void => onResize?.();
  stdout.write(OPEN_PICTURE);
  stdout.on('resize', resized);
  return {
    size: terminalSize,
    onKeys: (take) => void stdin.on('data', take),
    onResize: (tell) => {
      onResize = tell;
    },
    draw: (bytes) =>
      stdout.write(bytes) ? Promise.resolve() : new Promise((resolve) => stdout.once('drain', resolve)),
    say: (text) => void stdout.write(overLastRow(text, terminalSize())),
    giveBack: () => {
      stdin.removeAllListeners('data');
      stdin.pause();
      stdout.off('resize', resized);
      giveBack();
    },
  };
};
