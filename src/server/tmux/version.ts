import { execFile } from 'node:child_process';
import { KhloneError } from '../../protocol/error.ts';

/** Client flags, `-e` and subscriptions came with 3.2. */
const OLDEST = { major: 3, minor: 2 };
const DEADLINE_MS = 5_000;

export type TmuxVersion = { major: number; minor: number; text: string };

/** `tmux 3.3a`, `tmux next-3.8`; anything else (`tmux master`, an operating system's number) is undefined. */
export const parseTmuxVersion = (says: string): TmuxVersion | undefined => {
  const found = /^tmux (?:next-)?(\d{1,4})\.(\d{1,4})[a-z]?(?:-rc\d*)?\s*$/.exec(says);
  if (!found) return undefined;
  return { major: Number(found[1]), minor: Number(found[2]), text: says.trim().slice('tmux '.length) };
};

const isNewEnough = ({ major, minor }: TmuxVersion): boolean =>
  major > OLDEST.major || (major === OLDEST.major && minor >= OLDEST.minor);

const ask = (env: Record<string, string>): Promise<string> =>
  new Promise((resolve, reject) => {
    execFile('tmux', ['-V'], { env, timeout: DEADLINE_MS }, (error, stdout) => {
      if (!error) return resolve(stdout);
      const missing = error.code === 'ENOENT';
      reject(
        new KhloneError(
          'tmux-failed',
          missing ? 'tmux is not installed' : `tmux -V failed: ${error.message}`,
          missing ? 'install tmux 3.2 or newer, for example: sudo apt-get install tmux' : 'khlone doctor',
        ),
      );
    });
  });

/** The tmux on the PATH of `env`. Throws `tmux-failed` where there is none, or one older than 3.2. */
export const tmuxVersion = async (env: Record<string, string>): Promise<TmuxVersion> => {
  const says = await ask(env);
  const version = parseTmuxVersion(says);
  if (version && isNewEnough(version)) return version;
  throw new KhloneError(
    'tmux-failed',
    version ? `tmux ${version.text} is too old` : `tmux -V says ${JSON.stringify(says.slice(0, 80))}`,
    'install tmux 3.2 or newer, for example: sudo apt-get install tmux',
  );
};
