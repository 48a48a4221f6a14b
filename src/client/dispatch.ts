import type { AnswerOf, Params } from '../protocol/calls.ts';
import { asKhloneError, KhloneError } from '../protocol/error.ts';
import { faultPoint } from '../protocol/fault-point.ts';
import { taskIdOf } from '../protocol/id.ts';
import { oneLine } from '../protocol/sanitize.ts';
import type { App } from './app.ts';
import { type Binding, specOf } from './bindings.ts';
import { call } from './call.ts';
import { type Caller, interrupted } from './caller.ts';
import { environmentFor, pushEnvironment } from './environments.ts';
import { AWAY_HINT } from './link/away.ts';
import type { Connected, Lender, Link } from './link/link.ts';
import { soonest } from './patience.ts';
import type { Place } from './place.ts';
import { keepSession, type SessionChoice } from './sessions.ts';
import { snapshotBinding } from './worksite-snapshot.ts';

/**
 * From a prompt to a receipt. The task's id derives from the caller's nonce, so every retry and every fallback names
 * the same task; it is sent at once, and only when no answer comes it goes to the outbox, durable, to be sent later.
 */

export type Dispatch = {
  kind: 'ask' | 'act';
  prompt: string;
  who: string | undefined;
  session: SessionChoice;
  prioritize: boolean;
  limitMs: number | undefined;
  /** The host has this long to answer; absent: the usual time. */
  withinMs?: number;
  /** The line that tells a receipt to who interrupts when the task may have reached the server. */
  tell: (receipt: Receipt) => string;
};

export type Receipt =
  | { type: 'accepted'; id: string; answer: AnswerOf<'task.add'> }
  | { type: 'queued-here'; id: string; why: KhloneError };

/** The host has this long to answer before the task waits here. */
const ANSWER_WITHIN_MS = 3_000;
const LOCAL_WITHIN_MS = 15_000;
/** How often a waiting command looks whether the dial is busy with something that excuses it. */
const TICK_MS = 250;
/** Least wait once a person was asked or a host was set up: the login goes on from there. */
const AFTER_BUSY_MS = 3_000;
/** Longer prompts travel as the body of the call. */
const INLINE_PROMPT_BYTES = 48 * 1024;

/** Faults that time mends: the task waits here. Others are told at once, and nothing was queued. */
const WAITS = new Set(['unreachable', 'timeout', 'shutting-down', 'remote-setup', 'start-failed']);

/** Faults of which nobody knows whether they last: a bug, or an answer that another version understands. */
export const ODD = new Set(['internal', 'invalid-request']);

export const lenderOf = (caller: Caller): Lender => ({
  env: caller.env,
  ask: caller.ask,
  progress: (line) => caller.err(`◌ ${line}\n`),
});

const notAnswering = (name: string): KhloneError =>
  new KhloneError('unreachable', `${name} does not answer`, AWAY_HINT);

/** A dial under way may have met a path that was not there yet: a person who came since has one of their own. */
const dialAfresh = async (link: Link, lender: Lender): Promise<Connected> => {
  const joins = link.dialing();
  try {
    return await link.connect(lender);
  } catch (thrown) {
    const { code, data } = asKhloneError(thrown);
    // One that reached sshd is not followed at once: it counts them.
    if (!joins || code !== 'unreachable' || data?.stage !== 'connect') throw thrown;
    return link.connect(lender);
  }
};

/**
 * The connection, or `unreachable` after the wait; the dial goes on behind. A person who is asked something and the
 * first setup of a host may take their time, which their own deadlines bound.
 */
export const connectWithin = async (link: Link, caller: Caller, ms: number): Promise<Connected> => {
  const here = link.current();
  if (here) return here;
  // A shell's own path brings neither its whole environment nor a terminal: ssh needs the one, a person the other.
  if (link.name !== 'local') caller.handOver?.();
  const dialing = dialAfresh(link, lenderOf(caller));
  for (let end = performance.now() + ms; ; ) {
    const made = await soonest(dialing, Math.min(TICK_MS, end - performance.now()), caller.signal);
    if (made) return made;
    if (link.busyWith()) end = performance.now() + Math.max(ms, AFTER_BUSY_MS);
    else if (performance.now() >= end) throw notAnswering(link.name);
  }
};

const paramsOf = (place: Place, id: string, wish: Dispatch): Params<'task.add'> => ({
  id,
  kind: wish.kind,
  ...(Buffer.byteLength(wish.prompt) <= INLINE_PROMPT_BYTES && { prompt: wish.prompt }),
  zone: specOf(place.binding),
  policy: place.policy,
  ...(wish.who !== undefined && { who: wish.who }),
  session: wish.session.session,
  prioritize: wish.prioritize,
  ...(wish.limitMs !== undefined && { limitMs: wish.limitMs }),
});

async function* bytesOf(text: string): AsyncGenerator<Uint8Array> {
  yield Buffer.from(text);
}

/**
 * Sends one task, and its environment behind it where the server has none: what was accepted stays accepted when that
 * fails. The task is held then, `onHeld` is told why, and the next connection brings the environment.
 */
