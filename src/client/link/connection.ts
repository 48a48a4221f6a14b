import { asKhloneError, KhloneError } from '../../protocol/error.ts';
import { attend, createOnlookers, type Onlookers } from './attention.ts';
import { AWAY_HINT } from './away.ts';
import { type Greeted, greet, type Wire } from './greet.ts';
import type { Connected, Lender, Link } from './link.ts';
import { type LinkEffect, type LinkEvent, type LinkState, step } from './link-state.ts';

/** What all links share: one connection at a time, one dial for all who wait, and its own judgement of liveness. */

export type Dial = (lender: Lender, signal: AbortSignal, installing: () => void) => Promise<Wire>;

export type LinkEvents = {
  onChange?: (link: Link) => void;
  /** A connection is there and has said hello. */
  onOnline?: (link: Link, connected: Connected) => void;
};

export type LinkSpec = {
  name: string;
  build: string;
  dial: Dial;
  events: LinkEvents;
  /** Asks an idle connection for a sign of life: a local socket needs none. */
  pings: boolean;
};

/** A sign of life is one round trip; four of them, and never less or more than this. */
const SIGN_WITHIN_MS = { min: 1_000, max: 8_000 } as const;
const SIGN_ROUND_TRIPS = 4;
/** One answer alone says little: what it took counts up to twice what is known, or this. */
const LEAST_SAMPLE_MS = 50;

/** A dial under way: who joins it shares its outcome, and what it is busy with. */
type Dialing = { made: Promise<Connected>; canAsk: boolean; questions: number; installing: boolean };

/** What a link is at a moment. */
type Line = {
  spec: LinkSpec;
  link: Link;
  state: LinkState;
  connected: Connected | undefined;
  dialing: Dialing | undefined;
  trouble: KhloneError | undefined;
  /** When the last byte of a connection that ended came, in ms since the epoch. */
  lastSeenMs: number | undefined;
  /** Who had it dialled last: what it does by itself uses the same surroundings. */
  lender: Lender | undefined;
  /** A second connection needed a person: it is not tried again beside this one. */
  raceRefused: boolean;
  /** The connection that is being asked for a sign. */
  asked: Connected | undefined;
  rttMs: number;
  onlookers: Onlookers;
  stop: AbortController;
};

/** Errors that a retry without a person cannot mend. */
const FINAL = new Set(['host-key', 'ssh-auth', 'version', 'denied', 'config']);

const silentMs = ({ connected }: Line): number =>
  connected ? performance.now() - connected.peer.lastReceivedMs() : 0;

const unreachable = (name: string, what: string): KhloneError =>
  new KhloneError('unreachable', `${name} ${what}`, AWAY_HINT);

/** Lets go of the connection; who still waits on it learns why. */
const hangUp = (line: Line, why: KhloneError): void => {
  const { connected } = line;
  if (!connected) return;
  line.lastSeenMs = Date.now() - silentMs(line);
  line.connected = undefined;
  line.trouble = why;
  connected.peer.close(why);
};

/** Takes a connection into use, in the place of the one that is there. */
const take = (line: Line, { made, wire }: Greeted): void => {
  const { spec } = line;
  const attention = spec.pings
    ? attend(made.peer, line.onlookers, () => line.connected === connected && tell(line, { type: 'quiet' }))
    : undefined;
  const connected: Connected = attention ? { ...made, peer: attention.peer } : made;
  hangUp(line, unreachable(spec.name, 'stopped answering'));
  line.connected = connected;
  line.trouble = undefined;
  line.raceRefused = false;
  line.rttMs = wire.rttMs ?? line.rttMs;
  void made.peer.closed.then((why) => {
    attention?.stop();
    wire.close();
    if (line.connected !== connected) return;
    hangUp(line, why ?? unreachable(spec.name, 'ended the connection'));
    tell(line, { type: 'lost' });
  });
};

const noteRoundTrip = (line: Line, tookMs: number): void => {
  const sampleMs = Math.min(tookMs, Math.max(LEAST_SAMPLE_MS, 2 * line.rttMs));
  line.rttMs = (line.rttMs * 3 + sampleMs) / 4;
};

/** True as soon as the connection answers, or when anything came within `withinMs`. */
const givesSign = async (line: Line, { peer }: Connected, withinMs: number): Promise<boolean> => {
  // Once there is doubt, what an answer takes is the rest of an outage and no round trip.
  const isCalm = line.state === 'online';
  const begunMs = performance.now();
  const late = Promise.withResolvers<void>();
  const timer = setTimeout(late.resolve, withinMs);
  try {
    const answered = peer.call('$/ping', {}, { timeoutMs: withinMs }).then(
      () => true,
      // Refused at once, as on a connection with too many calls, is no answer: what comes meanwhile decides.
      () => late.promise.then(() => false),
    );
    if (await Promise.race([answered, peer.closed.then(() => false)])) {
      if (isCalm) noteRoundTrip(line, performance.now() - begunMs);
      return true;
    }
    return peer.lastReceivedMs() > begunMs;
  } finally {
    clearTimeout(timer);
  }
};

/** Asks for a sign of life, again and again while there is doubt. */
const askForSign = async (line: Line): Promise<void> => {
  const { connected } = line;
  if (!connected || line.asked === connected) return;
  line.asked = connected;
  try {
    do {
      const wish = Math.max(SIGN_WITHIN_MS.min, SIGN_ROUND_TRIPS * line.rttMs);
      const lives = await givesSign(line, connected, Math.min(SIGN_WITHIN_MS.max, wish));
      if (line.connected !== connected) return;
      tell(
        line,
        lives ? { type: 'sign' } : { type: 'mute', silentMs: silentMs(line), canRace: !line.raceRefused },
      );
    } while (line.connected === connected && (line.state === 'suspect' || line.state === 'racing'));
  } finally {
    if (line.asked === connected) line.asked = undefined;
  }
};

