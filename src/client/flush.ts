import { asKhloneError } from '../protocol/error.ts';
import type { App } from './app.ts';
import { call } from './call.ts';
import { sendTask } from './dispatch.ts';
import type { Connected, Lender } from './link/link.ts';
import type { Queued } from './outbox.ts';

/** Sends what waits in the outbox, in order, once the host answers. It never gives up; it waits longer each time. */

const FIRST_WAIT_MS = 250;
const MAX_WAIT_MS = 30_000;
const SEND_DEADLINE_MS = 30_000;

/** Nobody is there to ask while a background retry dials. */
const NOBODY: Omit<Lender, 'env'> = { ask: undefined };

/** Full jitter: hubs that lost a host at the same moment do not come back at the same moment. */
const waitMs = (tries: number): number => Math.random() * Math.min(MAX_WAIT_MS, FIRST_WAIT_MS * 2 ** tries);

/** Sends one entry. True: it is settled, also when the server refused it. */
const send = async (app: App, connected: Connected, queued: Queued): Promise<boolean> => {
  const { entry } = queued;
  if (entry.sentTo && entry.sentTo !== connected.server.uuid) return false;
  if (!entry.sentTo) app.outbox.update(queued, { ...entry, sentTo: connected.server.uuid });
  try {
    if (entry.call.name === 'task.cancel') {
      await call(connected.peer, 'task.cancel', entry.call.params, { timeoutMs: SEND_DEADLINE_MS });
    } else {
      const { params, prompt = '' } = entry.call;
      await sendTask(app, connected, params, prompt, SEND_DEADLINE_MS);
    }
  } catch (thrown) {
    const error = asKhloneError(thrown);
    if (['unreachable', 'timeout', 'shutting-down', 'rate-limited', 'disk-low'].includes(error.code))
      throw error;
    // The server's word is final: the entry becomes a failed task with its reason, kept for the person to see.
    app.outbox.refuse(queued, error);
    return true;
  }
  app.outbox.remove(queued);
  return true;
};

const sendAll = async (app: App, host: string, connected: Connected): Promise<void> => {
  for (const queued of app.outbox.list(host)) {
    if (!(await send(app, connected, queued))) return;
  }
};

/** One sender per host: a second call joins the first, and a timer tries again while something waits. */
export const createFlusher = (appOf: () => App): ((host: string) => Promise<void>) => {
  const busy = new Map<string, Promise<void>>();
  const tries = new Map<string, number>();

  const later = (host: string): void => {
    const n = tries.get(host) ?? 0;
    tries.set(host, n + 1);
    setTimeout(() => void flush(host).catch(() => {}), waitMs(n)).unref();
  };

  const once = async (host: string): Promise<void> => {
    const app = appOf();
    if (app.outbox.list(host).length === 0) return;
    const link = app.link(host);
    try {
      const connected = link.current() ?? (await link.connect({ ...NOBODY, env: process.env }));
      await sendAll(app, host, connected);
      tries.delete(host);
    } catch (thrown) {
      if (link.state() !== 'refused') later(host);
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
