import type { AnswerOf, Params } from '../protocol/calls.ts';
import { asKhloneError, KhloneError } from '../protocol/error.ts';
import { taskIdOf } from '../protocol/id.ts';
import type { App } from './app.ts';
import { specOf } from './bindings.ts';
import { call } from './call.ts';
import type { Caller } from './caller.ts';
import { carryCode } from './carry-code.ts';
import { environmentFor, pushEnvironment } from './environments.ts';
import type { Connected, Lender, Link } from './link/link.ts';
import type { Place } from './place.ts';
import { keepSession, type SessionChoice } from './sessions.ts';
import { oneLine } from './terminal/sanitize.ts';
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
};

export type Receipt =
  | { type: 'accepted'; id: string; answer: AnswerOf<'task.add'> }
  | { type: 'queued-here'; id: string; why: KhloneError };

/** The host has this long to answer before the task waits here. */
const ANSWER_WITHIN_MS = 3_000;
const LOCAL_WITHIN_MS = 15_000;
/** A first setup uploads khlone, and Node where the host has none: that takes as long as the line needs. */
const SETUP_WITHIN_MS = 15 * 60_000;
/** Longer prompts travel as the body of the call. */
const INLINE_PROMPT_BYTES = 48 * 1024;

/** Faults that time mends: the task waits here. Others are told at once, and nothing was queued. */
const WAITS = new Set(['unreachable', 'timeout', 'shutting-down', 'remote-setup']);

export const lenderOf = (caller: Caller): Lender => ({
  env: caller.env,
  ask: caller.ask,
  progress: (line) => caller.err(`◌ ${line}\n`),
});

const sleepUnless = (ms: number, signal: AbortSignal): Promise<'late'> =>
  new Promise((resolve, reject) => {
    const timer = setTimeout(() => resolve('late'), ms);
    signal.addEventListener('abort', () => {
      clearTimeout(timer);
      reject(new KhloneError('interrupted', 'interrupted'));
    });
  });

/** The connection, or `unreachable` after the wait; the dial goes on behind, and a first setup may take its time. */
export const connectWithin = async (link: Link, caller: Caller, ms: number): Promise<Connected> => {
  const dialing = link.connect(lenderOf(caller));
  dialing.catch(() => {});
  const first = await Promise.race([dialing, sleepUnless(ms, caller.signal)]);
  if (first !== 'late') return first;
  // A person at a terminal may be typing a passphrase, and a setup shows its progress: both are answers.
  if (link.installing() || caller.ask) {
    const second = await Promise.race([
      dialing,
      sleepUnless(link.installing() ? SETUP_WITHIN_MS : ms * 4, caller.signal),
    ]);
    if (second !== 'late') return second;
  }
  throw new KhloneError('unreachable', `${link.name} does not answer`, 'khlone reconnect');
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

/** Sends one task. Its environment goes first where the server has none: a brain is looked for on its PATH. */
export const sendTask = async (
  app: App,
  connected: Connected,
  params: Params<'task.add'>,
  prompt: string,
  timeoutMs: number,
): Promise<AnswerOf<'task.add'>> => {
  const body = params.prompt === undefined ? { body: bytesOf(prompt) } : {};
  const answer = await call(connected.peer, 'task.add', params, { timeoutMs, ...body });
  if (answer.needsEnvironment) await pushEnvironment(app, connected.peer, params.zone.id, false);
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
  void carryCode(app, connected.peer, place).catch((thrown: unknown) => {
    app.known.touch(binding.zone);
    caller.err(`⚠ the code could not be carried: ${oneLine(asKhloneError(thrown).message, 500)}\n`);
  });
};

const queueHere = (app: App, place: Place, id: string, wish: Dispatch, sentTo: string | undefined): void => {
  const params = paramsOf(place, id, wish);
  app.outbox.put({
    host: place.binding.host,
    ...(sentTo && { sentTo }),
    queuedMs: Date.now(),
    say: `${wish.kind} ${wish.prompt.slice(0, 80)}`,
    call: { name: 'task.add', params, ...(params.prompt === undefined && { prompt: wish.prompt }) },
  });
  app.known.touch(place.binding.zone);
  void app.flush(place.binding.host).catch(() => {});
};

/** Dispatches a task. The receipt is true: committed by the server, or durable here. */
export const dispatch = async (app: App, caller: Caller, place: Place, wish: Dispatch): Promise<Receipt> => {
  const id = taskIdOf(caller.nonce);
  const { binding, config } = place;
  const link = app.link(binding.host);
  const within = binding.host === 'local' ? LOCAL_WITHIN_MS : ANSWER_WITHIN_MS;
  const firstHere = !app.environments.has(binding.zone);
  await environmentFor(app, caller, binding, config, false);
  keepSession(app, caller, binding, wish.session);
  let sentTo: string | undefined;
  try {
    const connected = link.current() ?? (await connectWithin(link, caller, within));
    if (app.outbox.list(binding.host).length > 0) await app.flush(binding.host);
    if (firstHere) await pushEnvironment(app, connected.peer, binding.zone, false);
    sentTo = connected.server.uuid;
    const answer = await sendTask(app, connected, paramsOf(place, id, wish), wish.prompt, within);
    accepted(app, caller, place, connected, answer);
    return { type: 'accepted', id, answer };
  } catch (thrown) {
    const why = asKhloneError(thrown);
    if (why.code === 'version' || !WAITS.has(why.code)) throw why;
    queueHere(app, place, id, wish, sentTo);
    return { type: 'queued-here', id, why };
  }
};
