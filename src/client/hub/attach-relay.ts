import * as z from 'zod';
import { ATTACH_CALLS } from '../../protocol/attach.ts';
import { asKhloneError, KhloneError } from '../../protocol/error.ts';
import type { Answer, Body, Call, Peer } from '../../protocol/peer.ts';
import type { App } from '../app.ts';
import { callServer } from '../call.ts';
import { soonest } from '../patience.ts';

/**
 * What a terminal's program and a zone's server say to each other about an attach goes through here, over the one
 * connection to the host. Bytes pass at their reader's pace, and before all bulk.
 */

/** A dial may take a login and a round trip or two; whoever waits longer asks again. */
const CONNECT_WITHIN_MS = 10_000;
const ANSWER_WITHIN_MS = 10_000;
/** Keys after which no byte comes at all mean a dead path: the person should know soon, and long before TCP does. */
const SIGN_WITHIN_MS = 4_000;
/** A server that ended because the person stopped khlone is followed by the hub, this much later at most. */
const STOP_GRACE_MS = 300;

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
  /** Aborts when the person stopped khlone. */
  stopped: AbortSignal;
};

const stoppedError = (): KhloneError =>
  new KhloneError('shutting-down', 'khlone was stopped', 'the next khlone command starts it again');

const wasStopped = (signal: AbortSignal): Promise<boolean> =>
  new Promise((resolve) => {
    const timer = setTimeout(() => resolve(signal.aborted), signal.aborted ? 0 : STOP_GRACE_MS);
    signal.addEventListener('abort', () => {
      clearTimeout(timer);
      resolve(true);
    });
  });

/** What the terminal is told: a lost way is a lost way whoever hung up, unless it was the person. */
const lossOf = async (thrown: unknown, stopped: AbortSignal): Promise<KhloneError> => {
  const error = asKhloneError(thrown);
  if (!['unreachable', 'shutting-down', 'interrupted'].includes(error.code)) return error;
  if (await wasStopped(stopped)) return stoppedError();
  return error.code === 'unreachable' ? error : new KhloneError('unreachable', error.message, error.hint);
};

const peerOf = async (
  { app }: RelayFloor,
  { host, env, name }: Relayed,
  signal: AbortSignal,
): Promise<Peer> => {
  const link = app.link(host);
  const here = link.current();
  if (here) return here.peer;
  // Only who wants to look is reason enough to dial, or to start a server.
  const mayDial = name === 'attach.open' || name === 'attach.prepare';
  const made = mayDial && (await soonest(link.connect({ env, ask: undefined }), CONNECT_WITHIN_MS, signal));
  if (made) return made.peer;
  throw new KhloneError('unreachable', `${host} does not answer`, 'khlone reconnect');
};

/** The keys as they are typed, and whether anything ever comes after them: the link itself asks for a sign of life. */
async function* attended(keys: Body, peer: Peer, onSilent: () => void): AsyncGenerator<Uint8Array> {
  /** Of the first key since the last byte. */
  let typedMs = 0;
  let timer: NodeJS.Timeout | undefined;
  const look = (): void => {
    timer = undefined;
    if (typedMs <= peer.lastReceivedMs()) return;
    const leftMs = typedMs + SIGN_WITHIN_MS - performance.now();
    if (leftMs > 0) timer = setTimeout(look, leftMs);
    else onSilent();
  };
  try {
    for await (const piece of keys) {
      if (typedMs <= peer.lastReceivedMs()) typedMs = performance.now();
      timer ??= setTimeout(look, SIGN_WITHIN_MS);
      yield piece;
    }
  } finally {
    clearTimeout(timer);
  }
}

async function* untilLost(body: Body, stopped: AbortSignal): AsyncGenerator<Uint8Array> {
  try {
    yield* body;
  } catch (thrown) {
    throw await lossOf(thrown, stopped);
  }
}

/** Passes one call on to the server of the host, with the bytes behind it and behind its answer. */
export const relayAttach = async (floor: RelayFloor, call: Call): Promise<Answer> => {
  const parsed = Relayed.safeParse(call.params);
  if (!parsed.success) throw new KhloneError('invalid-params', 'the call came in an unknown shape');
  const silent = new AbortController();
  const signal = AbortSignal.any([call.signal, silent.signal]);
  try {
    const peer = await peerOf(floor, parsed.data, signal);
    const keys = call.body && {
      body: attended(call.body, peer, () => silent.abort()),
      klass: 'interactive' as const,
    };
    const { name, params } = parsed.data;
    // The server judges the parameters: a later one may know more of them.
    const { answer, body } = await callServer(peer, name, params as never, {
      ...{ signal, timeoutMs: ANSWER_WITHIN_MS },
      ...keys,
    });
    return { value: answer, ...(body && { body: untilLost(body, floor.stopped), klass: 'interactive' }) };
  } catch (thrown) {
    throw await lossOf(thrown, floor.stopped);
  }
};
