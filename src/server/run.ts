import { createHash, randomUUID } from 'node:crypto';
import { existsSync, mkdirSync } from 'node:fs';
import { homedir } from 'node:os';
import { dirname, join } from 'node:path';
import { isDeepStrictEqual } from 'node:util';
import type { Brain } from '../brains/brain.ts';
import type { View } from '../brains/view.ts';
import type { Policy } from '../protocol/calls.ts';
import { KhloneError } from '../protocol/error.ts';
import { faultPoint } from '../protocol/fault-point.ts';
import {
  endInput,
  forbidStart,
  MARK,
  makeRunDir,
  processesOf,
  RUNNER,
  signalRun,
  tailOf,
  termsIn,
  type Verdict,
  verdictOf,
  writeInput,
} from './run-dir.ts';
import { knownGitDirs } from './store/git-dirs.ts';
import { brainSession, endRunRow, inputsOf, makeRun, type RunRow } from './store/runs.ts';
import type { Store } from './store/store.ts';
import type { CloneRow, ZoneRow } from './store/zones.ts';
import type { Holder } from './tmux/panes.ts';
import { gitDirsOf, hiddenPaths, programPlaces } from './zone-paths.ts';

/** A run as a living thing: started in the clone's tmux window, ended gracefully first, and never without proof. */

/** Where a run is and how its processes are found. */
export type RunPlace = { row: RunRow; dir: string; mark: string };
/** `environment` is what it was started with; not known of a run that an earlier server started. */
export type LiveRun = RunPlace & { brain: Brain; environment?: Readonly<Record<string, string>> };

export type RunDeps = {
  store: Store;
  zonesDir: string;
  /** KHLONE_HOME: hidden from what runs in a view. */
  home: string;
  holder: Holder;
  boot: string;
  /** Files that a view must leave readable although they lie in a hidden place: our own bundle, Node. */
  readable: readonly string[];
};

/** The runner shows itself by its meta.json; a machine that needs longer than this to start a shell is in trouble. */
const START_DEADLINE_MS = 15_000;
/** tmux said that it began the runner: where no process of it is to be seen for this long, it died before it showed itself. */
const NO_RUNNER_MS = 3_000;
/** How long a brain may take to end by itself after the end of its input, then after TERM. */
const END_GRACE_MS = 10_000;
const TERM_GRACE_MS = 5_000;
const LOOK_MS = 15;

export const runDirOf = (zonesDir: string, clone: CloneRow, n: number): string =>
  join(zonesDir, clone.zone, 'runs', `${clone.role}.${clone.idx}.${n}`);

/** Unique among all homes of a machine, so that two servers never touch each other's processes. */
const markOf = (store: Store, clone: CloneRow, n: number): string =>
  `${store.uuid.slice(0, 13)}/${clone.zone}/${clone.role}.${clone.idx}.${n}`;

/** What its window in tmux is known by. */
export const paneOf = ({ zone, role, idx }: Pick<CloneRow, 'zone' | 'role' | 'idx'>): string =>
  `${zone}/${role}.${idx}`;

export const placeOf = (deps: RunDeps, clone: CloneRow, row: RunRow): RunPlace => ({
  row,
  dir: runDirOf(deps.zonesDir, clone, row.n),
  mark: markOf(deps.store, clone, row.n),
});

export const liveRunOf = (deps: RunDeps, clone: CloneRow, row: RunRow, brain: Brain): LiveRun => ({
  ...placeOf(deps, clone, row),
  brain,
});

/**
 * What can be proved of a run. The boot comes first: a power cut may have lost any of its files, so they prove nothing.
 * A runner that was killed before it showed itself is known by its beginning and by the absence of any process of it.
 */
export const judge = (deps: RunDeps, run: RunPlace): Verdict => {
  if (run.row.boot !== '' && run.row.boot !== deps.boot) return { type: 'ended', how: 'reboot' };
  const verdict = verdictOf(run.dir, deps.boot);
  if (verdict.type !== 'starting' || !existsSync(join(run.dir, 'started'))) return verdict;
  if (processesOf(run.mark).length > 0) return verdict;
  // It may have shown itself and ended between the two looks.
  const again = verdictOf(run.dir, deps.boot);
  return again.type === 'starting' ? { type: 'ended', how: 'killed' } : again;
};

