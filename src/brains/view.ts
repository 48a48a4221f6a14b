import type { Env } from './brain.ts';
import { bwrapViews } from './view-bwrap.ts';
import { probeView } from './view-probe.ts';
import { unshareViews } from './view-unshare.ts';

/**
 * What of the machine a run gets from the kernel. An ask may write nothing but its brain's state and its own temporary
 * folder, and reaches no service of this machine by a socket that has a path. An act may write its worktree besides.
 * The network stays, and so do abstract unix sockets, which belong to it: the brain's own allow-list covers those.
 */

export type ViewMode = 'ask' | 'act';

/** All paths are absolute. Symlinks are followed before anything is mounted; absent paths are left out. */
export type ViewSpec = {
  mode: ViewMode;
  worktree: string;
  /** The git directory and the common one, as git itself says them outside the view. */
  gitDirs: string[];
  /** What of the brain's state may be written; the caller has created them. */
  statePaths: string[];
  /** Written by an act only. */
  cachePaths: string[];
  /** Exists, 0700. It is TMPDIR, /tmp and /var/tmp of the run. */
  tmpDir: string;
  /** Folders, files and sockets that are not there for the run. */
  hide: string[];
  /** The clone's own restricted socket: reachable in both modes, wherever it lies. Give its folder if it may be made anew. */
  door?: string;
  /** Hidden too. The run's stdin, stdout and stderr are open before the view begins. */
  runDir: string;
  /** Files and folders that stay readable under a hidden one. */
  readable?: string[];
};

/**
 * `wrap` gives the whole command, to be started in any folder: the run begins in the worktree. The wrapped command ends
 * with the exit code of the inner one (128 + n after a signal), and with it or its parent everything inside ends.
 * SIGTERM or SIGINT must go to the processes inside (`isInside` of view-inside.ts), not to the wrapper, which would end them hard.
 * Hand no descriptor but 0, 1 and 2 to it: an open folder would be a way out.
 */
export type View = { kind: 'bwrap' | 'unshare'; wrap(argv: string[], spec: ViewSpec): { argv: string[] } };

export type FindOptions = {
  env: Env;
  /** The mode that is needed; without it the view has to hold in both. */
  mode?: ViewMode;
  /** Where the probe may make its playground; removed afterwards. */
  tempDir: string;
};

/**
 * The first view of this machine that holds, tried by really running escapes in it; `undefined` where none does.
 * `why` says in one line what was found or what failed. Takes up to a second, so the caller keeps the answer.
 */
export const findView = async (options: FindOptions): Promise<{ view: View | undefined; why: string }> => {
  const modes: ViewMode[] = options.mode ? [options.mode] : ['ask', 'act'];
  const failures: string[] = [];
  for (const candidate of [...bwrapViews(options.env), ...unshareViews(options.env)]) {
    const failure = await firstFailure(candidate.view, modes, options.tempDir);
    if (!failure) return { view: candidate.view, why: `${candidate.name} holds` };
    failures.push(`${candidate.name}: ${failure}`);
  }
  return {
    view: undefined,
    why: failures.join('; ') || 'neither bwrap nor unshare with setpriv is installed',
  };
};

const firstFailure = async (view: View, modes: ViewMode[], tempDir: string): Promise<string | undefined> => {
  for (const mode of modes) {
    const failure = await probeView(view, mode, tempDir);
    if (failure) return `${mode}: ${failure}`;
  }
  return undefined;
};
