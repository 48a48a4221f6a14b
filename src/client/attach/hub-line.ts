import type { Duplex } from 'node:stream';
import type { ATTACH_CALLS } from '../../protocol/attach.ts';
import { KhloneError } from '../../protocol/error.ts';
import { type CallOptions, createPeer, type Peer, type Reply } from '../../protocol/peer.ts';

/** The hub as an attach sees it: it passes calls on to the zone's server, and is started anew where it died. */

export type AttachCall = keyof typeof ATTACH_CALLS;

export type HubLine = {
  call(name: AttachCall, params: unknown, options?: CallOptions): Promise<Reply>;
  /** Whether a call would find the hub without starting one. */
  isOpen(): boolean;
  close(): void;
};

export const createHubLine = (
  connect: () => Promise<Duplex>,
  host: string,
  env: NodeJS.ProcessEnv,
): HubLine => {
  let peer: Peer | undefined;
  let over = false;
  const connected = async (): Promise<Peer> => {
    if (over) throw new KhloneError('interrupted', 'left');
    if (peer) return peer;
    const duplex = await connect();
    const made = createPeer(duplex, {});
    // A step that was under way when everything ended must not leave a connection behind, which would hold us.
    if (over) made.close();
    peer = made;
    void made.closed.then(() => {
      if (peer === made) peer = undefined;
    });
    return made;
  };
  return {
    call: async (name, params, options) =>
      (await connected()).call('attach', { host, env, name, params }, options),
    isOpen: () => peer !== undefined,
    close: () => {
      over = true;
      peer?.close();
    },
  };
};
