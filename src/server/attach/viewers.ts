import { randomBytes } from 'node:crypto';
import { statSync } from 'node:fs';
import type { Sight, Terminal, Typed } from '../../protocol/attach.ts';
import type { AnswerOf } from '../../protocol/calls.ts';
import { KhloneError } from '../../protocol/error.ts';
import type { Body } from '../../protocol/peer.ts';
import { type ZoneRow, zoneRow } from '../store/zones.ts';
import type { PaneProgram } from '../tmux/panes.ts';
import {
  cloneSeen,
  conclude,
  createFloor,
  type Floor,
  judge,
  type Known,
  type ViewersDeps,
} from './floor.ts';
import type { End } from './partings.ts';
import { openPty, type Pty, type Size } from './pty.ts';
import { createProxyMaker, endProxy } from './pty-proxy.ts';
import { clientArgv, endSession, findsertSession, listSessions, serverPid } from './session.ts';
import { forgetExit, shellExit, shellOfPerson, shellProgram } from './shell.ts';
import { createSweeper, recover } from './sweep.ts';
import { createPtyCheck, createTermFinder } from './terminal.ts';
import { viewProgram } from './view-program.ts';

/**
 * The terminals that look into zones. tmux is where they are: a server that was restarted finds them there. What is
 * only here are the terminals on a pty of ours, which end with their call, and how the last viewers ended.
 */

/** Viewers of the whole server; each view is a process of 65 MB, a third of it its own. */
const MOST_VIEWERS = 64;
const MOST_SHELLS_OF_A_ZONE = 8;

export type Wish = { zone: string; viewer: string; sight: Sight; terminal: Terminal };

export type Viewers = {
  prepare(wish: Wish): Promise<AnswerOf<'attach.prepare'>>;
  /** The same for a terminal on a channel of sshd's, whose program then shows it. */
  proxy(wish: Wish): Promise<AnswerOf<'attach.proxy'>>;
  /** What the client draws, until it ends. `signal`: its terminal is gone. */
  open(wish: Wish, keys: Body | undefined, signal: AbortSignal): Promise<{ typed: Typed; drawn: Body }>;
  resize(viewer: string, size: Size): void;
  end(viewer: string): Promise<End>;
  /** Ends the viewers of a zone; how many there were. */
  detach(zone: string): Promise<number>;
  /** Ends the viewers of what is no longer there. */
  bury(): Promise<void>;
  /** Ends the terminals on our ptys; tmux and what runs in it is its holder's. */
  close(): void;
};

/** Who looks must be able to see something: throws `not-found`, `conflict`, `rate-limited`. */
const admit = ({ deps, known }: Floor, { zone: id, viewer, sight }: Wish): ZoneRow => {
  const zone = zoneRow(deps.store, id);
  if (!zone) {
    throw new KhloneError('not-found', 'that zone is not known on its machine', 'khlone init makes it');
  }
  if (sight.kind === 'view' && !cloneSeen(deps.store, id, sight)) {
    throw new KhloneError('not-found', `no clone ${sight.clone} in this zone`, 'khlone crew');
  }
  if (sight.kind === 'shell' && !statSync(zone.path, { throwIfNoEntry: false })?.isDirectory()) {
    const why = zone.state === 'preparing' ? 'is still being prepared' : 'is not there';
    throw new KhloneError('conflict', `the worktree ${zone.path} ${why}`, 'khlone status');
  }
  const others = [...known.values()].filter((one) => one.viewer !== viewer);
  const shells = others.filter((one) => one.zone === id && one.sight.kind === 'shell');
  if (others.length >= MOST_VIEWERS || (sight.kind === 'shell' && shells.length >= MOST_SHELLS_OF_A_ZONE)) {
    const what =
      others.length >= MOST_VIEWERS ? `${MOST_VIEWERS} viewers are` : `${shells.length} shells are`;
    throw new KhloneError('rate-limited', `${what} open there`, 'khlone crew detach ends those of a zone');
  }
  return zone;
};

const programOf = ({ deps }: Floor, { viewer, sight }: Wish, zone: ZoneRow): PaneProgram => {
  if (sight.kind === 'view') {
    const world = { bundle: deps.bundle, home: deps.home, path: deps.baseEnvironment.PATH ?? '' };
    return viewProgram(world, zone.id, sight.clone);
  }
  const given = deps.environmentOf(zone.id);
  const environment = zone.mode === 'local' && given ? given : { ...deps.baseEnvironment, ...given };
  // The code of an earlier shell of this terminal would be taken for the new one's.
  forgetExit(deps.dir, viewer);
  return shellProgram(zone, environment, { dir: deps.dir, viewer, shell: shellOfPerson() });
};

