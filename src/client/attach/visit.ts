import type { Parting } from '../../protocol/attach.ts';
import type { Size } from '../terminal/here.ts';

/** One stretch of looking: from an opening to the viewer's end, or to the break of the way to it. */
export type Visit = {
  /** What the terminal is to draw. Its end is the viewer's end; it throws `unreachable` where the way broke. */
  output: AsyncIterable<Uint8Array>;
  type(bytes: Uint8Array): void;
  resize(size: Size): void;
  /** Lets go of what the visit holds here. */
  close(): void;
};

export type Ended = { parting: Parting; exitCode?: number };

/** A way to a viewer: over the hub to a terminal of the server's making, or a program of this machine. */
export type Way = {
  /** May be called again after a break: the same viewer is shown on. */
  open(size: Size, signal: AbortSignal): Promise<Visit>;
  /** Ends the viewer, or learns how it ended. */
  end(signal: AbortSignal): Promise<Ended>;
};
