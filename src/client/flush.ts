import { asKhloneError, KhloneError } from '../protocol/error.ts';
import { faultPoint } from '../protocol/fault-point.ts';
import type { App } from './app.ts';
import { call } from './call.ts';
import { ODD, sendTask } from './dispatch.ts';
import { AWAY_HINT } from './link/away.ts';
import type { Connected } from './link/link.ts';
import type { Queued } from './outbox.ts';

/** Sends what waits in the outbox, in order, while the host answers. When it does not, the link brings itself back. */

const SEND_DEADLINE_MS = 30_000;
/** A server that takes nothing now (its disk is full, too many callers) is asked again after this. */
const AGAIN_MS = 5_000;

/** Tries of an entry that meets odd faults, AGAIN_MS apart: few, because what is behind it waits as long. */
const ODD_TRIES = 6;

/** Faults after which the same entry is sent again. */
const AGAIN = new Set(['unreachable', 'timeout', 'shutting-down', 'rate-limited', 'disk-low']);

/** It may have reached a server whose state is gone: sent again it could run twice, so a person decides. */
const hold = (app: App, queued: Queued): void => app.outbox.update(queued, { ...queued.entry, held: true });

/** `refused`: names of what the server would not take. */
export type Sent = { tasks: number; cancels: number; files: number; refused: string[] };

type Tally = Omit<Sent, 'files'> & { files: Map<string, number> };

/** What was sent and no person was told of: a link that comes back by itself sends before anybody asks. */
const untold = new WeakMap<Connected, Tally>();

const tallyOf = (connected: Connected): Tally => {
  const tally = untold.get(connected) ?? { tasks: 0, cancels: 0, files: new Map(), refused: [] };
  untold.set(connected, tally);
  return tally;
};

const noteSent = (connected: Connected, { entry: { call } }: Queued): void => {
  const tally = tallyOf(connected);
  if (call.name === 'task.add') tally.tasks += 1;
  else if (call.name === 'task.cancel') tally.cancels += 1;
  // States that waited are counted from the same one: the last of a zone has the files of all.
  else tally.files.set(call.params.zone, call.params.files);
};

/** What this connection sent out of the outbox since this was asked last. */
export const takeSent = (connected: Connected): Sent => {
  const { tasks, cancels, files, refused } = tallyOf(connected);
  untold.delete(connected);
  return { tasks, cancels, files: [...files.values()].reduce((sum, n) => sum + n, 0), refused };
};

/** How often an entry met an odd fault, and when last, by its file. */
type Odd = Map<string, { tries: number; atMs: number }>;

/** Whether the same entry may be sent again after this fault. */
const mayAgain = (odd: Odd, { file }: Queued, code: string): boolean => {
  if (AGAIN.has(code)) return true;
  if (!ODD.has(code)) return false;
  const { tries, atMs } = odd.get(file) ?? { tries: 0, atMs: Number.NEGATIVE_INFINITY };
  // Commands that come in a row each begin a pass: that is one try.
  if (performance.now() - atMs < AGAIN_MS) return true;
  odd.set(file, { tries: tries + 1, atMs: performance.now() });
  return tries + 1 < ODD_TRIES;
};

/** Whether another state took the place of this one while it was sent: that one is still to be sent. */
const isReplaced = (app: App, { file, entry }: Queued): boolean =>
  app.outbox.list().find((one) => one.file === file)?.entry.call !== entry.call;

/** Sends a queued state; the entry goes when both sides have agreed on it. */
const sendState = async (
  app: App,
  connected: Connected,
  queued: Queued,
  params: { zone: string; tree: string },
  odd: Odd,
): Promise<void> => {
  const { sendQueued } = await import('./patches/queue.ts');
  try {
    await sendQueued(app, connected, params);
  } catch (thrown) {
    const error = asKhloneError(thrown);
    if (mayAgain(odd, queued, error.code)) throw error;
    if (!isReplaced(app, queued)) app.outbox.refuse(queued, error);
    return;
  }
  faultPoint('outbox-answered');
  if (!isReplaced(app, queued)) app.outbox.remove(queued);
  noteSent(connected, queued);
};

/** Sends one entry; when this returns it is settled, also where the server refused it. */
const send = async (app: App, connected: Connected, queued: Queued, odd: Odd): Promise<void> => {
  const { entry } = queued;
  // A state is compared with what is there: it cannot take effect twice, and needs no mark.
  if (entry.call.name === 'patch.sync') return sendState(app, connected, queued, entry.call.params, odd);
  // Nor can a cancel, and a server that never had its task says so.
  const isTask = entry.call.name === 'task.add';
  if (isTask && entry.sentTo && entry.sentTo !== connected.server.uuid) return hold(app, queued);
  if (isTask && !entry.sentTo) app.outbox.update(queued, { ...entry, sentTo: connected.server.uuid });
  faultPoint('outbox-marked');
  try {
    if (entry.call.name === 'task.cancel') {
      await call(connected.peer, 'task.cancel', entry.call.params, { timeoutMs: SEND_DEADLINE_MS });
    } else {
      const { params, prompt = '' } = entry.call;
      const answer = await sendTask(app, connected, params, prompt, SEND_DEADLINE_MS);
      if (answer.needsCode) app.carrier.resume(params.zone.id);
    }
  } catch (thrown) {
    const error = asKhloneError(thrown);
    if (mayAgain(odd, queued, error.code)) throw error;
    odd.delete(queued.file);
    // The server's word is final: the entry becomes a failed task with its reason, kept for the person to see.
    tallyOf(connected).refused.push(app.outbox.refuse(queued, error));
    return;
  }
  faultPoint('outbox-answered');
  odd.delete(queued.file);
  app.outbox.remove(queued);
  noteSent(connected, queued);
};

/** The list is read anew after each entry: what was queued meanwhile belongs behind, and goes with the same pass. */
const sendAll = async (app: App, host: string, connected: Connected, odd: Odd): Promise<void> => {
  for (let next = app.outbox.first(host); next; next = app.outbox.first(host)) {
    await send(app, connected, next, odd);
  }
};

/** One sender per host: a second call joins the first. Throws what ended the pass early; the rest is tried again. */
export const createFlusher = (appOf: () => App): ((host: string) => Promise<void>) => {
  const busy = new Map<string, Promise<void>>();
  const odd: Odd = new Map();

  const once = async (host: string): Promise<void> => {
    const app = appOf();
    if (!app.outbox.first(host)) return;
    const link = app.link(host);
    const connected = link.current();
    try {
      if (!connected) throw new KhloneError('unreachable', `${host} does not answer`, AWAY_HINT);
      await sendAll(app, host, connected, odd);
    } catch (thrown) {
      if (link.current()) setTimeout(() => void flush(host).catch(() => {}), AGAIN_MS).unref();
      else app.redial.soon(host);
      throw thrown;
    } finally {
      for (const binding of app.bindings.all()) if (binding.host === host) app.known.touch(binding.zone);
    }
  };

  const flush = (host: string): Promise<void> => {
    const running = busy.get(host);
    if (running) return running;
    const made = once(host).finally(() => busy.delete(host));
    busy.set(host, made);
    return made;
  };
  return flush;
};
