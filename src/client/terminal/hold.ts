import { spawn, spawnSync } from 'node:child_process';
import { KhloneError } from '../../protocol/error.ts';

/**
 * The modes of the person's terminal while we need others. Whatever ends us, they are put back; while we are stopped
 * the terminal is the shell's, and afterwards it is ours again.
 */

export type HoldSpec = {
  /** The descriptor of the terminal. */
  fd: 0 | 1;
  /** Words for stty. */
  modes: string;
  /** What is printed when the terminal becomes ours. */
  opening(): string;
  /** What is printed before it is given back. */
  closing: string;
  /** It was stopped, and the terminal is ours again: what was drawn may be gone. */
  resumed?(): void;
};

export type Hold = {
  /** As it was before. Harmless to repeat. */
  giveBack(): void;
  /** Gives the terminal back and stops our job, as Ctrl-Z does; goes on when the shell lets it. */
  suspend(): void;
};

const STTY_DEADLINE_MS = 2_000;
/** In the background stty is stopped, and we with it; back in the foreground it may be past its time. */
const STTY_TRIES = 3;

/**
 * Waits beside us for a word that all is well; our death is the end of its input, and then it puts things right. It
 * has a session of its own, so that neither the keys nor the end of the shell reach it.
 */
const GUARD = 'read -r well || { stty "$1" <&3; printf %s "$2" >&3; }';

/** What stty says. Throws `usage` where this is no terminal. */
const stty = (fd: 0 | 1, words: string): string => {
  const { status, stdout } = spawnSync('sh', ['-c', words], {
    stdio: [fd, 'pipe', 'ignore'],
    timeout: STTY_DEADLINE_MS,
  });
  if (status === 0) return stdout.toString('latin1').trim();
  throw new KhloneError('usage', 'this terminal cannot be set up', 'stty -a shows whether it is one');
};

/** Leaves `closing` to be printed and the modes to be set if this process dies by a signal that nobody can catch. */
const startGuard = ({ fd, closing }: HoldSpec, saved: string): (() => void) => {
  const guard = spawn('sh', ['-c', GUARD, 'khlone-guard', saved, closing], {
    cwd: '/',
    detached: true,
    stdio: ['pipe', 'ignore', 'ignore', fd],
  });
  guard.on('error', () => {});
  guard.stdin?.on('error', () => {});
  guard.unref();
  // It is a socket, whatever the types say, and must not keep a program that has ended its work.
  (guard.stdin as { unref?: () => void } | null)?.unref?.();
  return () => guard.stdin?.end('well\n');
};

type Modes = {
  /** Throws `usage` where there is no terminal. */
  take(): void;
  /** Our modes once more, where they were taken already. Never throws. */
  takeAgain(): void;
  leave(): void;
};

const createModes = (spec: HoldSpec): Modes => {
  const { fd, modes, opening, closing } = spec;
  let saved = '';
  let dismiss = (): void => {};
  const print = (text: string): void => {
    if (text) process.stdout.write(text);
  };
  return {
    take: () => {
      saved = stty(fd, `stty -g && stty ${modes}`);
      dismiss = startGuard(spec, saved);
      print(opening());
    },
    takeAgain: () => {
      patiently(() => stty(fd, `stty ${modes}`));
      print(`${closing}${opening()}`);
    },
    leave: () => {
      print(closing);
      spawnSync('stty', [saved], { stdio: [fd, 'ignore', 'ignore'], timeout: STTY_DEADLINE_MS });
      dismiss();
    },
  };
};

const patiently = (work: () => unknown): void => {
  for (let n = 0; n < STTY_TRIES; n += 1) {
    try {
      work();
      return;
    } catch {
      // Tried again; a terminal that is gone ends us by other ways.
    }
  }
};

/** Takes the terminal. Throws `usage` where there is none. */
export const holdTerminal = (spec: HoldSpec): Hold => {
  const modes = createModes(spec);
  let held = true;
  /** The signal after a stop of our own is still to come: it tells nothing new. */
  let awaited = false;
  /** Only programs in the foreground are told of a new size, so it is looked for now. */
  const resumed = (): void => {
    process.emit('SIGWINCH', 'SIGWINCH');
    spec.resumed?.();
  };
  const suspend = (): void => {
    if (!held) return;
    unlisten();
    modes.leave();
    // The whole job, as the terminal's own key would: this call returns when somebody lets it go on.
    process.kill(0, 'SIGTSTP');
    patiently(modes.take);
    listen();
    awaited = true;
    // Whoever else listens to it has kept the signal that let us go on; it is read in the turn after this one.
    setImmediate(() =>
      setImmediate(() => {
        awaited = false;
      }),
    );
    resumed();
  };
  /** After a stop that nobody could catch: the shell has used the terminal, and what we remember of it still holds. */
  const again = (): void => {
    if (awaited) return;
    modes.takeAgain();
    resumed();
  };
  const giveBack = (): void => {
    if (!held) return;
    held = false;
    unlisten();
    modes.leave();
  };
  const listen = (): void => {
    process.on('SIGTSTP', suspend);
    process.on('SIGCONT', again);
    process.on('exit', giveBack);
  };
  const unlisten = (): void => {
    process.off('SIGTSTP', suspend);
    process.off('SIGCONT', again);
    process.off('exit', giveBack);
  };
  modes.take();
  listen();
  return { giveBack, suspend };
};
