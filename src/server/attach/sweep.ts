import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import type { Control } from '../tmux/control.ts';
import { conclude, type Floor, isGone, judge, type Known } from './floor.ts';
import type { End } from './partings.ts';
import { endSession, listSessions, readSessions, SESSION_FORMAT, type Seen, serverPid } from './session.ts';

/** Viewers that nobody ends: their terminal never came, or does not come back, or what they show went away. */

/** How often it is looked, while there is a viewer at all. */
const SWEEP_MS = 30_000;
/** A view whose terminal never came ends after this; so does a shell whose terminal does not come back. */
export const UNSEEN_MS = { view: 60_000, shell: 24 * 3_600_000 } as const;
const LOOK_DEADLINE_MS = 5_000;

const adopt = (floor: Floor, seen: Seen): Known => {
  const known: Known = floor.known.get(seen.viewer) ?? { ...seen, turn: 0 };
  floor.known.set(seen.viewer, known);
  return known;
};

const isUnseen = (known: Known, { attached }: Seen, nowMs: number): boolean => {
  known.unseenSinceMs = attached ? undefined : (known.unseenSinceMs ?? nowMs);
  return known.unseenSinceMs !== undefined && nowMs - known.unseenSinceMs > UNSEEN_MS[known.sight.kind];
};

/** Why a viewer that is there must end now, if it must. */
const endOf = (floor: Floor, known: Known, seen: Seen, nowMs: number): End | undefined => {
  if (isGone(floor, known)) return { parting: 'gone' };
  return isUnseen(known, seen, nowMs) ? { parting: 'left' } : undefined;
};

/** One look at all viewers; harmless to repeat. */
export const sweep =
  (floor: Floor, nowMs: number) =>
  async (control: Control): Promise<void> => {
    const rows = await listSessions(control);
    const tmuxPid = await serverPid(control);
    for (const seen of rows) {
      const known = adopt(floor, seen);
      const end = endOf(floor, known, seen, nowMs);
      if (!end) continue;
      await endSession(control, known.viewer);
      conclude(floor, known, end);
    }
    const there = new Set(rows.map((row) => row.viewer));
    for (const known of [...floor.known.values()]) {
      // One that is about to be made has no session yet.
      if (known.tmuxPid === 0 || there.has(known.viewer)) continue;
      conclude(floor, known, judge(floor, known, tmuxPid));
    }
  };

/** Sweeps from time to time while there is a viewer; `look` is called by whoever made one. */
export const createSweeper = (floor: Floor) => {
  let timer: NodeJS.Timeout | undefined;
  const stop = (): void => {
    clearInterval(timer);
    timer = undefined;
  };
  const once = async (): Promise<void> => {
    if (floor.known.size > 0) await floor.deps.holder.ask(sweep(floor, performance.now()));
    if (floor.known.size === 0) stop();
  };
  const look = (): void => {
    timer ??= setInterval(() => {
      once().catch((thrown) => floor.deps.log(`viewers: ${thrown}`));
    }, SWEEP_MS).unref();
  };
  return { look, once, stop };
};

/** The viewers that an earlier server left in tmux. Asked by tmux's own command, which starts no server. */
export const recover = async (floor: Floor): Promise<void> => {
  const { socketPath, baseEnvironment } = floor.deps;
  if (!existsSync(socketPath)) return;
  const words = ['-u', '-S', socketPath, 'list-sessions', '-F', SESSION_FORMAT];
  const env = { PATH: baseEnvironment.PATH ?? '' };
  const said = await new Promise<string>((resolve) => {
    execFile('tmux', words, { env, timeout: LOOK_DEADLINE_MS }, (_error, stdout) => resolve(stdout));
  });
  for (const seen of readSessions(said.split('\n'))) adopt(floor, seen);
};