/** Waits until `look` answers, looking often: the events of a directory made a moment ago may come before the watcher. */
const until = async (look: () => boolean, deadlineMs: number): Promise<boolean> => {
  const end = performance.now() + deadlineMs;
  while (!look()) {
    if (performance.now() > end) return false;
    await new Promise((resolve) => setTimeout(resolve, LOOK_MS));
  }
  return true;
};

/** Waits until the runner shows itself. False where it does not, or died before it could: a death costs no long wait. */
const showsItself = async (deps: RunDeps, run: RunPlace): Promise<boolean> => {
  const isShown = (): boolean => judge(deps, run).type !== 'starting';
  const end = performance.now() + START_DEADLINE_MS;
  while (performance.now() < end) {
    if (await until(isShown, NO_RUNNER_MS)) return true;
    if (processesOf(run.mark).length === 0) return isShown();
  }
  return false;
};

export type RunWish = {
  zone: ZoneRow;
  clone: CloneRow;
  brain: Brain;
  model: string | undefined;
  mode: 'ask' | 'act';
  session: string;
  environment: Readonly<Record<string, string>>;
  policy: Policy;
  view: View | undefined;
};

/** What package managers downloaded, below the home: nothing that is on a PATH or steers another program. */
const CACHES = ['.cache', '.npm', '.cargo/registry', '.cargo/git', '.local/share/pnpm/store', 'go/pkg'];

/** The folders that an act may fill. Where the package manager is used at all they are made: it cannot do so itself. */
export const cachesOf = (home: string): string[] =>
  CACHES.map((name) => {
    const path = join(home, name);
    if (name.includes('/') && existsSync(dirname(path)) && !existsSync(path)) {
      mkdirSync(path, { mode: 0o755 });
    }
    return path;
  });

const wrapped = async (deps: RunDeps, wish: RunWish, dir: string, argv: string[]): Promise<string[]> => {
  if (!wish.view) return argv;
  const ask = wish.mode === 'ask';
  const state = ask ? wish.brain.statePaths(wish.environment) : wish.brain.actPaths(wish.environment);
  for (const path of state) if (ask || path.endsWith('/')) mkdirSync(path, { recursive: true, mode: 0o700 });
  const statePaths = state.filter((path) => existsSync(path));
  const home = wish.environment.HOME ?? homedir();
  return wish.view.wrap(argv, {
    mode: wish.mode,
    worktree: wish.zone.path,
    gitDirs: await knownGitDirs(deps.store, wish.zone, gitDirsOf),
    statePaths,
    cachePaths: ask ? [] : cachesOf(home),
    tmpDir: join(dir, 'tmp'),
    hide: hiddenPaths(wish.mode, deps.home, wish.environment),
    runDir: dir,
    readable: [...deps.readable, ...programPlaces(argv[0] ?? '')],
  }).argv;
};

/** What a process is given once: trust in the repository's own hooks (an ask has none), its role, its model, its view. */
const termsOf = ({ mode, policy, clone, model, view }: RunWish): string => {
  const terms = [mode === 'act' && policy.trusted, policy.roles[clone.role], model, view?.kind];
  return createHash('sha256').update(JSON.stringify(terms)).digest('hex');
};

/** Whether a run can take another turn as it is wished: one that was started on other terms cannot, and one that is deaf. */
export const suits = (deps: RunDeps, run: LiveRun, wish: RunWish): boolean =>
  run.row.mode === wish.mode &&
  run.row.session === wish.session &&
  (run.environment === undefined || isDeepStrictEqual(run.environment, wish.environment)) &&
  termsIn(run.dir) === termsOf(wish) &&
  judge(deps, run).type === 'alive' &&
  isFed(run);

