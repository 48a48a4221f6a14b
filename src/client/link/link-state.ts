/** What a link is, and what moves it: a pure table. connection.ts feeds it and does what it says. */

/**
 * `suspect`: there is reason to doubt the connection. `racing`: it did not answer, and a second one is dialled beside
 * it. `offline`: a try is due. `refused`: only a person can mend it. All others bring themselves back.
 */
export type LinkState = 'idle' | 'connecting' | 'online' | 'suspect' | 'racing' | 'offline' | 'refused';

export type LinkEvent =
  /** A dial begins, because somebody waits or a try is due. */
  | { type: 'dial' }
  /** A dial ended in a connection that said hello. */
  | { type: 'greeted' }
  /** A dial failed. `final`: a retry without a person cannot mend it. `silentMs`: since a byte came over the old connection. */
  | { type: 'failed'; final: boolean; silentMs: number }
  /** Nothing came for longer than usual. */
  | { type: 'quiet' }
  /** The machine slept, or its addresses changed. */
  | { type: 'doubt' }
  /** Something came over the connection that is there. */
  | { type: 'sign' }
  /** It was asked for a sign, and nothing came in time. `canRace`: a second connection needs no person. */
  | { type: 'mute'; silentMs: number; canRace: boolean }
  /** The connection ended. */
  | { type: 'lost' };

/**
 * `ask`: ask for a sign of life. `race`: dial a second connection. `take`: use the one that was greeted, and hang up on
 * the old one. `dismiss`: hang up on the one that was greeted. `give-up`: hang up on the old one.
 */
export type LinkEffect = 'ask' | 'race' | 'take' | 'dismiss' | 'give-up';

export type Step = { state: LinkState; effects: readonly LinkEffect[] };

/** A path that was away for this long serves a new connection sooner than the old one (measured from 1 s on). */
export const GIVE_UP_MS = 10_000;
/** A connection that only a person could replace is kept for longer: TCP outlives short outages. */
export const GIVE_UP_UNREPLACED_MS = 30_000;

const to = (state: LinkState, ...effects: LinkEffect[]): Step => ({ state, effects });

const onFailed = (state: LinkState, { final, silentMs }: Extract<LinkEvent, { type: 'failed' }>): Step => {
  if (state === 'online' || state === 'suspect') return to(state);
  if (state !== 'racing') return to(final ? 'refused' : 'offline');
  return final || silentMs < GIVE_UP_MS ? to('suspect', 'ask') : to('offline', 'give-up');
};

const onMute = (state: LinkState, event: Extract<LinkEvent, { type: 'mute' }>): Step => {
  if (state !== 'online' && state !== 'suspect') return to(state);
  if (event.canRace) return to('racing', 'race');
  return event.silentMs < GIVE_UP_UNREPLACED_MS ? to('suspect', 'ask') : to('offline', 'give-up');
};

/** The next state and what is to be done. Events that mean nothing in a state leave it as it is. */
export const step = (state: LinkState, event: LinkEvent): Step => {
  const unsure = state === 'suspect' || state === 'racing';
  switch (event.type) {
    case 'dial':
      return to(state === 'idle' || state === 'refused' ? 'connecting' : state);
    case 'greeted':
      return state === 'online' ? to(state, 'dismiss') : to('online', 'take');
    case 'failed':
      return onFailed(state, event);
    case 'quiet':
      return state === 'online' ? to(state, 'ask') : to(state);
    case 'doubt':
      return state === 'online' ? to('suspect', 'ask') : to(state);
    case 'sign':
      return to(unsure ? 'online' : state);
    case 'mute':
      return onMute(state, event);
    case 'lost':
      return to(unsure || state === 'online' ? 'offline' : state);
  }
};