/** Finds the viewer's place in tmux or makes it. Answers its turn: a later one has taken its place. */
const enter = async (floor: Floor, wish: Wish): Promise<{ known: Known; turn: number }> => {
  const { viewer, zone: id, sight, terminal } = wish;
  const zone = admit(floor, wish);
  const blank: Known = { viewer, zone: id, sight, attached: false, tmuxPid: 0, turn: 0 };
  const known = floor.known.get(viewer) ?? blank;
  known.turn += 1;
  const { turn } = known;
  floor.known.set(viewer, known);
  try {
    const { columns, rows } = terminal;
    const place = { viewer, zone: id, sight, columns, rows, program: () => programOf(floor, wish, zone) };
    const seen = await floor.deps.holder.ask((control) => findsertSession(control, place));
    Object.assign(known, seen, { unseenSinceMs: undefined });
    floor.known.set(viewer, known);
    floor.partings.forget(viewer);
    return { known, turn };
  } catch (thrown) {
    if (known.tmuxPid === 0) floor.known.delete(viewer);
    throw thrown;
  }
};

/** A terminal of ours is gone: a view goes with it, a shell waits for its return. */
const settle = (floor: Floor, known: Known, turn: number): Promise<void> =>
  floor.deps.holder.ask(async (control) => {
    if (known.turn !== turn || floor.known.get(known.viewer) !== known) return;
    known.pty = undefined;
    const there = (await listSessions(control)).some((row) => row.viewer === known.viewer);
    if (there && known.sight.kind === 'shell') return;
    if (there) await endSession(control, known.viewer);
    conclude(floor, known, judge(floor, known, await serverPid(control)));
  });

const end = async (floor: Floor, viewer: string, parting: 'left' | 'detached'): Promise<End> => {
  const past = (): End => {
    const exitCode = shellExit(floor.deps.dir, viewer);
    const exited: End | undefined = exitCode === undefined ? undefined : { parting: 'exited', exitCode };
    return floor.partings.of(viewer) ?? exited ?? { parting: 'left' };
  };
  // tmux is not started to tell about somebody who is not there.
  if (!floor.known.has(viewer)) return past();
  return floor.deps.holder.ask(async (control) => {
    const known = floor.known.get(viewer);
    if (!known) return past();
    const there = (await listSessions(control)).some((row) => row.viewer === viewer);
    if (!there) return conclude(floor, known, judge(floor, known, await serverPid(control)));
    await endSession(control, viewer);
    return conclude(floor, known, { parting });
  });
};

/**
 * The end of what is typed is the end of the terminal; where nothing ever is, it only looks on. What still comes from a
 * terminal whose place was taken is not typed: the later one has it again, from where the count stood.
 */
const typeAll = async (known: Known, pty: Pty, typed: Typed, keys: Body | undefined): Promise<void> => {
  if (!keys) return;
  for await (const bytes of keys) {
    if (known.pty !== pty || !(await pty.type(bytes))) return;
    typed.bytes += bytes.byteLength;
  }
  await pty.end();
};

/** What a client draws. Its end is told only when `attach.end` knows why. */
async function* drawnBy(
  pty: Pty,
  settled: Promise<void>,
  replaced: () => boolean,
): Body & AsyncGenerator<Uint8Array> {
  yield* pty.drawn;
  const fault = await pty.closed;
  await settled;
  if (fault) throw fault;
  if (replaced()) throw new KhloneError('interrupted', 'the same terminal was opened again');
}

/** Runs a tmux client on a terminal of ours for as long as the call lives. */
const connect = (
  floor: Floor,
  known: Known,
  argv: string[],
  env: Record<string, string>,
  size: Size,
): Pty => {
  known.pty = openPty(argv, env, size);
  floor.deps.log(`viewer ${known.viewer}: opened`);
  return known.pty;
};

const endTerminal = async ({ deps }: Floor, known: Known): Promise<Typed> => {
  const { pty, proxied } = known;
  known.pty = undefined;
  await pty?.end();
  const past = await endProxy(deps.dir, known.viewer);
  // Of a proxy that died while it typed nobody knows, and what was true before it is no longer.
  known.typed = past ?? (proxied ? undefined : known.typed) ?? freshCount();
  known.proxied = false;
  return known.typed;
};

