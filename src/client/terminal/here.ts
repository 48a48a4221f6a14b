import { holdTerminal } from './hold.ts';
import { CLOSE_PICTURE, createModeMemory, OPEN_PICTURE, overLastRow } from './picture.ts';

/** The person's terminal, taken over for a while: every key comes to us, and whatever ends us, it is given back. */

export type Size = { columns: number; rows: number };

export type HereTerminal = {
  size(): Size;
  /** Every key from now on, as bytes. */
  onKeys(take: (bytes: Uint8Array) => void): void;
  onResize(tell: () => void): void;
  /** We were stopped and go on: the screen is cleared, and nothing of the picture is left. */
  onResume(tell: () => void): void;
  /** Resolves when the terminal took it. */
  draw(bytes: Uint8Array): Promise<void>;
  /** A line of ours over the last row, until something is drawn there. */
  say(text: string): void;
  /** Stops our job, as Ctrl-Z does; until it goes on the terminal is the shell's. */
  suspend(): void;
  /** As it was before: modes, screen, cursor. Harmless to repeat. */
  giveBack(): void;
};

/** Node's own raw mode lets the terminal turn LF into CR LF, which a full-screen program does not expect. */
const RAW = 'raw -echo -iexten';

export const terminalSize = (): Size => ({
  columns: Math.max(1, process.stdout.columns || 80),
  rows: Math.max(1, process.stdout.rows || 24),
});

/** Takes the terminal. Throws `usage` where standard input is none. */
export const takeTerminal = (): HereTerminal => {
  const { stdin, stdout } = process;
  const modes = createModeMemory();
  let onResize: (() => void) | undefined;
  let onResume: (() => void) | undefined;
  const { giveBack, suspend } = holdTerminal({
    ...{ fd: 0, modes: RAW, closing: CLOSE_PICTURE },
    opening: () => `${OPEN_PICTURE}${modes.again()}`,
    resumed: () => onResume?.(),
  });
  const resized = (): void => onResize?.();
  stdout.on('resize', resized);
  return {
    size: terminalSize,
    onKeys: (take) => void stdin.on('data', take),
    onResize: (tell) => {
      onResize = tell;
    },
    onResume: (tell) => {
      onResume = tell;
    },
    draw: (bytes) => {
      modes.note(bytes);
      return stdout.write(bytes)
        ? Promise.resolve()
        : new Promise((resolve) => stdout.once('drain', resolve));
    },
    say: (text) => void stdout.write(overLastRow(text, terminalSize())),
    suspend,
    giveBack: () => {
      stdin.removeAllListeners('data');
      stdin.pause();
      stdout.off('resize', resized);
      giveBack();
    },
  };
};
