import { asKhloneError, KhloneError } from '../protocol/error.ts';
import type { App } from './app.ts';
import { call } from './call.ts';
import { sendTask } from './dispatch.ts';
import type { Connected } from './link/link.ts';
import type { Queued } from './outbox.ts';

/** Sends what waits in the outbox, in order, while the host answers. When it does not, the link brings itself back. */

const SEND_DEADLINE_MS = 30_000;
/** A server that takes nothing now (its disk is full, too many callers) is asked again after this. */
const AGAIN_MS = 5_000;

/** Faults after which the same entry is sent again. */
const AGAIN = new Set(['unreachable', 'timeout', 'shutting-down', 'rate-limited', 'disk-low']);

/** It may have reached a server whose state is gone: sent again it could run twice, so a person decides. */
const hold = (app: App, queued: Queued): void => app.outbox.update(queued, { ...queued.entry, held: true });

/** Sends one entry; when this returns it is settled, also where the server refused it. */
const send = async (app: App, connected: Connected, queued: Queued): Promise<void> => {
  const { entry } = queued;
  if (entry.sentTo && entry.sentTo !== connected.server.uuid) return hold(app, queued);
  if (!entry.sentTo) app.outbox.update(queued, { ...entry, sentTo: connected.server.uuid });
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
    if (AGAIN.has(error.code)) throw error;
    // The server's word is final: the entry becomes a failed task with its reason, kept for the person to see.
    app.outbox.refuse(queued, error);
    return;
  }
  app.outbox.remove(queued);
};

/** The list is read anew after each entry: what was queued meanwhile belongs behind, and goes with the same pass. */
const sendAll = async (app: App, host: string, connected: Connected): Promise<void> => {
  for (let next = app.outbox.first(host); next; next = app.outbox.first(host)) {
    await send(app, connected, next);
  }
};

/** One sender per host: a second call joins the first. Throws what ended the pass early; the rest is tried again. */
export const createFlusher = (appOf: () => App): ((host: string) => Promise<void>) => {
  const busy = new Map<string, Promise<void>>();

  const once = async (host: string): Promise<void> => {
    const app = appOf();
    if (!app.outbox.first(host)) return;
    const link = app.link(host);
    const connected = link.current();
    try {
      if (!connected) throw new KhloneError('unreachable', `${host} does not answer`, 'khlone reconnect');
      await sendAll(app, host, connected);
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
