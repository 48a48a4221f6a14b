import { connect, type Socket } from 'node:net';

/** A TCP connection that is there as soon as the path is. */

export type Opened = {
  readonly sock: Socket;
  /** One round trip in milliseconds as the handshake measured it. */
  readonly rttMs: number;
};

/**
 * A path that swallows packets swallows the first one of a connection too, and the kernel says it again only after a
 * second, and older ones after 3 and 7. So a place that was reached before is knocked at again and again, each time by a new socket, and the
 * first one that is let in is used. It is not done where nothing is known: a slow sshd would see strangers come and go.
 */
const KNOCK_EVERY_MS = 500;
/**
 * Sockets that knock at a time. When the path is back, all of them may be let in within one round trip, and sshd counts
 * those that leave again. The first one stays: on a line that became very slow it is the one that is answered.
 */
const MAX_KNOCKS = 3;
/** A late answer to the first knock is not mistaken for none, on a line of any length. */
const KNOCK_ROUND_TRIPS = 3;

/** The round trips of the places that were reached, by host name and port; the oldest goes. */
const roundTrips = new Map<string, number>();
const MAX_PLACES = 256;

/** A handshake from here on may have had its first packet repeated, and tells less than what is known. */
const REPEATED_MS = 900;

const remember = (place: string, rttMs: number): void => {
  const known = roundTrips.get(place);
  roundTrips.delete(place);
  roundTrips.set(place, rttMs < REPEATED_MS ? rttMs : (known ?? rttMs));
  const [oldest] = roundTrips.keys();
  if (roundTrips.size > MAX_PLACES && oldest !== undefined) roundTrips.delete(oldest);
};

const timedOut = (): Error => Object.assign(new Error('no answer'), { code: 'ETIMEDOUT' });

/** A knock: one socket, with Nagle off from the first byte, for ssh2 never sets it and each request would wait 40 ms. */
const knock = (
  host: string,
  port: number,
  done: (opened: Opened) => void,
  failed: (why: Error) => void,
): Socket => {
  let startedMs = performance.now();
  const sock = connect({ host, port, noDelay: true });
  sock.on('connectionAttempt', () => {
    startedMs = performance.now();
  });
  sock.once('error', failed);
  sock.once('connect', () => done({ sock, rttMs: performance.now() - startedMs }));
  return sock;
};

/** An abandoned socket may still say something, which interests nobody. */
const abandon = (sock: Socket): void => {
  sock.removeAllListeners('error').on('error', () => {});
  sock.destroy();
};

/** Rejects with the error of the socket, ETIMEDOUT after `withinMs`, or the signal's reason. */
export const openTcp = (host: string, port: number, withinMs: number, signal: AbortSignal): Promise<Opened> =>
  new Promise((resolve, reject) => {
    const place = `${host} ${port}`;
    const knocks: Socket[] = [];
    const settle = (opened?: Opened): void => {
      clearTimeout(deadline);
      clearInterval(again);
      signal.removeEventListener('abort', onAbort);
      for (const sock of knocks) {
        if (sock === opened?.sock) sock.off('error', fail);
        else abandon(sock);
      }
    };
    const fail = (why: Error): void => {
      settle();
      reject(why);
    };
    const done = (opened: Opened): void => {
      settle(opened);
      remember(place, opened.rttMs);
      resolve(opened);
    };
    const onAbort = (): void => fail(signal.reason);
    const knockOnce = (): void => {
      if (knocks.length >= MAX_KNOCKS) knocks.splice(1, 1).forEach(abandon);
      knocks.push(knock(host, port, done, fail));
    };
    const knownMs = roundTrips.get(place);
    const deadline = setTimeout(() => fail(timedOut()), withinMs);
    const everyMs = Math.max(KNOCK_EVERY_MS, KNOCK_ROUND_TRIPS * (knownMs ?? 0));
    const again = knownMs === undefined ? undefined : setInterval(knockOnce, everyMs);
    signal.addEventListener('abort', onAbort, { once: true });
    knockOnce();
  });