/** The brain's command line, behind the runner that keeps the run's files, with the environment of the clone. */
const launch = async (deps: RunDeps, wish: RunWish, run: LiveRun): Promise<void> => {
  const { clone, brain } = wish;
  const name = `${clone.role}.${clone.idx}`;
  const resumed = brainSession(deps.store, wish.session, clone.id);
  const spawn = brain.start({
    mode: wish.mode,
    cwd: wish.zone.path,
    env: wish.environment,
    ...(resumed && { sessionId: resumed }),
    newSessionId: randomUUID(),
    ...(wish.model && { model: wish.model }),
    ...(wish.policy.roles[clone.role] && { roleText: wish.policy.roles[clone.role] }),
    trusted: wish.policy.trusted,
    tmpDir: join(run.dir, 'tmp'),
    isRoot: process.getuid?.() === 0,
  });
  const spec = { argv: spawn.argv, cwd: wish.zone.path, mode: wish.mode, session: wish.session };
  makeRunDir(run.dir, { ...spec, terms: termsOf(wish) });
  const argv = await wrapped(deps, wish, run.dir, spawn.argv);
  const env = {
    ...wish.environment,
    ...spawn.env,
    TMPDIR: join(run.dir, 'tmp'),
    PWD: wish.zone.path,
    [MARK]: run.mark,
    KHLONE_CLONE: name,
    KHLONE_ZONE: wish.zone.address,
  };
  const shell = ['/bin/sh', '-c', RUNNER, 'runner', run.dir, wish.zone.path, ...argv];
  faultPoint('run-made');
  await deps.holder.start({ clone: paneOf(clone), argv: shell, env, cwd: '/' });
  faultPoint('run-begun');
};

/**
 * Starts a run for one mode and session. Its number and directory are committed before anything is started. Where it
 * cannot be started, it is ended with the same proof as any run: tmux may have begun it before it failed.
 */
export const startRun = async (deps: RunDeps, wish: RunWish): Promise<LiveRun> => {
  const { clone, mode, session } = wish;
  const row = await deps.store.write(() =>
    makeRun(deps.store, clone.id, { mode, session, boot: deps.boot }, Date.now()),
  );
  faultPoint('run-noted');
  const run = { ...liveRunOf(deps, clone, row, wish.brain), environment: wish.environment };
  try {
    await launch(deps, wish, run);
    if (!(await showsItself(deps, run)))
      throw new KhloneError('tmux-failed', 'tmux did not start the clone in time', 'khlone doctor');
  } catch (thrown) {
    await endRun(deps, run, 'now');
    throw thrown;
  }
  faultPoint('run-shown');
  return run;
};

/** Whether what is written to its input still reaches the brain: one whose feeding tail died hears no next turn. */
export const isFed = (run: RunPlace): boolean => tailOf(run.dir, run.mark) !== undefined;

/** Writes again whatever was committed as input: after a crash in between the file is whole, else nothing changes. */
export const repairInput = (deps: RunDeps, run: LiveRun): void => {
  for (const input of inputsOf(deps.store, run.row)) writeInput(run.dir, input.off, input.bytes);
};

/** Ends a run and proves it: the end of its input, then TERM, then KILL, then whatever still carries its mark. */
export const endRun = async (deps: RunDeps, run: RunPlace, how: 'gracefully' | 'now'): Promise<void> => {
  const ended = (): boolean => judge(deps, run).type !== 'alive';
  const gone = (): boolean => ended() && processesOf(run.mark).length === 0;
  if (!forbidStart(run.dir)) {
    if (how === 'gracefully') {
      // Said until it is heard: a runner that has only just begun has no feeding tail yet.
      const endedByInput = (): boolean => {
        endInput(run.dir, run.mark);
        return ended();
      };
      await until(endedByInput, END_GRACE_MS);
    }
    signalRun(run.mark, 'SIGTERM');
    // Again at each look: one of them may have started another between the look and the blow.
    const killed = (): boolean => gone() || (signalRun(run.mark, 'SIGKILL') === 0 && gone());
    // Without the proof the run is not over: a second brain beside it could act twice.
    if (!(await until(gone, TERM_GRACE_MS)) && !(await until(killed, TERM_GRACE_MS))) {
      throw new KhloneError(
        'conflict',
        'processes of the last run do not end',
        `ps -p ${processesOf(run.mark).join(',')}`,
      );
    }
  }
  faultPoint('run-ended');
  await deps.store.write(() => endRunRow(deps.store, run.row, Date.now()));
};
