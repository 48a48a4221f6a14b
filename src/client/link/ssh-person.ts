import { KhloneError } from '../../protocol/error.ts';

/**
 * A key may wait for somebody: for a touch, for a yes in an agent's window (`ssh-add -c`), for a PIN. A dial that nobody
 * asked for begs once. Whatever ends it then, it is a refusal, after which nothing dials by itself until a person does:
 * a key must not blink, nor a window open, again and again at night. That a key of an agent asks is not written
 * anywhere; only hardware keys tell it by their type, so all others are known by their silence.
 */

/** A signature takes this long at most where nobody is asked for it; an agent across the network needs a second. */
export const SIGNATURE_DEADLINE_MS = 10_000;
/** Silence from here on was somebody who was asked, should the connection end in it. */
const ASKS_AFTER_MS = 2_000;

export const personNeeded = (host: string): KhloneError =>
  new KhloneError(
    'ssh-auth',
    `the key for ${host} waits for a touch or a yes, and nobody was asked for it`,
    'run khlone reconnect when you are there',
  );

export type Begging = {
  /** A signature was asked for; `hardware`: by a key that is known to wait for a touch. */
  begin(hardware: boolean): void;
  /** The signature came, or was refused. */
  end(): void;
  /** Whether somebody has been waited for since `begin`. */
  waits(): boolean;
};

export const createBegging = (): Begging => {
  let sinceMs: number | undefined;
  let isHardware = false;
  return {
    begin: (hardware) => {
      sinceMs = performance.now();
      isHardware = hardware;
    },
    end: () => {
      sinceMs = undefined;
    },
    waits: () => sinceMs !== undefined && (isHardware || performance.now() - sinceMs >= ASKS_AFTER_MS),
  };
};