const freshCount = (): Typed => ({ of: randomBytes(8).toString('hex'), bytes: 0 });

/**
 * Ends the terminal that the viewer had, of either kind, and answers how far it came with typing. The session stays,
 * since nothing ends it while it is unattended now. One at a time: a line that comes back may bring several openings.
 */
const vacate = (floor: Floor, known: Known): Promise<Typed> => {
  const next = () => endTerminal(floor, known);
  known.vacated = known.vacated ? known.vacated.then(next, next) : next();
  return known.vacated;
};

const ignore = (): void => undefined;

/** A viewer with its place in tmux, whose turn it is, and the program that shows it. */
type Present = { known: Known; turn: number; argv: string[]; env: Record<string, string> };

type Opening = { wish: Wish; keys: Body | undefined; signal: AbortSignal };

/** A terminal of ours for as long as the call lives. */
const openOwn = async (
  floor: Floor,
  { known, turn, argv, env }: Present,
  { wish, keys, signal }: Opening,
): ReturnType<Viewers['open']> => {
  const replaced = (): boolean => known.turn !== turn;
  const typed = await vacate(floor, known);
  if (signal.aborted || replaced()) {
    if (!replaced()) await settle(floor, known, turn);
    throw gone();
  }
  const pty = connect(floor, known, argv, env, wish.terminal);
  signal.addEventListener('abort', pty.drop, { once: true });
  const before = { ...typed };
  typeAll(known, pty, typed, keys).catch(ignore);
  const settled = pty.closed.then(() => settle(floor, known, turn)).catch(ignore);
  return { typed: before, drawn: drawnBy(pty, settled, replaced) };
};

const gone = (): KhloneError => new KhloneError('interrupted', 'the terminal is gone');

export const createViewers = (deps: ViewersDeps): Viewers => {
  const floor = createFloor(deps);
  const env = { PATH: deps.baseEnvironment.PATH ?? '' };
  const termOf = createTermFinder(env);
  const proxies = createProxyMaker(deps.dir, env);
  const checkPty = createPtyCheck(env);
  const sweeper = createSweeper(floor);
  const recovered = recover(floor).then(() => {
    if (floor.known.size > 0) sweeper.look();
  });

  /** The viewer with its place in tmux, and the program that shows it. */
  const present = async (wish: Wish): Promise<Present> => {
    await recovered;
    const place = await enter(floor, wish);
    sweeper.look();
    const { viewer, sight, terminal } = wish;
    const argv = clientArgv(deps.socketPath, viewer, sight, terminal.utf8);
    return { ...place, argv, env: { ...env, TERM: await termOf(terminal.term) } };
  };

  return {
    prepare: async (wish) => {
      const shown = await present(wish);
      return { argv: shown.argv, env: shown.env };
    },
    proxy: async (wish) => {
      await proxies.check();
      const { known, turn, argv: client, env: seen } = await present(wish);
      const typed = { ...(await vacate(floor, known)) };
      if (known.turn !== turn) throw gone();
      const { viewer, terminal: size } = wish;
      const proxy = proxies.admit({ viewer, typed, size, client });
      known.proxied = true;
      return { ...proxy, env: seen, typed };
    },
    open: async (wish, keys, signal) => {
      await checkPty();
      return openOwn(floor, await present(wish), { wish, keys, signal });
    },
    resize: (viewer, size) => floor.known.get(viewer)?.pty?.resize(size),
    end: async (viewer) => {
      await recovered;
      return end(floor, viewer, 'left');
    },
    detach: async (zone) => {
      await recovered;
      const all = [...floor.known.values()].filter((known) => known.zone === zone);
      const ends = await Promise.all(all.map(({ viewer }) => end(floor, viewer, 'detached')));
      return ends.filter(({ parting }) => parting === 'detached').length;
    },
    bury: async () => {
      await recovered;
      // Whoever could not be ended now is at the next sweep.
      await sweeper.once().catch((thrown) => deps.log(`viewers: ${thrown}`));
    },
    close: () => {
      sweeper.stop();
      for (const known of floor.known.values()) {
        // The viewer goes on with the next server, so its bytes break off here and do not end.
        known.turn += 1;
        void known.pty?.end();
      }
    },
  };
};
