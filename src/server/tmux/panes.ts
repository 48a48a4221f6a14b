import { setTimeout as delay } from 'node:timers/promises';
import { KhloneError } from '../../protocol/error.ts';
import { createTurns } from '../../protocol/turns.ts';
import { writeConfig } from './config.ts';
import { type Control, openControl } from './control.ts';
import { endOrphans, killServer } from './ending.ts';
import { literalFormat } from './quote.ts';
import { tmuxVersion } from './version.ts';

/** Waits before each new try to reach tmux: so many tries, then the caller is told. */
const RETRY_DELAYS_MS = [0, 50, 250];
const MAX_CLONE_BYTES = 200;
/** A line of list-panes starts with a constant, so that none can look like a line of the protocol. */
const ROW_FORMAT = 'k #{pane_id} #{pane_pid} #{pane_dead} #{pane_dead_status} #{@khlone_clone}';
const ROW = /^k (%\d+) (\d+) ([01]) (\d*) (.+)$/;
/** What tmux adds to every pane. TMUX would lead a clone's own `tmux kill-server` to the server that holds it. */
const ADDED_BY_TMUX = ['TMUX', 'TMUX_PANE', 'TERM_PROGRAM', 'TERM_PROGRAM_VERSION', 'SHELL'];

export type PaneRow = {
  clone: string;
  pane: string;
  /** The process that was started, or that has ended where `dead`. */
  pid: number;
  dead: boolean;
  /** A hint: tmux sometimes never learns it. The run's own exit file is the truth. */
  exitStatus?: number;
};

/** A program for a pane: no shell reads `argv`, and `env` is all it sees beside TERM and PWD. */
export type PaneProgram = { argv: string[]; env: Record<string, string>; cwd: string };
export type PaneSpec = PaneProgram & { clone: string };

/** Panes of clones: one window per clone, labelled with its id before anything runs in it. */
export type Holder = {
  /**
   * Runs `argv` (no shell reads it) in the clone's pane. The process sees `env`, TERM and PWD, and nothing else.
   * What ran in the pane before loses its terminal; where it ignores HUP, as a runner does, it goes on, and ending
   * it is the caller's. Throws `tmux-failed`; if tmux died in its middle, only the process itself can tell if it
   * started.
   */
  start(spec: PaneSpec): Promise<{ pane: string }>;
  list(): Promise<PaneRow[]>;
  /**
   * Work on the same connection that is not about clones' panes, in turn with everything else here. It is done anew
   * when tmux dies in its middle, so it must be harmless to repeat. Throws what `work` throws, and `tmux-failed`.
   */
  ask<T>(work: (control: Control) => Promise<T>): Promise<T>;
  /** Takes the clone's window away; what ignores HUP goes on. Nothing happens where there is none. */
  end(clone: string): Promise<void>;
  /** Leaves tmux and its panes running. */
  close(): Promise<void>;
  /** Ends tmux with all panes, where it runs. What ignores HUP goes on. */
  shutDown(): Promise<void>;
};

const parseRow = (line: string): PaneRow[] => {
  const [, pane = '', pid, dead, status, clone = ''] = ROW.exec(line) ?? [];
  if (pane === '') return [];
  return [
    { clone, pane, pid: Number(pid), dead: dead === '1', ...(status ? { exitStatus: Number(status) } : {}) },
  ];
};

const listPanes = async (control: Control): Promise<PaneRow[]> =>
  (await control.command(['list-panes', '-s', '-t', '=khlone', '-F', ROW_FORMAT])).flatMap(parseRow);

/** The pane of a clone; a new window where it has none, whose command has ended when the label is on it. */
const findsertPane = async (control: Control, clone: string): Promise<string> => {
  const found = (await listPanes(control)).find((row) => row.clone === clone);
  if (found) return found.pane;
  const place = ['-d', '-P', '-F', 'k #{pane_id}', '-t', '=khlone:', '-n', literalFormat(clone)];
  const [line = ''] = await control.command(['new-window', ...place, '--', '/bin/sh', '-c', ':']);
  const pane = line.slice('k '.length);
  await control.command(['set-option', '-p', '-t', pane, '@khlone_clone', clone]);
  return pane;
};

