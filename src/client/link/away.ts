/** What is said of a host that cannot be reached, in words for a person who may only have lost the network. */

/** The next step wherever nothing better is known. */
export const AWAY_HINT = 'it is tried again by itself, and at once by khlone reconnect';

export type WayFault = { readonly says: string; hint(host: string): string };

const networkHint = (): string => `is this machine on line? ${AWAY_HINT}`;
const lookHint = (host: string): string => `ssh ${host} may tell more; ${AWAY_HINT}`;

/** The faults of a way to a host: what ssh2's sockets and the words of `ssh` come down to. */
export const WAY_FAULTS = {
  refused: {
    says: 'refuses connections',
    hint: (host) => `is its sshd running, on this port? Try: ssh ${host}; khlone reconnect tries again`,
  },
  nameless: { says: 'has no address', hint: (host) => `look at its name: ssh -G ${host}` },
  lookup: { says: 'cannot be looked up: no name server answers', hint: networkHint },
  roadless: { says: 'cannot be reached from this network', hint: networkHint },
  silent: { says: 'does not answer', hint: networkHint },
  hungUp: { says: 'closed the connection before the login', hint: lookHint },
  closed: { says: 'closed the connection', hint: lookHint },
} as const satisfies Record<string, WayFault>;

/** Of a login that took too long to begin or to end: something took the connection, and nothing more came. */
export const lateFault = (stage: 'handshake' | 'login', limitMs: number): WayFault => ({
  says: `stopped answering: the login did not ${stage === 'handshake' ? 'begin' : 'end'} within ${limitMs / 1000} s`,
  hint: networkHint,
});
