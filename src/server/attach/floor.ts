import type { Sight, Typed } from '../../protocol/attach.ts';
import type { Environment } from '../prepare.ts';
import type { Store } from '../store/store.ts';
import { cloneByName, type ZoneRow, zoneRow } from '../store/zones.ts';
import type { Holder } from '../tmux/panes.ts';
import { createPartings, type End } from './partings.ts';
import type { Pty } from './pty.ts';
import { forgetProxy } from './pty-proxy.ts';
import type { Seen } from './session.ts';
import { forgetExit, shellExit } from './shell.ts';

/** What is known of all viewers, and how one of them is found to have ended. */

export type ViewersDeps = {
  store: Store;
  holder: Holder;
  socketPath: string;
  /** Where exit codes of shells are kept. */
  dir: string;
  bundle: string;
  home: string;
  baseEnvironment: Environment;
  environmentOf(zone: string): Environment | undefined;
  log(line: string): void;
};

/** `turn` counts the terminals that it had: what an earlier one left behind is not its end. */
export type Known = Seen & {
  turn: number;
  typed?: Typed;
  pty?: Pty | undefined;
  /** Its terminal is a proxy's, which counts what is typed in the place of `typed`. */
  proxied?: boolean;
  /** Settles when the last terminal that had to make room is gone. */
  vacated?: Promise<Typed>;
  unseenSinceMs?: number | undefined;
};

export type Floor = {
  deps: ViewersDeps;
  known: Map<string, Known>;
  partings: ReturnType<typeof createPartings>;
};

export const createFloor = (deps: ViewersDeps): Floor => ({
  deps,
  known: new Map(),
  partings: createPartings(),
});

/** How long a client may take to clear its terminal, once its session is gone. */
const FAREWELL_MS = 1_000;

/** The clone that a view shows; the same name again is never another clone. */
export const cloneSeen = (store: Store, zone: string, sight: Sight) => {
  if (sight.kind !== 'view') return undefined;
  const [role = '', index = ''] = sight.clone.split('.');
  return cloneByName(store, zone, role, Number(index));
};

export const zoneSeen = (floor: Floor, { zone }: Seen): ZoneRow | undefined =>
  zoneRow(floor.deps.store, zone);

export const isGone = (floor: Floor, known: Seen): boolean => {
  if (!zoneSeen(floor, known)) return true;
  return known.sight.kind === 'view' && !cloneSeen(floor.deps.store, known.zone, known.sight);
};

/** How a viewer ended whose session is no longer there. Known: nobody here has ended it. */
export const judge = (floor: Floor, known: Known, tmuxPid: number): End => {
  const exitCode = shellExit(floor.deps.dir, known.viewer);
  if (exitCode !== undefined) return { parting: 'exited', exitCode };
  if (known.tmuxPid !== tmuxPid) return { parting: 'lost' };
  if (isGone(floor, known)) return { parting: 'gone' };
  return { parting: known.sight.kind === 'shell' ? 'exited' : 'left' };
};

/** Takes a viewer off the list. Its client sees the end of its session; where it is stalled, it does not wait long. */
export const conclude = (floor: Floor, known: Known, end: End): End => {
  floor.known.delete(known.viewer);
  floor.partings.note(known.viewer, end);
  forgetExit(floor.deps.dir, known.viewer);
  forgetProxy(floor.deps.dir, known.viewer);
  const { pty } = known;
  if (pty) {
    const timer = setTimeout(() => void pty.end(), FAREWELL_MS);
    void pty.closed.then(() => clearTimeout(timer));
  }
  return end;
};
