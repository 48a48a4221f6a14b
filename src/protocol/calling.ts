import type { Body, Klass } from './body.ts';
import { asKhloneError, fromWire, KhloneError } from './error.ts';
import { encodeControl } from './frame.ts';
import type { Inlets } from './inlets.ts';
import { BODIES_IN_FLIGHT, CALL_DEADLINE_MS, CALLS_IN_FLIGHT, TIMER_MAX_MS } from './limits.ts';
import type { BodyMark, Message } from './message.ts';
import type { Sender } from './sender.ts';

/**
 * `timeoutMs` bounds the wait for the answer, not for the body behind it (default CALL_DEADLINE_MS, Infinity: none).
 * `signal` ends the wait and, later, the answer's body. `body` follows the call; its `klass` is bulk unless named.
 */
export type CallOptions = { signal?: AbortSignal; timeoutMs?: number; body?: Body; klass?: Klass };

/** `body` must be read or left (return()): until then it keeps up to a window of bytes. */
export type Reply = { value: unknown; body: Body | undefined };

/** Our calls on one connection. */
export type Calling = {
  call(method: string, params: unknown, options?: CallOptions): Promise<Reply>;
  settle(message: Extract<Message, { kind: 'answer' | 'failure' }>): void;
  failAll(error: KhloneError): void;
};

type Pending = {
  resolve(value: unknown, mark: BodyMark | undefined): void;
  reject(error: KhloneError): void;
};

const interrupted = (): KhloneError => new KhloneError('interrupted', 'interrupted');

const busy = (what: string): KhloneError =>
  new KhloneError('rate-limited', `${what} on one connection`, 'wait for an answer before the next call');

/** One wait, bounded by a deadline and a signal: whichever comes first ends it, and the other is let go. */
const watch = (method: string, options: CallOptions, leave: (error: KhloneError) => void): (() => void) => {
  const { signal, timeoutMs = CALL_DEADLINE_MS } = options;
  const onAbort = (): void => leave(interrupted());
  const onDeadline = (): void =>
    leave(new KhloneError('timeout', `no answer to ${method} within ${timeoutMs} ms`));
  const timer = timeoutMs > TIMER_MAX_MS ? undefined : setTimeout(onDeadline, timeoutMs);
  signal?.addEventListener('abort', onAbort, { once: true });
  return () => {
    clearTimeout(timer);
    signal?.removeEventListener('abort', onAbort);
  };
};

/** The body of an answer: it breaks when the caller's signal aborts, and forgets the signal when it is over. */
const acceptBody = (inlets: Inlets, mark: BodyMark, signal: AbortSignal | undefined): Body => {
  const onAbort = (): void => inlet?.leave(interrupted());
  const inlet = inlets.accept(mark, () => signal?.removeEventListener('abort', onAbort));
  if (!inlet) throw busy(`over ${BODIES_IN_FLIGHT} bodies`);
  signal?.addEventListener('abort', onAbort, { once: true });
  return inlet.body;
};

/** Put a call on the wire; throws what keeps it from going. Answers with the stream of its body. */
const send = (
  sender: Sender,
  id: number,
  method: string,
  params: unknown,
  { body, klass = 'bulk' }: CallOptions,
): number | undefined => {
  const stream = body ? sender.reserve() : undefined;
  const mark = stream === undefined ? undefined : { stream, klass };
  const frame = encodeControl(JSON.stringify({ jsonrpc: '2.0', id, method, params, body: mark }));
  if (!sender.offer(frame)) throw busy('too much waits to be sent');
  if (body && stream !== undefined) sender.open(stream, body, klass, () => undefined);
  return stream;
};

export const createCalling = (sender: Sender, inlets: Inlets): Calling => {
  const pending = new Map<number, Pending>();
  let lastId = 0;
  let gone: KhloneError | undefined;

  const refusal = ({ signal, body }: CallOptions): KhloneError | undefined => {
    if (gone) return gone;
    if (signal?.aborted) return interrupted();
    if (pending.size >= CALLS_IN_FLIGHT) return busy(`over ${CALLS_IN_FLIGHT} calls`);
    if (body && sender.size() >= BODIES_IN_FLIGHT) return busy(`over ${BODIES_IN_FLIGHT} bodies`);
    return undefined;
  };

  /** Leave without an answer: the other side is told, and the rest of our body stays here. */
  const abandon = (id: number, stream: number | undefined, error: KhloneError): void => {
    pending.get(id)?.reject(error);
    sender.send(encodeControl(JSON.stringify({ jsonrpc: '2.0', method: '$/cancel', params: { id } })));
    if (stream !== undefined) sender.abort(stream, error);
  };

  const call: Calling['call'] = async (method, params, options = {}) => {
    const refused = refusal(options);
    if (refused) throw refused;
    const id = ++lastId;
    const stream = send(sender, id, method, params, options);
    const answer = Promise.withResolvers<Reply>();
    const unwatch = watch(method, options, (error) => abandon(id, stream, error));
    const forget = (): void => {
      pending.delete(id);
      unwatch();
    };
    pending.set(id, {
      resolve: (value, mark) => {
        forget();
        answer.resolve({ value, body: mark && acceptBody(inlets, mark, options.signal) });
      },
      reject: (error) => {
        forget();
        answer.reject(error);
      },
    });
    return answer.promise;
  };

  return {
    call,
    settle: (message) => {
      const waiting = typeof message.id === 'number' ? pending.get(message.id) : undefined;
      if (message.kind === 'failure') return waiting?.reject(fromWire(message.error));
      if (!waiting) return message.body && inlets.refuse(message.body);
      try {
        waiting.resolve(message.value, message.body);
      } catch (thrown) {
        // Too many bodies is this call's failure; a stream announced twice is the connection's end as well.
        const error = asKhloneError(thrown);
        waiting.reject(error);
        if (error.code === 'parse-error') throw error;
      }
    },
    failAll: (error) => {
      gone = error;
      for (const waiting of [...pending.values()]) waiting.reject(error);
    },
  };
};
