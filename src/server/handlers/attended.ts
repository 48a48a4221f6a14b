import { asKhloneError, KhloneError } from '../../protocol/error.ts';
import type { Body, Peer } from '../../protocol/peer.ts';

/**
 * The bytes of a hub for which a zone waits. The end of a hub whose machine sleeps or stands on another network never
 * arrives here, and TCP would hold its connection for hours, with all who want something of the zone behind it. So one
 * that falls silent is asked for a sign of life, which a hub gives that only takes long to make its bytes.
 */

/**
 * Milliseconds without a byte until the hub is asked, and until it must have answered: together longer than a hub holds
 * on to a silent connection by itself.
 */
export const SILENCE = { askAfterMs: 10_000, signWithinMs: 25_000 } as const;

type Silence = { askAfterMs: number; signWithinMs: number };

/**
 * The same for a connection of which nobody waits for anything: sshd and the relay that hold a dead one are 50 MB, and a
 * laptop that travels makes a new one at each stop. A machine that slept for so long dials anew anyway.
 */
export const LONG_SILENCE = { askAfterMs: 5 * 60_000, signWithinMs: 60_000 } as const;

/** Hangs up on a peer that gives no sign, which breaks all that is read of it; the returned function ends the watch. */
export const hangUpOnSilence = (peer: Peer, { askAfterMs, signWithinMs }: Silence): (() => void) => {
  let timer: NodeJS.Timeout | undefined;
  let over = false;
  const look = async (): Promise<void> => {
    const heardMs = peer.lastReceivedMs();
    if (performance.now() - heardMs < askAfterMs) return;
    const failed = await peer.call('$/ping', {}, { timeoutMs: signWithinMs }).then(
      () => undefined,
      (thrown: unknown) => asKhloneError(thrown).code,
    );
    if (failed === 'timeout' && peer.lastReceivedMs() === heardMs)
      peer.close(new KhloneError('unreachable', 'the other side gave no sign of life'));
  };
  const plan = (): void => {
    if (over) return;
    const dueMs = peer.lastReceivedMs() + askAfterMs - performance.now();
    timer = setTimeout(() => void look().then(plan), Math.max(dueMs, askAfterMs / 4));
  };
  plan();
  return () => {
    over = true;
    clearTimeout(timer);
  };
};

/** The same bytes; they break off with `unreachable` where the hub that sends them is gone. */
export async function* attended(
  body: Body,
  peer: Peer,
  silence: Silence = SILENCE,
): AsyncGenerator<Uint8Array> {
  const leave = hangUpOnSilence(peer, silence);
  try {
    yield* body;
  } finally {
    leave();
  }
}
