import { realpathSync } from 'node:fs';
import { homedir, tmpdir } from 'node:os';
import { dirname, isAbsolute, join } from 'node:path';
import { git } from '../patch/git.ts';
import { socketPathIn } from '../protocol/resident.ts';
import type { Environment } from './prepare.ts';

/** Where things lie on the server's machine: a zone's worktree, its git directories, and what a view hides. */

const GIT_DEADLINE_MS = 10_000;

/** `~/…` of the person's configuration is the home of this machine's user. */
export const expandHome = (path: string): string =>
  path === '~' || path.startsWith('~/') ? join(homedir(), path.slice(2)) : path;

/** The git directory and the common one (a linked worktree's lies elsewhere); none outside a repository. */
export const gitDirsOf = async (worktree: string): Promise<string[]> => {
  const answer = await git(['rev-parse', '--path-format=absolute', '--git-dir', '--git-common-dir'], {
    cwd: worktree,
    deadlineMs: GIT_DEADLINE_MS,
    maxBytes: 64 * 1024,
  });
  if (answer.code !== 0) return [];
  return [...new Set(answer.stdout.toString('utf8').split('\n').filter(Boolean))];
};

/**
 * What would be a way out of a view. Khlone's and tmux's own sockets are hidden always; an ask is also kept from the
 * session's services and agents, which an act keeps, because its tools need them.
 */
export const hiddenPaths = (mode: 'ask' | 'act', home: string, environment: Environment): string[] => {
  const uid = process.getuid?.() ?? 0;
  const ours = [
    home,
    join(homedir(), '.khlone'),
    dirname(socketPathIn(home, 'server')),
    join(tmpdir(), `tmux-${uid}`),
    `/tmp/tmux-${uid}`,
    ...(environment.TMUX_TMPDIR ? [join(environment.TMUX_TMPDIR, `tmux-${uid}`)] : []),
  ];
  if (mode === 'act') return ours;
  const agent = environment.SSH_AUTH_SOCK;
  const shared = agent === undefined || ['/tmp', tmpdir()].includes(dirname(agent));
  return [
    ...ours,
    `/run/user/${uid}`,
    ...(environment.XDG_RUNTIME_DIR ? [environment.XDG_RUNTIME_DIR] : []),
    ...(agent ? [shared ? agent : dirname(agent)] : []),
  ];
};

/**
 * What of a program has to be readable wherever it lies: its own name, the file behind it, and all packages beside it
 * where it came by a package manager of Node.
 */
export const programPlaces = (program: string): string[] => {
  if (!isAbsolute(program)) return [];
  try {
    const file = realpathSync(program);
    const packages = file.indexOf('/node_modules/');
    return [program, packages < 0 ? file : file.slice(0, packages + '/node_modules'.length)];
  } catch {
    return [];
  }
};
