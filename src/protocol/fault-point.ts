import { writeFileSync } from 'node:fs';

/**
 * Places where a test lets this process die as kill -9 would, to see what is there afterwards. `KHLONE_FAULT=name:n`
 * ends the process at the n-th passing of that place; `name:n:FILE` only where FILE can be made, so that whoever is
 * started in its stead lives. The variable is read once, and without it a place costs one comparison.
 */

export const SERVER_FAULTS = [
  'recovering',
  'adopted',
  'journal-synced',
  'committed',
  'run-noted',
  'run-made',
  'run-begun',
  'run-shown',
  'input-noted',
  'input-half',
  'input-written',
  'effect-read',
  'effect-committed',
  'end-read',
  'end-committed',
  'interrupt-noted',
  'run-ended',
  'turn-buried',
  'clone-left',
  'zone-halted',
  'zone-removed',
  'segment-forgotten',
  'run-removed',
] as const;

export const HUB_FAULTS = [
  'server-answered',
  'outbox-kept',
  'outbox-marked',
  'outbox-answered',
  'outbox-removed',
] as const;

/** Other rooms name theirs `room.place`. */
export type FaultName = (typeof SERVER_FAULTS)[number] | (typeof HUB_FAULTS)[number] | `${string}.${string}`;

const [wanted, nth = '1', file] = (process.env.KHLONE_FAULT ?? '').split(':');
let left = Number(nth);

const isOurs = (): boolean => {
  if (!file) return true;
  try {
    writeFileSync(file, `${process.pid}\n`, { flag: 'wx' });
    return true;
  } catch {
    return false;
  }
};

/** Dies here if this passing was asked for; `first` is done just before, such as one half of a write. */
export const faultPoint = (name: FaultName, first?: () => void): void => {
  if (name !== wanted) return;
  left -= 1;
  if (left !== 0 || !isOurs()) return;
  first?.();
  process.kill(process.pid, 'SIGKILL');
};
