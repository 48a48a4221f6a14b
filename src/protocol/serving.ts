import type { Body, Inlet, Klass } from './body.ts';
import { KhloneError, toWire } from './error.ts';
import { encodeControl } from './frame.ts';
import type { Inlets } from './inlets.ts';
import { BODIES_IN_FLIGHT, CALLS_IN_FLIGHT } from './limits.ts';
import { type BodyMark, type CallId, type Message, publicError } from './message.ts';
import type { Peer } from './peer.ts';
import type { Sender } from './sender.ts';

/**
 * One call of the other side. `signal` aborts when the caller cancels, when the connection ends, and when the
 * answer's body is over: a source that waits for events listens to it. `body` is readable until then.
 */
export type Call = { params: unknown; body: Body | undefined; signal: AbortSignal; peer: Peer };

/** `body`: bytes that follow the answer, of class `klass` (bulk unless named). */
export type Answer = { value: unknown; body?: Body; klass?: Klass };
export type Handlers = Record<string, (call: Call) => Promise<Answer> | Answer>;

/** The other side's calls on one connection. */
export type Serving = {
  take(message: Extract<Message, { kind: 'call' | 'notice' | 'invalid' }>): void;
  abortAll(): void;
};

type Job = { cancel(): void };
type Send = (frame: Buffer) => void;

const failureFrame = (id: CallId | null, error: KhloneError): Buffer => {
  try {
    return encodeControl(JSON.stringify({ jsonrpc: '2.0', id, error: toWire(error) }));
  } catch {
    return encodeControl(
      JSON.stringify({ jsonrpc: '2.0', id, error: toWire(new KhloneError(error.code, error.message)) }),
    );
  }
};

/** End a body that will not be sent: its source may hold files. */
const discard = (body: Body | undefined): void => {
  if (body) Promise.resolve(body[Symbol.asyncIterator]().return?.()).catch(() => undefined);
};

/**
 * `send` takes a frame or ends the connection. A handler's own fault (anything but a KhloneError) answers `internal`
 * and is told to `onFault`, with its stack, which never goes on the wire.
 */
export const createServing = (
  sender: Sender,
  inlets: Inlets,
  handlers: Handlers,
  peer: () => Peer,
  send: Send,
  onFault: (method: string, thrown: unknown) => void,
): Serving => {
  const jobs = new Map<CallId | symbol, Job>();

  const refuse = (id: CallId | null, error: KhloneError, body: BodyMark | undefined): void => {
    if (body) inlets.refuse(body);
    send(failureFrame(id, error));
  };

  const refusal = (id: CallId, method: string): KhloneError | undefined => {
    if (jobs.has(id)) return new KhloneError('invalid-request', `id ${id} is in use`);
    if (jobs.size >= CALLS_IN_FLIGHT) {
      return new KhloneError('rate-limited', `over ${CALLS_IN_FLIGHT} calls in flight on one connection`);
    }
    if (Object.hasOwn(handlers, method)) return undefined;
    return new KhloneError('unknown-method', `no call is named ${JSON.stringify(method.slice(0, 100))}`);
  };

  /** Answer a call; the body goes after it. `over` runs when nothing of this call is left. */
  const reply = (id: CallId, answer: Answer, over: () => void): void => {
    const { value, body, klass = 'bulk' } = answer;
    if (!body) {
      send(encodeControl(JSON.stringify({ jsonrpc: '2.0', id, result: value ?? null })));
      return over();
    }
    if (sender.size() >= BODIES_IN_FLIGHT) {
      throw new KhloneError('rate-limited', `over ${BODIES_IN_FLIGHT} bodies on one connection`);
    }
    const stream = sender.reserve();
    send(
      encodeControl(JSON.stringify({ jsonrpc: '2.0', id, result: value ?? null, body: { stream, klass } })),
    );
    sender.open(stream, body, klass, over);
  };

  /** Run one handler from its call to its last byte. */
  const run = async (
    id: CallId | symbol,
    method: string,
    params: unknown,
    inlet: Inlet | undefined,
  ): Promise<void> => {
    // Most calls never look at their signal, so it is made when it is asked for.
    let controller: AbortController | undefined;
    let cancelled = false;
    let running = true;
    const cancel = (): void => {
      cancelled = true;
      controller?.abort();
    };
    const over = (): void => {
      inlet?.stop();
      cancel();
    };
    const call: Call = {
      params,
      body: inlet?.body,
      peer: peer(),
      get signal() {
        controller ??= new AbortController();
        if (cancelled) controller.abort();
        return controller.signal;
      },
    };
    jobs.set(id, { cancel });
    const release = (): void => {
      if (running) jobs.delete(id);
      running = false;
    };
    let answer: Answer | undefined;
    try {
      answer = (await handlers[method]?.(call)) ?? { value: null };
      release();
      if (typeof id === 'symbol' || cancelled) {
        discard(answer.body);
        if (typeof id !== 'symbol') send(failureFrame(id, new KhloneError('interrupted', 'cancelled')));
        over();
      } else reply(id, answer, over);
    } catch (thrown) {
      release();
      discard(answer?.body);
      if (!(thrown instanceof KhloneError) && !cancelled) onFault(method, thrown);
      if (typeof id !== 'symbol') send(failureFrame(id, publicError(thrown)));
      over();
    }
  };

  const takeCall = (message: Extract<Message, { kind: 'call' }>): void => {
    const { id, method, params, body } = message;
    if (method === '$/ping' && !body)
      return send(encodeControl(`{"jsonrpc":"2.0","id":${JSON.stringify(id)},"result":null}`));
    const refused = refusal(id, method);
    if (refused) return refuse(id, refused, body);
    const inlet = body && inlets.accept(body, () => undefined);
    if (body && !inlet)
      return send(failureFrame(id, new KhloneError('rate-limited', 'too many bodies at once')));
    void run(id, method, params, inlet);
  };

  /** Nobody waits for a notice, so one that cannot be served is dropped. */
  const takeNotice = ({ method, params }: Extract<Message, { kind: 'notice' }>): void => {
    if (method === '$/cancel') {
      const { id } = (params ?? {}) as { id?: unknown };
      if (typeof id === 'number' || typeof id === 'string') jobs.get(id)?.cancel();
    } else if (Object.hasOwn(handlers, method) && jobs.size < CALLS_IN_FLIGHT) {
      void run(Symbol(method), method, params, undefined);
    }
  };

  return {
    take: (message) => {
      if (message.kind === 'call') return takeCall(message);
      if (message.kind === 'notice') return takeNotice(message);
      if (message.asks) refuse(message.id, new KhloneError('invalid-request', message.why), message.body);
      else if (message.body) inlets.refuse(message.body);
    },
    abortAll: () => {
      for (const job of [...jobs.values()]) job.cancel();
    },
  };
};