/** A second connection beside the silent one. A path that came back serves a new one long before the old one. */
const race = (line: Line): void => {
  if (line.dialing || !line.lender) return;
  dial(line, { env: line.lender.env, ask: undefined }).catch(() => undefined);
};

const EFFECTS: Record<LinkEffect, (line: Line, greeted: Greeted | undefined) => void> = {
  ask: (line) => void askForSign(line),
  race,
  take: (line, greeted) => greeted && take(line, greeted),
  dismiss: (_line, greeted) => {
    greeted?.made.peer.close();
    greeted?.wire.close();
  },
  'give-up': (line) => hangUp(line, unreachable(line.spec.name, 'stopped answering')),
};

/** What happened moves the state, and what that asks for is done: effects first, so that listeners see the outcome. */
const tell = (line: Line, event: LinkEvent, greeted?: Greeted): void => {
  const before = line.state;
  const { state, effects } = step(before, event);
  line.state = state;
  for (const effect of effects) EFFECTS[effect](line, greeted);
  const { events } = line.spec;
  if (line.state !== before) events.onChange?.(line.link);
  if (effects.includes('take') && line.connected) events.onOnline?.(line.link, line.connected);
};

const open = async (line: Line, lender: Lender, installing: () => void): Promise<Connected> => {
  const { spec } = line;
  line.lender = lender;
  tell(line, { type: 'dial' });
  try {
    const greeted = await greet(() => spec.dial(lender, line.stop.signal, installing), {
      build: spec.build,
      local: spec.name === 'local',
    });
    line.dialing = undefined;
    tell(line, { type: 'greeted' }, greeted);
    return line.connected ?? greeted.made;
  } catch (thrown) {
    const error = asKhloneError(thrown);
    const final = FINAL.has(error.code);
    line.dialing = undefined;
    if (line.connected) line.raceRefused = final;
    else line.trouble = error;
    tell(line, { type: 'failed', final, silentMs: silentMs(line) });
    throw error;
  }
};

/** Begins a dial that tells what it is busy with. */
const dial = (line: Line, lender: Lender): Promise<Connected> => {
  const { ask } = lender;
  const asking: Lender['ask'] =
    ask &&
    (async (question) => {
      dialing.questions += 1;
      try {
        return await ask(question);
      } finally {
        dialing.questions -= 1;
      }
    });
  const dialing: Dialing = { made: undefined as never, canAsk: !!ask, questions: 0, installing: false };
  line.dialing = dialing;
  dialing.made = open(line, { ...lender, ask: asking }, () => {
    dialing.installing = true;
  });
  return dialing.made;
};

/** Joins the dial under way. One that nobody could be asked for is tried again by whoever can be. */
const join = async (line: Line, dialing: Dialing, lender: Lender): Promise<Connected> => {
  try {
    return await dialing.made;
  } catch (thrown) {
    const needsPerson = ['host-key', 'ssh-auth'].includes(asKhloneError(thrown).code);
    if (!needsPerson || dialing.canAsk || !lender.ask) throw thrown;
    return connectLine(line, lender);
  }
};

const connectLine = async (line: Line, lender: Lender): Promise<Connected> => {
  if (line.connected) return line.connected;
  return line.dialing ? join(line, line.dialing, lender) : dial(line, lender);
};

/** What came so lately that asking for a sign would tell nothing new. */
const FRESH_MS = 1_000;

const answers = async (line: Line, withinMs: number): Promise<boolean> => {
  const { connected, state, spec } = line;
  if (!connected) return false;
  if (!spec.pings || (state === 'online' && silentMs(line) < FRESH_MS)) return true;
  return (await givesSign(line, connected, withinMs)) || (!!line.connected && line.connected !== connected);
};

const verify = async (line: Line, withinMs: number): Promise<boolean> => {
  const { connected } = line;
  if (!connected || (await givesSign(line, connected, withinMs))) return !!connected;
  if (line.connected === connected) {
    hangUp(line, unreachable(line.spec.name, 'stopped answering'));
    tell(line, { type: 'lost' });
  }
  return false;
};

const newLine = (spec: LinkSpec, link: Link): Line => ({
  ...{ spec, link, state: 'idle', stop: new AbortController() },
  ...{ connected: undefined, dialing: undefined, trouble: undefined, lastSeenMs: undefined },
  ...{ lender: undefined, raceRefused: false, asked: undefined, rttMs: 0 },
  onlookers: createOnlookers(),
});

export const createLink = (spec: LinkSpec): Link => {
  const link: Link = {
    name: spec.name,
    state: () => line.state,
    lastSeenMs: () => (line.connected ? Date.now() - (spec.pings ? silentMs(line) : 0) : line.lastSeenMs),
    trouble: () => line.trouble,
    busyWith: () => {
      if (line.dialing?.installing) return 'setup';
      return line.dialing && line.dialing.questions > 0 ? 'person' : undefined;
    },
    dialing: () => !!line.dialing,
    current: () => line.connected,
    connect: (lender) => connectLine(line, lender),
    doubt: () => {
      if (line.connected) tell(line, { type: 'doubt' });
    },
    verify: (withinMs) => verify(line, withinMs),
    lookAt: () => line.onlookers.add(),
    answers: (withinMs) => answers(line, withinMs),
    close: () => {
      line.stop.abort();
      line.stop = new AbortController();
      line.connected?.peer.close();
    },
  };
  const line = newLine(spec, link);
  return link;
};
