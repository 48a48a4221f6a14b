import { asKhloneError, KhloneError } from '../../protocol/error.ts';
import { attentive } from './attention.ts';
import { type Greeted, greet, type Wire } from './greet.ts';
import type { Connected, Lender, Link, LinkState } from './link.ts';

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

/** An idle connection is asked for a sign of life this often; a dead one is then found before anybody needs it. */
const PING_EVERY_MS = 10_000;
const PING_DEADLINE_MS = 8_000;
const AWAKE_DEADLINE_MS = 2_000;
/** A zone that no server has: asking for it costs nothing and proves that the server answers. */
const NO_ZONE = 'z-0000000000000000';

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
  lastSeenMs: number | undefined;
  /** Who had it dialled last: what it does by itself uses the same surroundings. */
  lender: Lender | undefined;
  racing: boolean;
  stop: AbortController;
};

/** Errors that a retry without a person cannot mend. */
const FINAL = new Set(['host-key', 'ssh-auth', 'version', 'denied', 'config']);

const become = (line: Line, next: LinkState): void => {
  if (line.state === next) return;
  line.state = next;
  line.spec.events.onChange?.(line.link);
};

/** Asks for a sign of life, and hangs up where none comes. */
const probe = async ({ spec }: Line, { peer }: Connected, withinMs: number): Promise<boolean> => {
  try {
    await peer.call('zone.get', { zone: NO_ZONE }, { timeoutMs: withinMs });
    return true;
  } catch (thrown) {
    if (asKhloneError(thrown).code !== 'timeout') return false;
    peer.close(new KhloneError('unreachable', `${spec.name} is silent`, 'khlone reconnect'));
    await peer.closed;
    return false;
  }
};

const keepAlive = (line: Line, connected: Connected): NodeJS.Timeout => {
  let lookedMs = Date.now();
  const ask = (): void => {
    // A machine that slept finds its connections dead more often than not, so after that it asks at once.
    const slept = Date.now() - lookedMs > PING_EVERY_MS;
    lookedMs = Date.now();
    if (slept) void probe(line, connected, AWAKE_DEADLINE_MS);
    else if (performance.now() - connected.peer.lastReceivedMs() >= PING_EVERY_MS)
      void probe(line, connected, PING_DEADLINE_MS);
  };
  const timer = setInterval(ask, PING_EVERY_MS / 2);
  timer.unref();
  return timer;
};

const watch = (line: Line, connected: Connected, close: () => void): void => {
  const timer = line.spec.pings ? keepAlive(line, connected) : undefined;
  void connected.peer.closed.then((why) => {
    clearInterval(timer);
    close();
    if (line.connected !== connected) return;
    line.connected = undefined;
    line.lastSeenMs = Date.now();
    line.trouble = why ?? new KhloneError('unreachable', `${line.spec.name} hung up`, 'khlone reconnect');
    become(line, 'offline');
  });
};

const greetLine = ({ spec, stop }: Line, lender: Lender, installing: () => void): Promise<Greeted> =>
  greet(() => spec.dial(lender, stop.signal, installing), {
    build: spec.build,
    local: spec.name === 'local',
  });

/** Takes a connection into use. */
const take = (line: Line, { made, wire }: Greeted): Connected => {
  const { spec, link } = line;
  const connected = spec.pings
    ? { ...made, peer: attentive(made.peer, () => void race(line, connected)) }
    : made;
  line.connected = connected;
  line.trouble = undefined;
  line.lastSeenMs = Date.now();
  watch(line, connected, wire.close);
  become(line, 'online');
  spec.events.onOnline?.(link, connected);
  return connected;
};

/**
 * Somebody waits and the host is silent: a second connection is dialled beside the first, and whichever answers first
 * is kept. A path that came back serves a new connection long before an old one tries again.
 */
const race = async (line: Line, doubted: Connected): Promise<void> => {
  if (line.racing || line.connected !== doubted || !line.lender) return;
  line.racing = true;
  const since = performance.now();
  try {
    const greeted = await greetLine(line, { env: line.lender.env, ask: undefined }, () => {});
    if (line.connected !== doubted || doubted.peer.lastReceivedMs() > since) {
      greeted.made.peer.close();
      greeted.wire.close();
      return;
    }
    take(line, greeted);
    doubted.peer.close(new KhloneError('unreachable', `${line.spec.name} fell silent`, 'khlone reconnect'));
  } catch {
    // Not that way either: the silent connection is given up in its own time.
  } finally {
    line.racing = false;
  }
};

const open = async (line: Line, lender: Lender, installing: () => void): Promise<Connected> => {
  line.lender = lender;
  become(line, 'connecting');
  try {
    return take(line, await greetLine(line, lender, installing));
  } catch (thrown) {
    const error = asKhloneError(thrown);
    line.trouble = error;
    become(line, FINAL.has(error.code) ? 'refused' : 'offline');
    throw error;
  } finally {
    line.dialing = undefined;
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

export const createLink = (spec: LinkSpec): Link => {
  const link: Link = {
    name: spec.name,
    state: () => line.state,
    lastSeenMs: () => (line.connected ? Date.now() : line.lastSeenMs),
    trouble: () => line.trouble,
    busyWith: () => {
      if (line.dialing?.installing) return 'setup';
      return line.dialing && line.dialing.questions > 0 ? 'person' : undefined;
    },
    current: () => line.connected,
    connect: (lender) => connectLine(line, lender),
    verify: async (withinMs) => !!line.connected && probe(line, line.connected, withinMs),
    close: () => {
      line.stop.abort();
      line.stop = new AbortController();
      line.connected?.peer.close();
    },
  };
  const line: Line = {
    ...{ spec, link, state: 'idle', stop: new AbortController() },
    ...{ connected: undefined, dialing: undefined, trouble: undefined, lastSeenMs: undefined },
    ...{ lender: undefined, racing: false },
  };
  return link;
};
