import type { KhloneError } from '../../protocol/error.ts';
import type { Lender, Link } from './link.ts';

/** Brings lost connections back: it never gives up while they are wanted, and waits longer each time. */

export type Redial = {
  /** Dials again after a wait, unless that is planned or under way. */
  soon(host: string): void;
  /** Something changed for the better (awake, another network, a person wants it): the next try is at once. */
  afresh(host: string): void;
  /** A person's command needs the host: as `afresh`, but one that waits and asks again and again counts once. */
  person(host: string): void;
  /** A connection is there, whoever dialled it. */
  connected(host: string): void;
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
/** 2^10 × 250 ms is far above the longest wait. */
const MAX_DOUBLINGS = 10;
/** The longest wait, by how long the host has been away: somebody is still there to notice a minute's outage end. */
const MAX_WAIT_MS = [
  { awayMs: 90_000, waitMs: 750 },
  { awayMs: 3600_000, waitMs: 30_000 },
  { awayMs: Number.POSITIVE_INFINITY, waitMs: 60_000 },
] as const;
/** Least wait after a try that reached an sshd and did not log in: it counts them, and turns away who comes too often. */
const REACHED_WAIT_MS = 3_000;
/** A person who waits asks again and again; that is one wish within this time. */
const ONE_WISH_MS = 10_000;
/** A connection that ends sooner counts as one more failed try, so that a host that hangs up is not hammered. */
const STABLE_MS = 10_000;
/** One that lasted this long worked: what follows is a new outage, as between two tunnels. */
const WORKED_MS = 1_000;

/** Full jitter: hubs that lost a host at the same moment do not come back at the same moment. `chance` is 0..1. Pure. */
export const waitMs = (tries: number, awayMs: number, chance: number): number => {
  const longest = MAX_WAIT_MS.find((row) => awayMs < row.awayMs)?.waitMs ?? 60_000;
  return chance * Math.min(longest, FIRST_WAIT_MS * 2 ** Math.min(tries, MAX_DOUBLINGS));
};

const reachedSshd = (trouble: KhloneError | undefined): boolean =>
  trouble?.data?.stage === 'handshake' || trouble?.data?.stage === 'login';

/** One outage of a host: when it began, and when a connection was there in between. */
type Outage = { tries: number; sinceMs: number; connectedMs: number | undefined };

/** The outage that goes on, or a new one where a connection worked in between; its waits are short only if that held. */
const outageFrom = (known: Outage | undefined): Outage => {
  const now = performance.now();
  const fresh = { tries: 0, sinceMs: now, connectedMs: undefined };
  if (!known) return fresh;
  const heldMs = known.connectedMs === undefined ? 0 : now - known.connectedMs;
  if (heldMs >= STABLE_MS) return fresh;
  return { tries: known.tries, sinceMs: heldMs >= WORKED_MS ? now : known.sinceMs, connectedMs: undefined };
};

export const createRedial = (deps: RedialDeps): Redial => {
  const outages = new Map<string, Outage>();
  const planned = new Map<string, { timer: NodeJS.Timeout; atMs: number }>();
  const wishes = new Map<string, number>();
  let over = false;

  const forget = (host: string): void => {
    clearTimeout(planned.get(host)?.timer);
    planned.delete(host);
  };

  const attempt = async (host: string): Promise<void> => {
    forget(host);
    const link = deps.link(host);
    if (link.current()) return;
    // Nobody is there to be asked: what needs a person is refused, and waits for one.
    await link.connect({ env: deps.env(host), ask: undefined }).catch(() => undefined);
    if (!link.current() && link.state() !== 'refused') soon(host);
  };

  const plan = (host: string, inMs: number): void => {
    forget(host);
    const timer = setTimeout(() => void attempt(host), inMs);
    timer.unref();
    planned.set(host, { timer, atMs: Date.now() + inMs });
  };

  const soon = (host: string): void => {
    const link = deps.link(host);
    if (over || planned.has(host) || link.dialing() || !deps.wanted(host)) return;
    const outage = outageFrom(outages.get(host));
    const wish = waitMs(outage.tries, performance.now() - outage.sinceMs, Math.random());
    outages.set(host, { ...outage, tries: outage.tries + 1 });
    plan(host, reachedSshd(link.trouble()) ? Math.max(REACHED_WAIT_MS, wish) : wish);
  };

  const afresh = (host: string): void => {
    outages.delete(host);
    if (!over && planned.has(host) && !deps.link(host).dialing()) plan(host, 0);
  };

  return {
    soon,
    afresh,
    person: (host) => {
      const now = performance.now();
      if (now - (wishes.get(host) ?? Number.NEGATIVE_INFINITY) < ONE_WISH_MS) return;
      wishes.set(host, now);
      afresh(host);
    },
    connected: (host) => {
      forget(host);
      const outage = outages.get(host);
      if (outage) outage.connectedMs = performance.now();
    },
    nextTryMs: (host) => {
      const due = planned.get(host);
      return due && Math.max(0, due.atMs - Date.now());
    },
    stop: () => {
      over = true;
      for (const host of [...planned.keys()]) forget(host);
    },
  };
};
