import { execFile } from 'node:child_process';
import { KhloneError } from '../../protocol/error.ts';

/** What this host knows of terminals: their names, and how to make one. */

const DEADLINE_MS = 5_000;
const NAME = /^[A-Za-z0-9][\w.+-]{0,63}$/;
/** Close to what terminals are today first; the last ones are known wherever anything is. */
const KNOWN_ANYWHERE = ['xterm-256color', 'tmux-256color', 'screen-256color', 'xterm', 'screen', 'vt100'];
/** Names that terminfo has, but that tmux cannot draw on. */
const UNFIT = new Set(['dumb', 'unknown']);

type Environment = Readonly<Record<string, string>>;

const says = (argv: readonly [string, ...string[]], env: Environment): Promise<string | undefined> =>
  new Promise((resolve) => {
    const [program, ...words] = argv;
    execFile(program, words, { env, timeout: DEADLINE_MS }, (error, stdout) =>
      resolve(error ? undefined : stdout),
    );
  });

/**
 * Answers the TERM that a client of tmux gets here: the person's where this host can describe it, else the nearest one
 * it can. What was found is remembered: a terminal's description is seldom installed while a server runs.
 */
export const createTermFinder = (env: Environment): ((term: string) => Promise<string>) => {
  const known = new Map<string, Promise<boolean>>();
  const isKnown = (name: string): Promise<boolean> => {
    const asked = known.get(name) ?? says(['infocmp', name], env).then((text) => text !== undefined);
    // Names come from outside: more than a few different ones are asked for anew each time.
    if (known.size < 100) known.set(name, asked);
    return asked;
  };
  return async (term) => {
    const near = /^(tmux|screen)/.test(term) ? KNOWN_ANYWHERE.slice(1) : KNOWN_ANYWHERE;
    const wished = NAME.test(term) && !UNFIT.has(term) ? [term] : [];
    for (const name of [...wished, ...near]) if (await isKnown(name)) return name;
    return 'screen';
  };
};

/**
 * Throws `no-pty` where there is no script(1) of util-linux: the others have no way to run a program without a
 * terminal of their own.
 */
export const createPtyCheck = (env: Environment): (() => Promise<void>) => {
  let found = false;
  return async () => {
    found ||= (await says(['script', '--version'], env))?.includes('util-linux') ?? false;
    if (found) return;
    throw new KhloneError(
      'no-pty',
      'this host has no script(1) of util-linux to make a terminal with',
      'install it, for example: sudo apt-get install util-linux bsdutils',
    );
  };
};
