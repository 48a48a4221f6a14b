import * as z from 'zod';
import { ATTACH_CALLS } from '../../protocol/attach.ts';
import { asKhloneError, KhloneError } from '../../protocol/error.ts';
import type { Answer, Body, Call } from '../../protocol/peer.ts';
import type { App } from '../app.ts';
import { callServer } from '../call.ts';
import { AWAY_HINT } from '../link/away.ts';
import type { Connected, Link } from '../link/link.ts';
import { soonest } from '../patience.ts';
import type { Channels, Opened } from './attach-channel.ts';

/**
 * What a terminal's program and a zone's server say to each other about an attach goes through here, over the one
 * connection to the host. Bytes pass at their reader's pace, and before all bulk.
 */

/** A dial may take a login and a round trip or two; whoever waits longer asks again. */
const CONNECT_WITHIN_MS = 10_000;
const ANSWER_WITHIN_MS = 10_000;
/** Keys after which no byte comes at all mean a dead path: the person should know soon, and long before TCP does. */
const SIGN_WITHIN_MS = 4_000;
/** The link is asked for a sign before that: not every key is answered by what it draws. */
const DOUBT_AFTER_MS = 1_200;
/**
 * While nobody types, a person looks on all the same: they are told after so long without any byte, though the link asked
 * for a sign, and none came. Longer than what lies in a line that became 60 times slower takes.
 */
const ONLOOKER_SIGN_WITHIN_MS = 4_500;
/** How often it is looked again whether the link is in doubt yet: its own sign may take longer on a long line. */
const LOOK_AGAIN_MS = 500;
/** A local server that ended because the person stopped khlone is followed by the hub, soon. */
const STOP_GRACE_MS = 1_500;

type CallName = keyof typeof ATTACH_CALLS;

const Relayed = z.strictObject({
  host: z.string().max(4096),
  env: z.record(z.string(), z.string()),
  name: z.enum(Object.keys(ATTACH_CALLS) as [CallName, ...CallName[]]),
  params: z.unknown(),
});
type Relayed = z.infer<typeof Relayed>;

export type RelayFloor = {
  app: App;
  /** Terminals on channels of their own. */
  channels: Channels;
  /** Aborts as soon as the person stopped khlone. */
  stopping: AbortSignal;
  /** The hub makes room for another one. */
  leaving: boolean;
};

const stoppedError = (): KhloneError =>
  new KhloneError('shutting-down', 'khlone was stopped', 'the next khlone command starts it again');

/** Resolves when the person stopped khlone, or after a moment in which they may have. */
const settled = (stopping: AbortSignal, graceMs: number): Promise<void> =>
  new Promise((resolve) => {
    const done = (): void => {
      clearTimeout(timer);
      stopping.removeEventListener('abort', done);
      resolve();
    };
    const timer = setTimeout(done, stopping.aborted ? 0 : graceMs);
    stopping.addEventListener('abort', done);
  });

/** What the terminal is told: a lost way is a lost way whoever hung up, unless it was the person. */
const lossOf = async (thrown: unknown, host: string, stopping: AbortSignal): Promise<KhloneError> => {
  const error = asKhloneError(thrown);
  if (!['unreachable', 'shutting-down', 'interrupted'].includes(error.code)) return error;
  await settled(stopping, host === 'local' ? STOP_GRACE_MS : 0);
  if (stopping.aborted) return stoppedError();
  return error.code === 'unreachable' ? error : new KhloneError('unreachable', error.message, error.hint);
};

const connectedOf = async (
  { app, leaving }: RelayFloor,
  { host, env, name }: Relayed,
  signal: AbortSignal,
): Promise<Connected> => {
  if (leaving) throw new KhloneError('unreachable', 'the hub makes room for another one');
  const link = app.link(host);
  const here = link.current();
  if (here) return here;
  if (host !== 'local' && !app.bindings.all().some((binding) => binding.host === host))
    throw new KhloneError('not-found', `there is no zone on ${host} any more`, 'khlone init makes one');
  // A size alone is no reason to dial, or to start a server.
  const mayDial = name !== 'attach.resize';
  const made = mayDial && (await soonest(link.connect({ env, ask: undefined }), CONNECT_WITHIN_MS, signal));
  if (made) return made;
  throw new KhloneError('unreachable', `${host} does not answer`, AWAY_HINT);
};

/** When the last byte of any kind came, and what is done where none does. */
type Signs = { heardMs(): number; onDoubt(): void; onSilent(): void };

/** The keys as they are typed, and whether anything ever comes after them: in doubt, a sign of life is asked for. */
async function* attended(keys: Body, { heardMs, onDoubt, onSilent }: Signs): AsyncGenerator<Uint8Array> {
  /** Of the first key since the last byte. */
  let typedMs = 0;
  let timer: NodeJS.Timeout | undefined;
  const look = (): void => {
    timer = undefined;
    if (typedMs <= heardMs()) return;
    const silentMs = performance.now() - typedMs;
    if (silentMs >= SIGN_WITHIN_MS) onSilent();
    else {
      if (silentMs >= DOUBT_AFTER_MS) onDoubt();
      plan(silentMs);
    }
  };
  const plan = (silentMs: number): void => {
    const atMs = silentMs < DOUBT_AFTER_MS ? DOUBT_AFTER_MS : SIGN_WITHIN_MS;
    timer = setTimeout(look, atMs - silentMs);
  };
  try {
    for await (const piece of keys) {
      if (typedMs <= heardMs()) typedMs = performance.now();
      if (!timer) plan(0);
      yield piece;
    }
  } finally {
    clearTimeout(timer);
  }
}

