import type { Parting } from '../../protocol/attach.ts';
import { KhloneError } from '../../protocol/error.ts';
import type { HubLine } from './hub-line.ts';
import type { Ended, Way } from './visit.ts';

const END_WITHIN_MS = 5_000;

/** The words of the protocol, written again: its schemas would bring a validator along into a program of a few KB. */
const PARTINGS: Readonly<Record<Parting, true>> = {
  left: true,
  exited: true,
  detached: true,
  gone: true,
  lost: true,
};

/** Both ways end alike: the server ends the viewer, or tells how it ended. */
export const endOf =
  (line: HubLine, viewer: string): Way['end'] =>
  async (signal) =>
    readEnded((await line.call('attach.end', { viewer }, { signal, timeoutMs: END_WITHIN_MS })).value);

/** How a viewer ended, as the hub passed it on. */
const readEnded = (value: unknown): Ended => {
  const { parting, exitCode } = (value ?? {}) as { parting?: unknown; exitCode?: unknown };
  if (typeof parting !== 'string' || !Object.hasOwn(PARTINGS, parting)) {
    throw new KhloneError('invalid-request', 'how it ended was told in an unknown shape', 'khlone doctor');
  }
  return { parting: parting as Parting, ...(typeof exitCode === 'number' && { exitCode }) };
};
