import { type Cursor, ENDED, Gap, Item } from '../protocol/calls.ts';
import { asKhloneError, KhloneError } from '../protocol/error.ts';
import type { App } from './app.ts';
import type { Binding } from './bindings.ts';
import { call } from './call.ts';
import { type Caller, interrupted } from './caller.ts';
import { AWAY_HINT } from './link/away.ts';
import type { Connected, Link } from './link/link.ts';
import { soonest } from './patience.ts';

/**
 * A zone's journal through drops: every item once and in order, because each connection begins where the last one
 * ended. Losing the link is something that one hears, not an end.
 */

export type Heard =
  | { type: 'item'; item: Item }
  /** Items that were pruned before they could be told. */
  | { type: 'gap'; from: number; to: number }
  /** Where `live` is: said once, before anything else. */
  | { type: 'begin'; after: Cursor }
  | { type: 'lost'; why: KhloneError }
  | { type: 'back' };

export type Follow = {
  binding: Binding;
  select: { task?: string; clone?: string; session?: string; types?: readonly string[] };
  from: Cursor;
  /** `task`: as long as the selected task goes on. */
  until: 'now' | 'task' | 'never';
  /** What only a person can mend (a host key, a login) is waited for too, instead of thrown. */
  patient: boolean;
};

/** Faults that time mends. */
const MENDS = new Set(['unreachable', 'timeout', 'shutting-down', 'start-failed', 'remote-setup']);
const FIRST_WAIT_MS = 500;
const MAX_WAIT_MS = 15_000;
/** 2^5 × 500 ms is above the longest wait. */
const MAX_DOUBLINGS = 5;
/** How often somebody who waits to dial looks whether another one's dial brought the connection. */
const LOOK_MS = 200;
const DIAL_MAX_MS = 60_000;

/** Waits for a connection that somebody else makes, or for the time of the next dial. */
export const awaitConnection = async (link: Link, ms: number, signal: AbortSignal): Promise<void> => {
  const never = new Promise<undefined>(() => {});
  const end = performance.now() + ms;
  // Once at least: a connection that just broke may still stand there.
  do await soonest(never, LOOK_MS, signal);
  while (!link.current() && performance.now() < end);
};

/** A login that was refused is not tried again by itself: hosts lock out who knocks too often. */
export const waitMs = (link: Link, tries: number): number =>
  link.state() === 'refused'
    ? Number.POSITIVE_INFINITY
    : Math.min(MAX_WAIT_MS, FIRST_WAIT_MS * 2 ** Math.min(tries, MAX_DOUBLINGS));

const reach = async (link: Link, caller: Caller, signal: AbortSignal): Promise<Connected> => {
  // Nobody is asked in the middle of a view: what needs a person is told, and waits for `khlone reconnect`.
  const dialing = link.connect({ env: caller.env, ask: undefined });
  const made = await soonest(dialing, DIAL_MAX_MS, signal);
  if (made) return made;
  throw noAnswer(link);
};

const noAnswer = ({ name }: Link): KhloneError =>
  new KhloneError('unreachable', `${name} does not answer`, AWAY_HINT);

const noZone = ({ address }: Binding): KhloneError =>
  new KhloneError(
    'not-found',
    `${address} has no zone any more`,
    'khlone init, or the first khlone act makes it',
  );

/** The zone as it is now; also the proof that the server at the other end answers. */
const headOf = async (app: App, { peer }: Connected, binding: Binding): Promise<Cursor> => {
  const { zone } = await call(peer, 'zone.get', { zone: binding.zone });
  if (zone?.id !== binding.zone) throw noZone(binding);
  app.known.put(zone);
  return { epoch: zone.epoch, seq: zone.seq };
};

/** A task that has ended is read to the end of what is there: its end may lie before where one reads on. */
const untilNow = async ({ peer }: Connected, { select, until }: Follow): Promise<Follow['until']> => {
  if (until !== 'task' || select.task === undefined) return until;
  const { task } = await call(peer, 'task.get', { task: select.task, brief: true });
  return ENDED.has(task.state) || task.state === 'unknown' ? 'now' : 'task';
};

/** Items from `start` on over one connection, and where the next one begins behind each. */
async function* hear(
  { peer }: Connected,
  { binding, select }: Follow,
  until: Follow['until'],
  start: Cursor,
  signal: AbortSignal,
): AsyncGenerator<{ heard: Heard; after: Cursor }> {
  for await (const raw of peer.subscribe({ ...select, zone: binding.zone, from: start, until }, signal)) {
    const item = Item.safeParse(raw);
    if (item.success) {
      const { epoch, seq } = item.data;
      yield { heard: { type: 'item', item: item.data }, after: { epoch, seq } };
      continue;
    }
    const gap = Gap.safeParse(raw);
    if (!gap.success) continue;
    const { epoch, gap: range } = gap.data;
    yield { heard: { type: 'gap', ...range }, after: { epoch, seq: Math.max(0, range.to) } };
  }
}

/** Throws what time does not mend, `not-found` when the zone is no more, and `interrupted` when the caller leaves. */
export async function* followJournal(
  app: App,
  caller: Caller,
  follow: Follow,
  signal: AbortSignal,
): AsyncGenerator<Heard> {
  const link = app.link(follow.binding.host);
  const leave = follow.until !== 'now' ? link.lookAt() : undefined;
  try {
    yield* followOver(app, caller, follow, link, signal);
  } finally {
    leave?.();
  }
}

async function* followOver(
  app: App,
  caller: Caller,
  follow: Follow,
  link: Link,
  signal: AbortSignal,
): AsyncGenerator<Heard> {
  let after = follow.from;
  let lost = false;
  for (let tries = 0; ; tries += 1) {
    try {
      // Of a host that is known to be down nobody waits for a try to end before hearing so.
      if (!lost && link.state() === 'offline') {
        yield { type: 'lost', why: link.trouble() ?? noAnswer(link) };
        lost = true;
      }
      const connected = link.current() ?? (await reach(link, caller, signal));
      const head = await headOf(app, connected, follow.binding);
      if (lost) yield { type: 'back' };
      lost = false;
      if (after === 'live') {
        after = head;
        yield { type: 'begin', after };
      }
      const until = await untilNow(connected, follow);
      for await (const one of hear(connected, follow, until, after, signal)) {
        ({ after } = one);
        tries = 0;
        yield one.heard;
      }
      if (until === 'now') return;
      if (until === 'task') continue;
    } catch (thrown) {
      const why = asKhloneError(thrown);
      if (signal.aborted) throw interrupted();
      if (!MENDS.has(why.code) && !(follow.patient && link.state() === 'refused')) throw why;
      if (!lost) yield { type: 'lost', why };
      lost = true;
    }
    await awaitConnection(link, waitMs(link, tries), signal);
  }
}
