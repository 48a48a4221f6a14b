import { ATTACH_CALLS } from '../../protocol/attach.ts';
import { KhloneError } from '../../protocol/error.ts';
import type { Answer, Body } from '../../protocol/peer.ts';
import { callServer } from '../call.ts';
import type { Connected } from '../link/link.ts';
import type { OpenPty, PtyChannel } from '../link/ssh-pty.ts';

/**
 * Terminals on hosts without script(1): the server makes the viewer ready, sshd makes the terminal, and the same
 * ssh connection carries it on a channel of its own.
 */

export type Channels = {
  /** From now on the terminals of this host are made this way. */
  choose(host: string): void;
  isChosen(host: string): boolean;
  open(connected: Connected, openPty: OpenPty, wish: ChannelWish): Promise<Answer>;
  /** Whether the viewer has its terminal here, which then has the new size. */
  resize(params: unknown): boolean;
};

export type ChannelWish = { params: unknown; keys: Body | undefined; signal: AbortSignal; withinMs: number };

const typeAll = async (pty: PtyChannel, keys: Body): Promise<void> => {
  for await (const piece of keys) await pty.type(piece);
};

const parse = (params: unknown) => {
  const parsed = ATTACH_CALLS['attach.prepare'].params.safeParse(params);
  if (parsed.success) return parsed.data;
  throw new KhloneError('invalid-params', 'the call came in an unknown shape');
};

export const createChannels = (): Channels => {
  const chosen = new Set<string>();
  const ptys = new Map<string, PtyChannel>();

  async function* drawn(viewer: string, pty: PtyChannel): AsyncGenerator<Uint8Array> {
    try {
      yield* pty.drawn;
    } finally {
      if (ptys.get(viewer) === pty) ptys.delete(viewer);
      pty.close();
    }
  }

  return {
    choose: (host) => void chosen.add(host),
    isChosen: (host) => chosen.has(host),
    open: async ({ peer }, openPty, { params, keys, signal, withinMs }) => {
      const wish = parse(params);
      const options = { signal, timeoutMs: withinMs };
      const { answer } = await callServer(peer, 'attach.prepare', wish, options);
      const pty = await openPty({ ...answer, size: wish.terminal });
      signal.addEventListener('abort', pty.close, { once: true });
      if (signal.aborted) pty.close();
      ptys.set(wish.viewer, pty);
      if (keys) typeAll(pty, keys).catch(() => {});
      return { value: {}, body: drawn(wish.viewer, pty), klass: 'interactive' };
    },
    resize: (params) => {
      const size = ATTACH_CALLS['attach.resize'].params.safeParse(params);
      const pty = size.success ? ptys.get(size.data.viewer) : undefined;
      if (size.data && pty) pty.resize(size.data);
      return pty !== undefined;
    },
  };
};