/**
 * env(1) takes away what tmux adds and gives SHELL, which tmux always sets, its value back. It is also why a program
 * without arguments is not read as a line of shell, as tmux reads a single word.
 */
const launchWords = ({ argv, env }: PaneProgram): string[] => {
  const removed = ADDED_BY_TMUX.filter((name) => env[name] === undefined).flatMap((name) => ['-u', name]);
  return ['/usr/bin/env', ...removed, ...(env.SHELL === undefined ? [] : [`SHELL=${env.SHELL}`]), ...argv];
};

/** Runs a program in a pane instead of what was there. tmux forgets the environment as soon as it has started it. */
export const respawn = (control: Control, pane: string, spec: PaneProgram): Promise<string[]> => {
  const values = Object.entries(spec.env).flatMap(([name, value]) => ['-e', `${name}=${value}`]);
  const where = ['-k', '-t', pane, '-c', literalFormat(spec.cwd)];
  return control.command(['respawn-pane', ...where, ...values, '--', ...launchWords(spec)]);
};

const checkSpec = ({ clone, argv, env, cwd }: PaneSpec): void => {
  const wrong =
    /^$|[\x00-\x1f\x7f]/.test(clone) || Buffer.byteLength(clone) > MAX_CLONE_BYTES
      ? 'the id of a clone'
      : /^$|^-|=/.test(argv[0] ?? '')
        ? 'the program of a run'
        : Object.keys(env).some((name) => /^$|=/.test(name))
          ? 'the name of a variable'
          : !cwd.startsWith('/')
            ? 'the directory of a run'
            : undefined;
  if (wrong) throw new KhloneError('invalid-params', `${wrong} is not one that tmux can hold`);
};

/**
 * The clones' panes on the private tmux server at `socketPath` (its directory is made, 0700). tmux is started by
 * the first call that needs it, and again when it is gone. `path` is where tmux and infocmp are looked for.
 */
export const createHolder = (where: { socketPath: string; configPath: string; path: string }): Holder => {
  const env = { PATH: where.path };
  let control: Control | undefined;
  let closed = false;

  /** What no second try would change: the tmux installed here, and the place of its files. */
  const prepare = async (): Promise<void> => {
    await tmuxVersion(env);
    await writeConfig(where.socketPath, where.configPath, env);
  };

  const connect = async (): Promise<Control> => {
    if (control) return control;
    const opened = await openControl({ ...where, env });
    control = opened;
    opened.onGone(() => {
      if (control === opened) control = undefined;
    });
    await endOrphans(opened);
    return opened;
  };

  /** Tries `work`, which must be harmless to repeat, anew on a fresh connection when tmux is gone. */
  const reach = async <T>(work: (control: Control) => Promise<T>): Promise<T> => {
    if (closed) throw new KhloneError('shutting-down', 'the panes are closed');
    if (!control) await prepare();
    let last: unknown;
    for (const delayMs of RETRY_DELAYS_MS) {
      if (delayMs > 0) await delay(delayMs);
      try {
        return await work(await connect());
      } catch (error) {
        last = error;
        if (control) throw error;
      }
    }
    throw last;
  };

  const turns = createTurns();
  /** One call at a time: two starts for one clone must see each other's window. */
  const inTurn = <T>(work: () => Promise<T>): Promise<T> => turns('', work);

  /** The last call. */
  const leave = (how: (live: Control | undefined) => Promise<unknown>): Promise<void> =>
    inTurn(async () => {
      closed = true;
      await how(control);
      control = undefined;
    });
  return {
    start: (spec) =>
      inTurn(async () => {
        checkSpec(spec);
        const found = await reach(async (live) => ({ live, pane: await findsertPane(live, spec.clone) }));
        await respawn(found.live, found.pane, spec);
        return { pane: found.pane };
      }),
    list: () => inTurn(() => reach(listPanes)),
    ask: (work) => inTurn(() => reach(work)),
    end: (clone) =>
      inTurn(() =>
        reach(async (live) => {
          const rows = (await listPanes(live)).filter((row) => row.clone === clone);
          for (const { pane } of rows) await live.command(['kill-pane', '-t', pane]);
        }),
      ),
    close: () => leave(async (live) => live?.close()),
    // An earlier server's tmux may live on without a connection of ours.
    shutDown: () => leave(() => killServer(where.socketPath, env)),
  };
};
