import { homedir } from 'node:os';
import { join } from 'node:path';
import { fileMark } from './file-mark.ts';
import { git } from './git.ts';
import type { Repository } from './shadow.ts';

/** Where git's settings for a worktree come from, so that nobody asks a git again what cannot have changed. */

export type SettingsPlace = Pick<Repository, 'worktree' | 'gitDir' | 'commonDir'> & { deadlineMs: number };

const MAX_ANSWER_BYTES = 64 * 1024;

/** Where gits of different makes have the machine's own files. */
export const SYSTEM_FOLDERS =
  process.platform === 'darwin'
    ? ['/etc', '/usr/local/etc', '/opt/homebrew/etc', '/opt/local/etc']
    : ['/etc', '/usr/local/etc'];

/** Where a person's own git files are that have no name in a setting. */
export const personalFolder = (): string =>
  join(process.env.XDG_CONFIG_HOME || join(homedir(), '.config'), 'git');

/** What they include is looked at when one of them changes. */
const settingFiles = ({ gitDir, commonDir }: SettingsPlace): string[] => [
  join(gitDir, 'config.worktree'),
  join(commonDir, 'config'),
  join(homedir(), '.gitconfig'),
  join(personalFolder(), 'config'),
  ...SYSTEM_FOLDERS.map((folder) => join(folder, 'gitconfig')),
];

/** The same as long as no file with settings was written. */
export const settingsMark = async (place: SettingsPlace): Promise<string> =>
  (await Promise.all(settingFiles(place).map(fileMark))).join(';');

/** The path that a setting has, '' where git cannot tell it; undefined where it is not set. */
export const settingPath = async (
  { worktree: cwd, deadlineMs }: SettingsPlace,
  name: string,
): Promise<string | undefined> => {
  const options = { cwd, deadlineMs, maxBytes: MAX_ANSWER_BYTES };
  const { code, stdout } = await git(['config', '--get', '--path', name], options);
  if (code === 1) return undefined;
  return code === 0 ? stdout.toString('utf8').replace(/\n$/u, '') : '';
};
