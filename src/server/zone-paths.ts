import { homedir, tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { git } from '../patch/git.ts';

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

/** Sockets and state that would be a way out of a view: khlone's, tmux's, the session's, containers' and agents'. */
export const hiddenPaths = (home: string, environment: Readonly<Record<string, string>>): string[] => {
  const uid = process.getuid?.() ?? 0;
  const agent = environment.SSH_AUTH_SOCK;
  return [
    home,
    join(homedir(), '.khlone'),
    `/run/user/${uid}`,
    join(tmpdir(), `tmux-${uid}`),
    ...(environment.TMUX_TMPDIR ? [join(environment.TMUX_TMPDIR, `tmux-${uid}`)] : []),
    ...(environment.XDG_RUNTIME_DIR ? [environment.XDG_RUNTIME_DIR] : []),
    ...(agent ? [dirname(agent) === tmpdir() ? agent : dirname(agent)] : []),
  ];
};