type Silence = Pick<Signs, 'heardMs' | 'onSilent'> & { isCalm(): boolean };

/** Watches a line that a person looks at; the returned function ends that. */
const watchSilence = ({ heardMs, isCalm, onSilent }: Silence): (() => void) => {
  let timer: NodeJS.Timeout | undefined;
  const plan = (): void => {
    const dueMs = heardMs() + ONLOOKER_SIGN_WITHIN_MS - performance.now();
    timer = setTimeout(look, Math.max(LOOK_AGAIN_MS, dueMs));
  };
  const look = (): void => {
    const silentMs = performance.now() - heardMs();
    if (silentMs < ONLOOKER_SIGN_WITHIN_MS || isCalm()) plan();
    else onSilent();
  };
  plan();
  return () => clearTimeout(timer);
};

async function* untilLost(
  body: Body,
  onHeard: () => void,
  lossOfIt: (thrown: unknown) => Promise<KhloneError>,
  onEnd: () => void,
): AsyncGenerator<Uint8Array> {
  try {
    for await (const piece of body) {
      onHeard();
      yield piece;
    }
  } catch (thrown) {
    throw await lossOfIt(thrown);
  } finally {
    onEnd();
  }
}

type Passing = { relayed: Relayed; keys: Body | undefined; signal: AbortSignal };

/** One call to the server with the bytes behind it, or its like on a channel where the host makes no terminal. */
const pass = async (
  floor: RelayFloor,
  connected: Connected,
  passing: Passing,
): Promise<Answer & Partial<Opened>> => {
  const { channels } = floor;
  const { keys, signal } = passing;
  const { host, name, params } = passing.relayed;
  const { openPty, peer } = connected;
  if (name === 'attach.resize' && channels.resize(params)) return { value: {} };
  if (name === 'attach.open') {
    const wish = { params, keys, signal, withinMs: ANSWER_WITHIN_MS };
    const proxied = await channels.openProxied(connected, wish);
    if (proxied) return proxied;
    if (openPty && channels.isChosen(host)) return channels.open(connected, openPty, wish);
  }
  const options = { signal, timeoutMs: ANSWER_WITHIN_MS };
  const typed = keys && { body: keys, klass: 'interactive' as const };
  try {
    // The server judges the parameters: a later one may know more of them.
    const { answer, body } = await callServer(peer, name, params as never, { ...options, ...typed });
    return { value: answer, ...(body && { body, klass: 'interactive' }) };
  } catch (thrown) {
    if (asKhloneError(thrown).code !== 'no-pty' || !openPty) throw thrown;
    // The keys of this call are gone with it, so the terminal asks again, and gets a channel then.
    channels.choose(host);
    throw new KhloneError('unreachable', 'the host makes no terminal; trying a channel');
  }
};

/** A person looks from now on, until the returned function is called or the call is over. */
const lookOn = (link: Link, silence: Silence, over: AbortSignal): (() => void) => {
  const ends = [link.lookAt(), watchSilence(silence)];
  const leave = (): void => {
    for (const end of ends) end();
  };
  over.addEventListener('abort', leave, { once: true });
  if (over.aborted) leave();
  return leave;
};

/** Passes one call on to the server of the host, with the bytes behind it and behind its answer. */
export const relayAttach = async (floor: RelayFloor, call: Call): Promise<Answer> => {
  const parsed = Relayed.safeParse(call.params);
  if (!parsed.success) throw new KhloneError('invalid-params', 'the call came in an unknown shape');
  const relayed = parsed.data;
  const silent = new AbortController();
  const signal = AbortSignal.any([call.signal, silent.signal, floor.stopping]);
  const lossOfIt = (thrown: unknown) => lossOf(thrown, relayed.host, floor.stopping);
  const link = floor.app.link(relayed.host);
  let leave = (): void => {};
  try {
    const connected = await connectedOf(floor, relayed, signal);
    // A terminal that sshd made says nothing by way of the server.
    let drawnMs = 0;
    const onHeard = (): void => {
      drawnMs = performance.now();
    };
    const signs: Signs = {
      heardMs: () => Math.max(connected.peer.lastReceivedMs(), drawnMs),
      onDoubt: () => link.doubt(),
      onSilent: () => silent.abort(),
    };
    const keys = call.body && attended(call.body, signs);
    if (relayed.name === 'attach.open' && relayed.host !== 'local') {
      leave = lookOn(link, { ...signs, isCalm: () => link.state() === 'online' }, call.signal);
    }
    const { value, body, over } = await pass(floor, connected, { relayed, keys, signal });
    if (!body) leave();
    const onEnd = (): void => {
      leave();
      over?.();
    };
    return { value, ...(body && { body: untilLost(body, onHeard, lossOfIt, onEnd), klass: 'interactive' }) };
  } catch (thrown) {
    leave();
    throw await lossOfIt(thrown);
  }
};
