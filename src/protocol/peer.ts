import type { Duplex } from 'node:stream';
import { type Calling, type CallOptions, createCalling, type Reply } from './calling.ts';
import { asKhloneError, KhloneError, toWire } from './error.ts';
import { createFrameDecoder, encodeControl, type Frame } from './frame.ts';
import { createInlets, type Inlets } from './inlets.ts';
import { readItems } from './items.ts';
import { CLOSE_GRACE_MS } from './limits.ts';
import { readMessage } from './message.ts';
import { createPace, MEASURE_WITHIN_MS } from './pace.ts';
import { createSender, type Sender } from './sender.ts';
import { createServing, type Handlers, type Serving } from './serving.ts';

export type { Body, Klass } from './body.ts';
export type { CallOptions, Reply } from './calling.ts';
export { items } from './items.ts';
export type { Answer, Call, Handlers } from './serving.ts';

/**
 * One end of a connection. Both ends are alike: either may call, and each call or answer may be followed by a body.
 * Nothing here waits without a bound but the bodies, whose readers set the pace.
 */
export type Peer = {
  /**
   * Call a method of the other side. Rejects with the other side's error, `timeout` at the deadline, `interrupted`
   * when the signal aborts, `unreachable` when the connection ends, `rate-limited` or `too-large` before sending.
   */
  call(method: string, params: unknown, options?: CallOptions): Promise<Reply>;
  /** Say something without an answer; lost silently when the connection is. Throws `too-large`, `rate-limited`. */
  notify(method: string, params: unknown): void;
  /**
   * The items the other side's `subscribe` handler gives. The call goes out when iteration begins. An aborted signal
   * ends the iteration with `interrupted`, a lost connection with `unreachable`: only the source's own end is an end.
   */
  subscribe(params: unknown, signal: AbortSignal): AsyncIterable<unknown>;
  /** Hand over what is queued, then end. Calls of ours still waiting fail with `why` (default `unreachable`). */
  close(why?: KhloneError): void;
  /** Resolves when the connection ended: with the error that ended it, or undefined for an orderly end of either side. */
  closed: Promise<KhloneError | undefined>;
  /** performance.now() of the last received byte: whether the other side lives is judged by whoever holds the peer. */
  lastReceivedMs(): number;
};

export type PeerOptions = {
  /** Bytes of bodies under way before bulk waits; asked before each slice. Default: what the measured line takes. */
  bulkWindowBytes?: () => number;
  /** Told of handlers that threw something other than a KhloneError. */
  onFault?: (method: string, thrown: unknown) => void;
};

const LOST = 'the connection ended';

/** What those who wait are told: a breach of the protocol is a lost connection to them. */
const lossOf = (why: KhloneError | undefined): KhloneError => {
  if (!why) return new KhloneError('unreachable', LOST);
  return why.code === 'parse-error' ? new KhloneError('unreachable', `${LOST}: ${why.message}`) : why;
};

/** Gives each frame to the part it is for. Throws `parse-error` where the frame breaks the protocol. */
const createTaker =
  (sender: Sender, inlets: Inlets, calling: Calling, serving: Serving) =>
  (frame: Frame): void => {
    const { type, stream, payload } = frame;
    if (type === 'control') {
      const message = readMessage(payload);
      if (message.kind === 'answer' || message.kind === 'failure') calling.settle(message);
      else serving.take(message);
    } else if (type === 'credit' || type === 'stop') {
      const known = type === 'stop' ? sender.stop(stream) : sender.credit(stream, payload.readUInt32BE(0));
      if (!known)
        throw new KhloneError('parse-error', `a ${type} frame for stream ${stream}, which never was`);
    } else inlets.take(frame);
  };

/** A peer over any duplex: a socket, a pair of pipes, an ssh channel. Takes the duplex over, its errors included. */
export const createPeer = (duplex: Duplex, handlers: Handlers, options: PeerOptions = {}): Peer => {
  const ended = Promise.withResolvers<KhloneError | undefined>();
  const pace = createPace(() => calling.call('$/ping', {}, { timeoutMs: MEASURE_WITHIN_MS }));
  const sender = createSender(duplex, options.bulkWindowBytes ?? pace.windowBytes, () =>
    finish(new KhloneError('rate-limited', 'the other side asks but does not read')),
  );
  const inlets = createInlets(sender);
  const calling = createCalling(sender, inlets);
  const decode = createFrameDecoder();
  let receivedMs = performance.now();
  let open = true;

  /** The one way out: everything that waits learns of it, then the duplex goes. */
  const finish = (why: KhloneError | undefined): void => {
    if (!open) return;
    open = false;
    const loss = lossOf(why);
    calling.failAll(loss);
    inlets.failAll(loss);
    serving.abortAll();
    sender.close();
    endDuplex(duplex);
    ended.resolve(why);
  };

  /** The other side broke the protocol: say so if it still listens, and hang up. */
  const breach = (error: KhloneError): void => {
    sender.send(encodeControl(JSON.stringify({ jsonrpc: '2.0', id: null, error: toWire(error) })));
    finish(error);
  };

  const serving = createServing({
    sender,
    inlets,
    handlers: { '$/ping': () => ({ value: null }), ...handlers },
    peer: () => peer,
    onFault: options.onFault ?? (() => undefined),
  });
  const take = createTaker(sender, inlets, calling, serving);

  duplex.on('data', (chunk: Buffer) => {
    receivedMs = performance.now();
    if (!open) return;
    try {
      for (const frame of decode(chunk)) if (open) take(frame);
    } catch (thrown) {
      breach(asKhloneError(thrown));
    }
  });
  duplex.on('error', (error) => finish(new KhloneError('unreachable', `${LOST}: ${error.message}`)));
  duplex.on('end', () => finish(undefined));
  duplex.on('close', () => finish(undefined));

  const peer: Peer = {
    call: calling.call,
    notify: (method, params) => {
      const frame = encodeControl(JSON.stringify({ jsonrpc: '2.0', method, params }));
      if (open && !sender.offer(frame)) throw new KhloneError('rate-limited', 'too much waits to be sent');
    },
    subscribe: (params, signal) => subscribe(peer, params, signal),
    close: finish,
    closed: ended.promise,
    lastReceivedMs: () => receivedMs,
  };
  return peer;
};

async function* subscribe(peer: Peer, params: unknown, signal: AbortSignal): AsyncGenerator<unknown> {
  const { body } = await peer.call('subscribe', params, { signal });
  if (!body) throw new KhloneError('internal', 'the other side answered a subscription without items');
  yield* readItems(body);
}

/**
 * End our side and wait for the other's: destroying with bytes unread would make the kernel throw away what the other
 * side has not read yet. It is destroyed when that takes over CLOSE_GRACE_MS.
 */
const endDuplex = (duplex: Duplex): void => {
  if (duplex.destroyed) return;
  const timer = setTimeout(() => duplex.destroy(), CLOSE_GRACE_MS);
  duplex.once('close', () => clearTimeout(timer));
  duplex.end();
  duplex.resume();
};
