import { ATTACH_CALLS } from '../../protocol/attach.ts';
import { asKhloneError, KhloneError } from '../../protocol/error.ts';
import type { Answer, Body } from '../../protocol/peer.ts';
import { callServer } from '../call.ts';
import { AWAY_HINT } from '../link/away.ts';
import type { Connected } from '../link/link.ts';
import { openProxied } from '../link/proxied-pty.ts';
import type { OpenPty, PtyChannel } from '../link/ssh-pty.ts';
import { soonest } from '../patience.ts';

/**
 * Terminals on channels of their own over the same ssh connection. The server makes the viewer ready; the terminal is
 * made by a program of the server's, so that a key has a short way, or by sshd where the host has nothing else.
 */

/** `over` is for when nobody reads what is drawn any more. */
export type Opened = Answer & { over(): void };

export type Channels = {
  /** A terminal by a program of the server's; undefined where that cannot be, and nothing was typed. */
  openProxied(connected: Connected, wish: ChannelWish): Promise<Opened | undefined>;
  /** From now on the terminals of this host are made by sshd. */
  choose(host: string): void;
  isChosen(host: string): boolean;
  open(connected: Connected, openPty: OpenPty, wish: ChannelWish): Promise<Opened>;
  /** Whether the viewer has its terminal here, which then has the new size. */
  resize(params: unknown): boolean;
};

export type ChannelWish = { params: unknown; keys: Body | undefined; signal: AbortSignal; withinMs: number };

/** No such program, no such call in an older server, no further channel: the server makes the terminal then. */
const NO_WAY: ReadonlySet<string> = new Set(['no-pty', 'unknown-method']);

const typeAll = async (pty: PtyChannel, keys: Body): Promise<void> => {
  for await (const piece of keys) await pty.type(piece);
};

/** A line that falls silent meanwhile does not hold the person up; a terminal that comes late is let go. */
const inTime = async (
  opening: Promise<PtyChannel>,
  { signal, withinMs }: ChannelWish,
): Promise<PtyChannel> => {
  let pty: PtyChannel | undefined;
  try {
    pty = await soonest(opening, withinMs, signal);
  } finally {
    if (!pty) opening.then(({ close }) => close()).catch(() => {});
  }
  if (pty) return pty;
  throw new KhloneError('unreachable', 'the host opens no channel', AWAY_HINT);
};

const parse = (params: unknown) => {
  const parsed = ATTACH_CALLS['attach.prepare'].params.safeParse(params);
  if (parsed.success) return parsed.data;
  throw new KhloneError('invalid-params', 'the call came in an unknown shape');
};

export const createChannels = (): Channels => {
  const chosen = new Set<string>();
  const ptys = new Map<string, PtyChannel>();
  /** Connections over which no program makes a terminal. */
  const unable = new WeakSet<Connected>();

  /** The terminal as the answer of an attach, from now on typed into. */
  const answerOf = (viewer: string, pty: PtyChannel, { keys, signal }: ChannelWish): Opened => {
    const over = (): void => {
      if (ptys.get(viewer) === pty) ptys.delete(viewer);
      pty.close();
    };
    ptys.set(viewer, pty);
    signal.addEventListener('abort', over, { once: true });
    if (signal.aborted) over();
    if (keys) typeAll(pty, keys).catch(() => {});
    return { value: {}, body: pty.drawn, klass: 'interactive', over };
  };

  return {
    openProxied: async (connected, given) => {
      const { peer, spawn } = connected;
      if (!spawn || unable.has(connected)) return undefined;
      const wish = parse(given.params);
      const options = { signal: given.signal, timeoutMs: given.withinMs };
      try {
        const { answer } = await callServer(peer, 'attach.proxy', wish, options);
        const pty = await inTime(openProxied(spawn, answer), given);
        return { ...answerOf(wish.viewer, pty, given), value: { typed: answer.typed } };
      } catch (thrown) {
        if (!NO_WAY.has(asKhloneError(thrown).code)) throw thrown;
        unable.add(connected);
        return undefined;
      }
    },
    choose: (host) => void chosen.add(host),
    isChosen: (host) => chosen.has(host),
    open: async ({ peer }, openPty, given) => {
      const wish = parse(given.params);
      const options = { signal: given.signal, timeoutMs: given.withinMs };
      const { answer } = await callServer(peer, 'attach.prepare', wish, options);
      const pty = await openPty({ ...answer, size: wish.terminal });
      return answerOf(wish.viewer, pty, given);
    },
    resize: (params) => {
      const size = ATTACH_CALLS['attach.resize'].params.safeParse(params);
      const pty = size.success ? ptys.get(size.data.viewer) : undefined;
      if (size.data && pty) pty.resize(size.data);
      return pty !== undefined;
    },
  };
};
