import { KhloneError } from '../protocol/error.ts';
import type { App } from './app.ts';
import type { Binding } from './bindings.ts';
import type { Caller } from './caller.ts';
import { connectWithin } from './dispatch.ts';
import { ago } from './duration.ts';
import { environmentFor, pushEnvironment, recallEnvironment } from './environments.ts';
import { AWAY_HINT } from './link/away.ts';
import type { Connected, Link } from './link/link.ts';
import { soonest } from './patience.ts';
import type { Place } from './place.ts';

/** How a command reaches the server of a zone, and for how long it waits for that. */

export type Patience = {
  /** Milliseconds for a host of which nothing speaks against it; a login and a first set-up have their own. */
  withinMs: number;
  /** Milliseconds for a host that is known to be down: the wish alone has it dialled at once, and a path takes no longer. */
  downMs: number;
  /** Milliseconds in which a connection says something; absent: the calls that follow have their own short deadlines. */
  signMs?: number;
};

/** Of a command that can do nothing without the host. In doubt a second connection may take over meanwhile. */
export const NEEDED: Patience = { withinMs: 10_000, downMs: 1_000, signMs: 4_000 };
/** Of one whose work waits here otherwise: what follows may take long, so a dead line is to be known before. */
export const QUEUED_ELSE: Patience = { withinMs: 3_000, downMs: 1_000, signMs: 1_500 };
/** Of one that answers from what is known otherwise. */
export const KNOWN_ELSE: Patience = { withinMs: 2_000, downMs: 500, signMs: 1_500 };
/** The same, of one whose only call has a deadline. */
export const ASKED_ONCE: Patience = { withinMs: 2_000, downMs: 500 };

/** Since when nothing was heard of a host, behind why. */
const away = (link: Link, why: string, hint?: string): KhloneError => {
  const seenMs = link.lastSeenMs();
  const since = seenMs === undefined ? '' : ` for ${ago(Date.now() - seenMs)}`;
  const word = link.current() ? 'silent' : 'offline';
  return new KhloneError('unreachable', `${why} (${word}${since})`, hint ?? AWAY_HINT);
};

/** The connection to the server of a host. Throws `unreachable` where it takes longer than the patience. */
export const serverOf = async (
  app: App,
  caller: Caller,
  host: string,
  { withinMs, downMs, signMs }: Patience = NEEDED,
): Promise<Connected> => {
  const link = app.link(host);
  const isDown = link.state() === 'offline';
  const made = await connectWithin(link, caller, isDown ? downMs : withinMs).catch((thrown: unknown) => {
    if (!isDown || !isUnreachable(thrown)) throw thrown;
    // A try that ended meanwhile knows more than that nothing came.
    throw link.dialing() ? away(link, silence(host)) : away(link, thrown.message, thrown.hint);
  });
  if (signMs === undefined) return made;
  // It ends by itself: who interrupts does not wait for it, and nothing more is begun for them.
  const answers = await soonest(link.answers(signMs), 2 * signMs, caller.signal);
  if (answers) return link.current() ?? made;
  throw away(link, silence(host));
};

const silence = (host: string): string => `${host} does not answer`;

const isUnreachable = (thrown: unknown): thrown is KhloneError =>
  thrown instanceof KhloneError && thrown.code === 'unreachable';

/** What `work` gives; where it throws `unreachable`, what that means for the person comes first. */
export const needing = async <T>(what: (why: string) => string, work: () => Promise<T>): Promise<T> => {
  try {
    return await work();
  } catch (thrown) {
    if (!isUnreachable(thrown)) throw thrown;
    throw new KhloneError(thrown.code, what(thrown.message), thrown.hint, thrown.data);
  }
};

/** The server of a zone; any command from its worktree also brings an environment that was forgotten. */
export const serverOfZone = async (
  app: App,
  caller: Caller,
  binding: Binding,
  patience: Patience = NEEDED,
): Promise<Connected> => {
  const connected = await serverOf(app, caller, binding.host, patience);
  if (`${caller.cwd}/`.startsWith(`${binding.root}/`)) {
    await recallEnvironment(app, caller, binding, connected.peer);
  }
  return connected;
};

/** init refreshes what the clones of a zone get. */
export const refreshEnvironment = async (
  app: App,
  caller: Caller,
  place: Place,
  connected: Connected,
): Promise<void> => {
  await environmentFor(app, caller, place.binding, place.config, true);
  await pushEnvironment(app, connected.peer, place.binding.zone, true);
};
