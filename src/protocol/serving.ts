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

/**
 * What serving needs of the connection. A handler's own fault (anything
 * but a KhloneError) answers `internal` and is told to `onFault` with its stack, which never goes on the wire.
 */
export type Floor = {
  sender: Sender;
  inlets: Inlets;
  handlers: Handlers;
  peer(): Peer;
  onFault(method: string, thrown: unknown): void;
};

/** A call being served: `over` is for when nothing of it is left, its answer's body included. */
type Job = { call: Call; cancel(): void; over(): void; cancelled(): boolean };

const failureFrame = (id: CallId | null, error: KhloneError): Buffer => {
  const frame = (told: KhloneError): Buffer =>
    encodeControl(JSON.stringify({ jsonrpc: '2.0', id, error: toWire(told) }));
  try {
    return frame(error);
  } catch {
    // The error's data is too large or no JSON: the words alone must do.
    return frame(new KhloneError(error.code, error.message));
  }
};

/** End a body that will not be sent: its source may hold files. */
const discard = async (body: Body | undefined): Promise<void> => {
  try {
    await body?.[Symbol.asyncIterator]().return?.();
  } catch {
    // Nobody is left who could be told.
  }
};

const createJob = (floor: Floor, params: unknown, inlet: Inlet | undefined): Job => {
  // Most calls never look at their signal, so it is made when it is asked for.
  let controller: AbortController | undefined;
  let cancelled = false;
  const cancel = (): void => {
    cancelled = true;
    controller?.abort();
  };
  const call: Call = {
    params,
    body: inlet?.body,
    peer: floor.peer(),
    get signal() {
      controller ??= new AbortController();
      if (cancelled) controller.abort();
      return controller.signal;
    },
  };
  const over = (): void => {
    inlet?.leave();
    cancel();
  };
  return { call, cancel, over, cancelled: () => cancelled };
};

/** Send an answer and the body behind it. */
const reply = ({ sender }: Floor, id: CallId, answer: Answer, over: () => void): void => {
  const { value, body, klass = 'bulk' } = answer;
  if (body && sender.size() >= BODIES_IN_FLIGHT) {
    throw new KhloneError('rate-limited', `over ${BODIES_IN_FLIGHT} bodies on one connection`);
  }
  const mark = body && { stream: sender.reserve(), klass };
  sender.send(encodeControl(JSON.stringify({ jsonrpc: '2.0', id, result: value ?? null, body: mark })));
  if (body && mark) sender.open(mark.stream, body, klass, over);
  else over();
};

/** Run a handler; `served` when it has returned. A call without an id (a notice) gets no answer. */
const run = async (floor: Floor, method: string, id: CallId | undefined, job: Job, served: () => void) => {
  let answer: Answer | undefined;
  try {
    answer = await floor.handlers[method]?.(job.call);
    served();
    if (job.cancelled()) throw new KhloneError('interrupted', 'the caller left');
    if (id !== undefined) return reply(floor, id, answer ?? { value: null }, job.over);
  } catch (thrown) {
    served();
    if (!(thrown instanceof KhloneError) && !job.cancelled()) floor.onFault(method, thrown);
    if (id !== undefined) floor.sender.send(failureFrame(id, publicError(thrown)));
  }
  void discard(answer?.body);
  job.over();
};

export const createServing = (floor: Floor): Serving => {
  const { sender, inlets, handlers } = floor;
  const jobs = new Map<CallId | symbol, Job>();

  const start = (method: string, params: unknown, id: CallId | undefined, inlet: Inlet | undefined): void => {
    const key = id ?? Symbol(method);
    const job = createJob(floor, params, inlet);
    jobs.set(key, job);
    void run(floor, method, id, job, () => jobs.delete(key));
  };

  const refusal = (id: CallId, method: string): KhloneError | undefined => {
    if (jobs.has(id)) return new KhloneError('invalid-request', `id ${id} is in use`);
    if (jobs.size >= CALLS_IN_FLIGHT) {
      return new KhloneError('rate-limited', `over ${CALLS_IN_FLIGHT} calls in flight on one connection`);
    }
    if (Object.hasOwn(handlers, method)) return undefined;
    return new KhloneError('unknown-method', `no call is named ${JSON.stringify(method.slice(0, 100))}`);
  };

  const refuse = (id: CallId | null, error: KhloneError, body: BodyMark | undefined): void => {
    if (body) inlets.refuse(body);
    sender.send(failureFrame(id, error));
  };

  const takeCall = ({ id, method, params, body }: Extract<Message, { kind: 'call' }>): void => {
    const refused = refusal(id, method);
    if (refused) {
      refuse(id, refused, body);
      return;
    }
    const inlet = body && inlets.accept(body, () => undefined);
    if (inlet || !body) start(method, params, id, inlet);
    else sender.send(failureFrame(id, new KhloneError('rate-limited', `over ${BODIES_IN_FLIGHT} bodies`)));
  };

  /** Nobody waits for a notice, so one that cannot be served is dropped. */
  const takeNotice = ({ method, params }: Extract<Message, { kind: 'notice' }>): void => {
    if (method === '$/cancel') {
      const { id } = (params ?? {}) as { id?: unknown };
      if (typeof id === 'number' || typeof id === 'string') jobs.get(id)?.cancel();
    } else if (Object.hasOwn(handlers, method) && jobs.size < CALLS_IN_FLIGHT) {
      start(method, params, undefined, undefined);
    }
  };

  return {
    take: (message) => {
      if (message.kind === 'call') takeCall(message);
      else if (message.kind === 'notice') takeNotice(message);
      else if (message.asks)
        refuse(message.id, new KhloneError('invalid-request', message.why), message.body);
      else if (message.body) inlets.refuse(message.body);
    },
    abortAll: () => {
      for (const job of [...jobs.values()]) job.cancel();
    },
  };
};