export const sendTask = async (
  app: App,
  connected: Connected,
  params: Params<'task.add'>,
  prompt: string,
  timeoutMs: number,
  onHeld: (why: KhloneError) => void = () => {},
): Promise<AnswerOf<'task.add'>> => {
  const body = params.prompt === undefined ? { body: bytesOf(prompt) } : {};
  const answer = await call(connected.peer, 'task.add', params, { timeoutMs, ...body });
  faultPoint('server-answered');
  if (answer.needsEnvironment) {
    await pushEnvironment(app, connected.peer, params.zone.id, false).catch((thrown: unknown) =>
      onHeld(asKhloneError(thrown)),
    );
  }
  return answer;
};

const accepted = (
  app: App,
  caller: Caller,
  place: Place,
  connected: Connected,
  answer: AnswerOf<'task.add'>,
): void => {
  const { binding } = place;
  if (answer.zoneMade || place.isNew) {
    app.watchZone(binding);
    void snapshotBinding(app, place, connected).catch(() => {});
  }
  if (!answer.needsCode) return;
  // In the background of this command: the task is accepted, and waits until the code is there.
  void app.carrier.carry(place).catch((thrown: unknown) => {
    caller.err(`⚠ the code could not be carried: ${oneLine(asKhloneError(thrown).message, 500)}\n`);
  });
};

const queueHere = (app: App, place: Place, id: string, wish: Dispatch, sentTo: string | undefined): void => {
  const { host, zone } = place.binding;
  const params = paramsOf(place, id, wish);
  app.outbox.put({
    host,
    ...(sentTo && { sentTo }),
    queuedMs: Date.now(),
    say: `${wish.kind} ${wish.prompt.slice(0, 80)}`,
    call: { name: 'task.add', params, ...(params.prompt === undefined && { prompt: wish.prompt }) },
  });
  app.known.touch(zone);
  void app.flush(host).catch(() => {});
};

/** Whether all that was accepted before is with the server: what waits here goes first. */
const isFirstInLine = async (app: App, caller: Caller, host: string, ms: number): Promise<boolean> => {
  if (!app.outbox.first(host)) return true;
  const flushed = app.flush(host).catch((thrown: unknown) => {
    // Of an earlier task, and tried again: this one waits behind it.
    if (!ODD.has(asKhloneError(thrown).code)) throw thrown;
  });
  await soonest(flushed, ms, caller.signal);
  return !app.outbox.first(host);
};

/** A first task that was refused made no zone: what was noted of it here goes, unless another task made it meanwhile. */
const forgetUnmade = async (app: App, binding: Binding, connected: Connected | undefined): Promise<void> => {
  const { zone } = binding;
  const answer = connected && (await call(connected.peer, 'zone.get', { zone }).catch(() => undefined));
  if (!answer || answer.zone) return;
  app.bindings.remove(zone);
  app.environments.delete(zone);
  app.known.forget(zone);
};

/** Whether a second connection to the same server took over from one that fell silent. */
const isReplaced = (link: Link, used: Connected | undefined): boolean => {
  const now = link.current();
  return !!now && !!used && now !== used && now.server.uuid === used.server.uuid;
};

/** Dispatches a task. The receipt is true: committed by the server, or durable here. */
export const dispatch = async (app: App, caller: Caller, place: Place, wish: Dispatch): Promise<Receipt> => {
  const id = taskIdOf(caller.nonce);
  const { binding, config } = place;
  const link = app.link(binding.host);
  const within = wish.withinMs ?? (binding.host === 'local' ? LOCAL_WITHIN_MS : ANSWER_WITHIN_MS);
  const firstHere = !app.environments.has(binding.zone);
  await environmentFor(app, caller, binding, config, false);
  keepSession(app, caller, binding, wish.session);
  let sentTo: string | undefined;
  let used: Connected | undefined;
  let end = Number.POSITIVE_INFINITY;
  let kept: Receipt | undefined;
  /** It may be with the server: kept here as well it is the same task, and surely there. */
  const keep = (): string => {
    kept = { type: 'queued-here', id, why: interrupted() };
    queueHere(app, place, id, wish, sentTo);
    return wish.tell(kept);
  };
  const send = async (): Promise<Receipt> => {
    const connected = await connectWithin(link, caller, within);
    used = connected;
    end = Math.min(end, performance.now() + within);
    const leftMs = (): number => Math.max(1, end - performance.now());
    if (!(await isFirstInLine(app, caller, binding.host, leftMs()))) throw notAnswering(link.name);
    if (firstHere) await pushEnvironment(app, connected.peer, binding.zone, false, leftMs());
    if (caller.signal.aborted) throw interrupted();
    sentTo = connected.server.uuid;
    caller.lastWords(keep);
    const params = paramsOf(place, id, wish);
    const answer = await sendTask(app, connected, params, wish.prompt, leftMs(), (why) =>
      caller.err(`⚠ ${id} waits for its environment: ${oneLine(why.message, 500)}\n`),
    );
    accepted(app, caller, place, connected, answer);
    return { type: 'accepted', id, answer };
  };
  try {
    return await send().catch((thrown: unknown) => {
      // The same task again is the same task, and the receipt says what became of it.
      if (WAITS.has(asKhloneError(thrown).code) && isReplaced(link, used)) return send();
      throw thrown;
    });
  } catch (thrown) {
    if (kept) return kept;
    const why = asKhloneError(thrown);
    if (!WAITS.has(why.code)) {
      if (place.isNew) await forgetUnmade(app, binding, link.current());
      throw why;
    }
    queueHere(app, place, id, wish, sentTo);
    return { type: 'queued-here', id, why };
  }
};
