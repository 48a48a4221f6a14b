import type { Peer } from '../../protocol/peer.ts';

/**
 * Notices a dead path while somebody waits. A server may work long on an answer, so silence alone proves nothing: it
 * is asked for a sign of life, which it gives at once.
 */

/** A call that waits this long without any byte from the other side is reason to ask. */
const SILENT_MS = 1_500;
/** A sign of life is one round trip; four of them on a slow line. */
const SIGN_WITHIN_MS = 1_000;

/** The same peer, whose silence is told while calls wait; it is told again only after a further silence. */
export const attentive = (peer: Peer, onSilent: () => void): Peer => {
  let waiting = 0;
  let askedMs = 0;
  let timer: NodeJS.Timeout | undefined;

  const look = async (): Promise<void> => {
    timer = undefined;
    if (waiting === 0) return;
    const silentMs = performance.now() - Math.max(peer.lastReceivedMs(), askedMs);
    if (silentMs >= SILENT_MS) {
      askedMs = performance.now();
      const lives = await peer.call('$/ping', {}, { timeoutMs: SIGN_WITHIN_MS }).then(
        () => true,
        () => peer.lastReceivedMs() > askedMs,
      );
      if (!lives) onSilent();
    }
    plan();
  };

  const plan = (): void => {
    if (waiting === 0 || timer) return;
    const silentMs = performance.now() - Math.max(peer.lastReceivedMs(), askedMs);
    timer = setTimeout(() => void look(), Math.max(50, SILENT_MS - silentMs));
    timer.unref();
  };

  return {
    ...peer,
    call: async (method, params, options) => {
      if (waiting === 0) askedMs = performance.now();
      waiting += 1;
      plan();
      try {
        return await peer.call(method, params, options);
      } finally {
        waiting -= 1;
      }
    },
  };
};
