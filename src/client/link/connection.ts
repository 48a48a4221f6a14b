import type { Duplex } from 'node:stream';
import { CALLS } from '../../protocol/calls.ts';
import { asKhloneError, KhloneError } from '../../protocol/error.ts';
import { HELLO_DEADLINE_MS, PROTOCOL } from '../../protocol/limits.ts';
import { createPeer } from '../../protocol/peer.ts';
import type { Connected, Lender, Link, LinkState } from './link.ts';

/** What all links share: one connection at a time, one dial for all who wait, and its own judgement of liveness. */

export type Dial = (
  lender: Lender,
  signal: AbortSignal,
  installing: (yes: boolean) => void,
) => Promise<{ duplex: Duplex; close(): void }>;

export type LinkEvents = {
  onChange?: (link: Link) => void;
  /** A connection is there and has said hello. */
  onOnline?: (link: Link, connected: Connected) => void;
};

/** An idle connection is asked for a sign of life this often; a dead one is then found before anybody needs it. */
const PING_EVERY_MS = 10_000;
const PING_DEADLINE_MS = 8_000;

const hello = async (duplex: Duplex, build: string): Promise<Connected> => {
  const peer = createPeer(duplex, {});
  try {
    const params = { proto: [PROTOCOL.min, PROTOCOL.max], build };
    const { value } = await peer.call('hello', params, { timeoutMs: HELLO_DEADLINE_MS });
    const facts = CALLS.hello.answer.safeParse(value);
    if (!facts.success)
      throw new KhloneError('version', 'the server answers in an unknown way', 'upgrade khlone');
    return { peer, server: facts.data };
  } catch (error) {
    peer.close();
    throw error;
  }
};

/** Errors that a retry without a person cannot mend. */
const FINAL = new Set(['host-key', 'ssh-auth', 'version', 'denied', 'config']);

export const createLink = (
  name: string,
  build: string,
  dial: Dial,
  events: LinkEvents,
  pings: boolean,
): Link => {
  let state: LinkState = 'idle';
  let connected: Connected | undefined;
  let dialing: Promise<Connected> | undefined;
  let trouble: KhloneError | undefined;
  let lastSeenMs: number | undefined;
  let setup = false;
  let stop = new AbortController();

  const become = (next: LinkState): void => {
    const changed = state !== next;
    state = next;
    if (changed) events.onChange?.(link);
  };

  const watch = (open: Connected, close: () => void): void => {
    const timer = setInterval(() => {
      if (performance.now() - open.peer.lastReceivedMs() < PING_EVERY_MS) return;
      open.peer
        .call('zone.get', { zone: 'z-0000000000000000' }, { timeoutMs: PING_DEADLINE_MS })
        .catch((error) => {
          if (asKhloneError(error).code === 'timeout')
            open.peer.close(new KhloneError('unreachable', `${name} is silent`));
        });
    }, PING_EVERY_MS / 2);
    timer.unref();
    if (!pings) clearInterval(timer);
    open.peer.closed.then((why) => {
      clearInterval(timer);
      close();
      if (connected !== open) return;
      connected = undefined;
      lastSeenMs = Date.now();
      trouble = why ?? new KhloneError('unreachable', `${name} hung up`);
      become('offline');
    });
  };

  const open = async (lender: Lender): Promise<Connected> => {
    become('connecting');
    try {
      const wire = await dial(lender, stop.signal, (yes) => {
        setup = yes;
        if (yes) lender.progress?.(`setting up khlone on ${name}`);
      });
      const made = await hello(wire.duplex, build);
      connected = made;
      trouble = undefined;
      lastSeenMs = Date.now();
      watch(made, wire.close);
      become('online');
      events.onOnline?.(link, made);
      return made;
    } catch (thrown) {
      const error = asKhloneError(thrown);
      trouble = error;
      become(FINAL.has(error.code) ? 'refused' : 'offline');
      throw error;
    } finally {
      setup = false;
      dialing = undefined;
    }
  };

  const link: Link = {
    name,
    state: () => state,
    lastSeenMs: () => (connected ? Date.now() : lastSeenMs),
    trouble: () => trouble,
    installing: () => setup,
    current: () => connected,
    connect: (lender) => {
      if (connected) return Promise.resolve(connected);
      dialing ??= open(lender);
      return dialing;
    },
    close: () => {
      stop.abort();
      stop = new AbortController();
      connected?.peer.close();
    },
  };
  return link;
};

