import type { Body, Klass } from './body.ts';
import { fromWire, KhloneError } from './error.ts';
import { encodeControl } from './frame.ts';
import type { Inlets } from './inlets.ts';
import { BODIES_IN_FLIGHT, CALL_DEADLINE_MS, CALLS_IN_FLIGHT, TIMER_MAX_MS } from './limits.ts';
import type { Message } from './message.ts';
import type { Sender } from './sender.ts';

/**
 * `timeoutMs` bounds the wait for the answer, not for the body behind it (default CALL_DEADLINE_MS, Infinity: none).
 * `signal` ends the wait and, later, the answer's body. `body` follows the call; its `klass` is bulk unless named.
 */
export type CallOptions = { signal?: AbortSignal; timeoutMs?: number; body?: Body; klass?: Klass };

/** `body` must be read or left (return()): until then it keeps up to a window of bytes. */
export type Reply = { value: unknown; body: Body | undefined };

type Pending = { reply(value: unknown, mark: BodyOf): void; fail(error: KhloneError): void };
type BodyOf = Extract<Message, { kind: 'answer' }>['body'];

/** Our calls on one connection. */
export type Calling = {
  call(method: string, params: unknown, options?: CallOptions): Promise<Reply>;
  settle(message: Extract<Message, { kind: 'answer' | 'failure' }>): void;
  failAll(error: KhloneError): void;
};

const busy = (what: string): KhloneError =>
  new KhloneError('rate-limited', `${what} on one connection`, 'wait for an answer before the next call');

export const createCalling = (sender: Sender, inlets: Inlets): Calling => {
  const pending = new Map<number, Pending>();
  let lastId = 0;
  let gone: KhloneError | undefined;

  const refusal = (options: CallOptions): KhloneError | undefined => {
    if (gone) return gone;
    if (options.signal?.aborted) return new KhloneError('interrupted', 'interrupted');
    if (pending.size >= CALLS_IN_FLIGHT) return busy(`over ${CALLS_IN_FLIGHT} calls`);
    if (options.body && sender.size() >= BODIES_IN_FLIGHT) return busy(`over ${BODIES_IN_FLIGHT} bodies`);
    return undefined;
  };

  /** Put the call on the wire; throws what keeps it from going. Answers with the stream of its body. */
  const send = (id: number, method: string, params: unknown, options: CallOptions): number | undefined => {
    const { body, klass = 'bulk' } = options;
    const stream = body ? sender.reserve() : undefined;
    const mark = stream === undefined ? undefined : { stream, klass };
    const frame = encodeControl(JSON.stringify({ jsonrpc: '2.0', id, method, params, body: mark }));
    if (!sender.control(frame)) throw busy('too much waits to be sent');
    if (body && stream !== undefined) sender.open(stream, body, klass, () => undefined);
    return stream;
  };

  /** The answer's body: it breaks when the caller's signal aborts, and forgets the signal when it is over. */
  const take = (mark: BodyOf, signal: AbortSignal | undefined): Body | undefined => {
    if (!mark) return undefined;
    const onAbort = (): void => inlet?.abandon(new KhloneError('interrupted', 'interrupted'));
    const inlet = inlets.accept(mark, () => signal?.removeEventListener('abort', onAbort));
    if (!inlet) throw busy(`over ${BODIES_IN_FLIGHT} bodies`);
    signal?.addEventListener('abort', onAbort, { once: true });
    return inlet.body;
  };

  const start = (
    method: string,
    params: unknown,
    options: CallOptions,
    done: PromiseWithResolvers<Reply>,
  ): void => {
    const { signal, timeoutMs = CALL_DEADLINE_MS } = options;
    const id = ++lastId;
    const stream = send(id, method, params, options);
    const forget = (): void => {
      pending.delete(id);
      clearTimeout(timer);
      signal?.removeEventListener('abort', onAbort);
    };
    const fail = (error: KhloneError): void => {
      forget();
      done.reject(error);
    };
    /** Leave without an answer: the other side is told, and the rest of our body stays here. */
    const leave = (error: KhloneError): void => {
      fail(error);
      sender.control(encodeControl(JSON.stringify({ jsonrpc: '2.0', method: '$/cancel', params: { id } })));
      if (stream !== undefined) sender.abort(stream, error);
    };
    const onAbort = (): void => leave(new KhloneError('interrupted', 'interrupted'));
    const onDeadline = (): void =>
      leave(new KhloneError('timeout', `no answer to ${method} within ${timeoutMs} ms`));
    const timer = timeoutMs > TIMER_MAX_MS ? undefined : setTimeout(onDeadline, timeoutMs);
    signal?.addEventListener('abort', onAbort, { once: true });
    pending.set(id, {
      fail,
      reply: (value, mark) => {
        forget();
        try {
          done.resolve({ value, body: take(mark, signal) });
        } catch (thrown) {
          // A stream announced twice ends the connection; everything else is only this call's failure.
          done.reject(thrown);
          if (thrown instanceof KhloneError && thrown.code === 'parse-error') throw thrown;
        }
      },
    });
  };

  return {
    call: (method, params, options = {}) => {
      const done = Promise.withResolvers<Reply>();
      try {
        const refused = refusal(options);
        if (refused) throw refused;
        start(method, params, options, done);
      } catch (thrown) {
        done.reject(thrown);
      }
      return done.promise;
    },
    settle: (message) => {
      const call = typeof message.id === 'number' ? pending.get(message.id) : undefined;
      if (message.kind === 'failure') call?.fail(fromWire(message.error));
      else if (call) call.reply(message.value, message.body);
      else if (message.body) inlets.refuse(message.body);
    },
    failAll: (error) => {
      gone = error;
      for (const call of [...pending.values()]) call.fail(error);
    },
  };
};
