import type { Body, CallOptions, Peer } from '../../protocol/peer.ts';

/**
 * Notices silence. A server may work long on an answer and a person may be away, so silence alone proves nothing: it is
 * a reason to ask for a sign of life. Where somebody waits it is one much sooner, and sooner where somebody looks on.
 */

/** Milliseconds without a byte while a call waits, or since somebody typed. With one second for the sign: 2.2 s. */
const WAITING_SILENT_MS = 1_200;
/** Milliseconds without a byte while nobody waits: a dead path is found before anybody needs it. */
const IDLE_SILENT_MS = 10_000;
/**
 * Milliseconds without a byte while a person looks at what comes, in an attach or a watch: with the second for the sign
 * they are told of a dead path within 5 s. One small call in that time is what it costs, and only while they look.
 */
const LOOKED_AT_SILENT_MS = 2_500;
/** A timer that comes early by a rounding does not come again at once. */
const LEAST_WAIT_MS = 50;

/** Who looks at what comes over a link, whatever connection carries it. */
export type Onlookers = {
  /** One more, until the returned function is called. */
  add(): () => void;
  are(): boolean;
  /** Told when the first one came or the last one left; one listener at a time. */
  onTurn(told: () => void): void;
};

export const createOnlookers = (): Onlookers => {
  const all = new Set<symbol>();
  let turn = (): void => {};
  return {
    add: () => {
      const one = Symbol('onlooker');
      all.add(one);
      if (all.size === 1) turn();
      return () => {
        if (all.delete(one) && all.size === 0) turn();
      };
    },
    are: () => all.size > 0,
    onTurn: (told) => {
      turn = told;
    },
  };
};

export type Attention = {
  /** The same peer, which is attended to. */
  peer: Peer;
  stop(): void;
};

/** `spokeMs`: when we said the first word since the last byte came. */
type Watched = { waiting: number; spokeMs: number; toldMs: number };

const isTyped = (options: CallOptions | undefined): boolean =>
  options?.body !== undefined && options.klass === 'interactive';

/** The same body, each of whose pieces is noted. Its end is passed on at once, also while a piece is waited for. */
const noted = (body: Body, note: () => void): Body => ({
  [Symbol.asyncIterator]: () => {
    const source = body[Symbol.asyncIterator]();
    return {
      next: async () => {
        const step = await source.next();
        if (!step.done) note();
        return step;
      },
      return: async () => (await source.return?.()) ?? { done: true, value: undefined },
    };
  },
});

/** Milliseconds until silence is worth telling: after the last byte, the last telling, and the last word of ours. */
const dueInMs = ({ waiting, spokeMs, toldMs }: Watched, receivedMs: number, isLookedAt: boolean): number => {
  const waits = waiting > 0 || spokeMs > receivedMs;
  const since = Math.max(receivedMs, toldMs, waits ? spokeMs : 0);
  const idleMs = isLookedAt ? LOOKED_AT_SILENT_MS : IDLE_SILENT_MS;
  return since + (waits ? WAITING_SILENT_MS : idleMs) - performance.now();
};

/** Tells silence, and tells it again only after a further silence. */
export const attend = (peer: Peer, onlookers: Onlookers, onQuiet: () => void): Attention => {
  const watched: Watched = { waiting: 0, spokeMs: 0, toldMs: 0 };
  let timer: NodeJS.Timeout | undefined;
  let timerForWait = false;
  let over = false;

  const look = (): void => {
    if (dueInMs(watched, peer.lastReceivedMs(), onlookers.are()) <= 0) {
      watched.toldMs = performance.now();
      onQuiet();
    }
    plan();
  };

  const plan = (): void => {
    if (over) return;
    clearTimeout(timer);
    timerForWait = watched.waiting > 0 || watched.spokeMs > peer.lastReceivedMs();
    timer = setTimeout(
      look,
      Math.max(LEAST_WAIT_MS, dueInMs(watched, peer.lastReceivedMs(), onlookers.are())),
    );
    timer.unref();
  };

  /** A word of ours: from the first one that met no byte, somebody waits. One timer serves many words. */
  const spoke = (): void => {
    if (watched.spokeMs <= peer.lastReceivedMs()) watched.spokeMs = performance.now();
    if (!timerForWait) plan();
  };

  onlookers.onTurn(plan);
  plan();
  return {
    peer: {
      ...peer,
      call: async (method, params, options) => {
        watched.waiting += 1;
        spoke();
        const body = options?.body;
        const given = body && isTyped(options) ? { ...options, body: noted(body, spoke) } : options;
        try {
          return await peer.call(method, params, given);
        } finally {
          watched.waiting -= 1;
        }
      },
    },
    stop: () => {
      over = true;
      clearTimeout(timer);
    },
  };
};
