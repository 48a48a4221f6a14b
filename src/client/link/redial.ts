import type { Lender, Link } from './link.ts';

/** Brings lost connections back: it never gives up while they are wanted, and waits longer each time. */

export type Redial = {
  /** Dials again soon, unless that is under way. */
  soon(host: string): void;
  /** Milliseconds until the next try, or nothing where none is planned. */
  nextTryMs(host: string): number | undefined;
  stop(): void;
};

export type RedialDeps = {
  link(host: string): Link;
  /** The surroundings of whoever used the host last. */
  env(host: string): Lender['env'];
  /** Whether anybody would notice: something waits to be sent, or its zones are in use. */
  wanted(host: string): boolean;
};

const FIRST_WAIT_MS = 250;
const MAX_WAIT_MS = 30_000;
/** 2^10 × 250 ms is far above the longest wait. */
const MAX_DOUBLINGS = 10;

/** Full jitter: hubs that lost a host at the same moment do not come back at the same moment. */
const waitMs = (tries: number): number =>
  Math.random() * Math.min(MAX_WAIT_MS, FIRST_WAIT_MS * 2 ** Math.min(tries, MAX_DOUBLINGS));

export const createRedial = (deps: RedialDeps): Redial => {
  const tries = new Map<string, number>();
  const planned = new Map<string, { timer: NodeJS.Timeout; atMs: number }>();
  let over = false;

  const forget = (host: string): void => {
    clearTimeout(planned.get(host)?.timer);
    planned.delete(host);
  };

  const attempt = async (host: string): Promise<void> => {
    forget(host);
    const link = deps.link(host);
    if (!link.current()) {
      // Nobody is there to be asked: what needs a person is refused, and waits for one.
      await link.connect({ env: deps.env(host), ask: undefined }).catch(() => undefined);
    }
    if (link.current()) tries.delete(host);
    else if (link.state() !== 'refused') soon(host);
  };

  const soon = (host: string): void => {
    if (over || planned.has(host) || !deps.wanted(host)) return;
    const n = tries.get(host) ?? 0;
    tries.set(host, n + 1);
    const inMs = waitMs(n);
    const timer = setTimeout(() => void attempt(host), inMs);
    timer.unref();
    planned.set(host, { timer, atMs: Date.now() + inMs });
  };

  return {
    soon,
    nextTryMs: (host) => {
      const plan = planned.get(host);
      return plan && Math.max(0, plan.atMs - Date.now());
    },
    stop: () => {
      over = true;
      for (const host of [...planned.keys()]) forget(host);
    },
  };
};
