import type { Socket } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import { afterEach, describe, expect, it } from 'vitest';
import { createLink } from '../../../src/client/link/connection.ts';
import type { Link, LinkState } from '../../../src/client/link/link.ts';
import { KhloneError } from '../../../src/protocol/error.ts';
import { PROTOCOL } from '../../../src/protocol/limits.ts';
import { createPeer, type Peer } from '../../../src/protocol/peer.ts';
import { agree } from '../../../src/server/handlers/machine.ts';
import { socketPair, until } from '../../protocol/wire.ts';

/** One link over real sockets, to a server that can fall silent and a path that can go away. */

const HELLO = { proto: 1, build: '1.0.0', uuid: 'u', boot: 'b', home: '/', host: 'h' };
const LENDER = { env: {}, ask: undefined };

type World = {
  link: Link;
  states: LinkState[];
  /** The server's ends, in the order of the dials. */
  servers: Peer[];
  sockets: Socket[];
  /** What the next dials do. */
  path: 'open' | KhloneError;
  /** The protocols that the server speaks. */
  speaks: { min: number; max: number };
};

const worlds: World[] = [];
const world = (): World => {
  const made: World = {
    ...{ states: [], servers: [], sockets: [], path: 'open' as const, speaks: PROTOCOL },
    link: createLink({
      ...{ name: 'box', build: '1.0.0', pings: true },
      dial: async () => {
        if (made.path !== 'open') throw made.path;
        const [near, far] = await socketPair();
        made.sockets.push(far);
        made.servers.push(
          createPeer(far, {
            hello: ({ params }) => {
              const { proto } = params as { proto: [number, number] };
              return { value: { ...HELLO, proto: agree(proto, made.speaks) } };
            },
            work: () => new Promise(() => {}),
            quick: () => ({ value: made.servers.length }),
            take: async ({ body }) => {
              let total = 0;
              for await (const piece of body ?? []) total += piece.length;
              return { value: total };
            },
          }),
        );
        return { duplex: near, close: () => near.destroy() };
      },
      events: { onChange: (link) => made.states.push(link.state()) },
    }),
  };
  worlds.push(made);
  return made;
};
afterEach(() => {
  for (const one of worlds.splice(0)) {
    one.link.close();
    for (const socket of one.sockets) socket.destroy();
  }
});

/** The path swallows what is sent from now on; nobody is told. */
const blackHole = (socket: Socket | undefined): void => {
  socket?.pause();
  socket?.removeAllListeners('data');
};

describe('a link in doubt', () => {
  it('notices within 2.5 s that the path swallows a call, dials beside it, and takes the first that answers', async () => {
    const made = world();
    const { peer } = await made.link.connect(LENDER);
    blackHole(made.sockets[0]);
    const begun = performance.now();
    const lost = peer.call('quick', {}).catch((error: KhloneError) => error.code);
    await until(() => made.states.includes('racing'), 4_000);
    expect(performance.now() - begun).toBeLessThan(2_500);
    expect(await lost).toBe('unreachable');
    expect(made.states).toEqual(['connecting', 'online', 'racing', 'online']);
    const after = made.link.current();
    expect((await after?.peer.call('quick', {}))?.value).toBe(2);
  });

  it('notices within 4 s that the path is gone while a person looks on, and asks no more when they left', async () => {
    const made = world();
    await made.link.connect(LENDER);
    const leave = made.link.lookAt();
    blackHole(made.sockets[0]);
    const begun = performance.now();
    await until(() => made.sockets.length === 2, 6_000);
    expect(performance.now() - begun).toBeLessThan(4_000);
    leave();
    const peer = made.link.current()?.peer;
    const heardMs = peer?.lastReceivedMs();
    // Nothing may come: longer than a line is silent before it is asked while somebody looks.
    await delay(3_500);
    expect(peer?.lastReceivedMs()).toBe(heardMs);
  });

  it('leaves a server alone that works long on an answer', async () => {
    const made = world();
    const { peer } = await made.link.connect(LENDER);
    const working = peer.call('work', {}, { timeoutMs: 5_000 }).catch((error: KhloneError) => error.code);
    expect(await working).toBe('timeout');
    expect(made.states).toEqual(['connecting', 'online']);
    expect(made.servers).toHaveLength(1);
  }, 10_000);

  it('notices a key that met silence as soon as a call', async () => {
    const made = world();
    const { peer } = await made.link.connect(LENDER);
    const keys = (async function* () {
      yield Buffer.from('a');
      await until(() => made.states.includes('racing'), 30_000);
    })();
    peer
      .call('take', {}, { body: keys, klass: 'interactive', timeoutMs: Number.POSITIVE_INFINITY })
      .catch(() => {});
    await until(() => made.servers.length === 1);
    blackHole(made.sockets[0]);
    const begun = performance.now();
    await until(() => made.states.includes('racing'), 4_000);
    expect(performance.now() - begun).toBeLessThan(2_700);
  });

  it('lets go of what somebody types when the call ends, also while no key comes', async () => {
    const made = world();
    const { peer } = await made.link.connect(LENDER);
    const left = Promise.withResolvers<void>();
    const keys = {
      [Symbol.asyncIterator]: () => ({
        next: () => new Promise<IteratorResult<Uint8Array>>(() => {}),
        return: async () => {
          left.resolve();
          return { done: true as const, value: undefined };
        },
      }),
    };
    const leave = new AbortController();
    const call = peer.call('take', {}, { body: keys, klass: 'interactive', signal: leave.signal });
    setImmediate(() => leave.abort());
    await expect(call).rejects.toMatchObject({ code: 'interrupted' });
    await left.promise;
  });

  it('is verified at once after a sleep, and calm when it answers', async () => {
    const made = world();
    await made.link.connect(LENDER);
    made.link.doubt();
    expect(made.link.state()).toBe('suspect');
    await until(() => made.link.state() === 'online');
    expect(made.servers).toHaveLength(1);
  });

  it('takes no answer that an outage held up for a round trip, and notices the next one as soon', async () => {
    const made = world();
    await made.link.connect(LENDER);
    for (let n = 0; n < 5; n += 1) {
      made.sockets[0]?.pause();
      made.link.doubt();
      // How long the answer is held up is what is tried: it must not count as a round trip.
      await delay(850);
      made.sockets[0]?.resume();
      await until(() => made.link.state() === 'online', 4_000);
    }
    const before = made.states.length;
    // On a busy machine a second connection was begun, and the first one won.
    for (const socket of made.sockets) blackHole(socket);
    const begun = performance.now();
    made.link
      .current()
      ?.peer.call('quick', {})
      .catch(() => {});
    await until(() => made.states.slice(before).includes('racing'), 6_000);
    expect(performance.now() - begun).toBeLessThan(2_500);
  }, 20_000);

  it('keeps a connection whose replacement would need a person, and knocks once', async () => {
    const made = world();
    const { peer } = await made.link.connect(LENDER);
    made.path = new KhloneError('ssh-auth', 'a passphrase is needed');
    made.sockets[0]?.pause();
    made.link.doubt();
    await until(() => made.states.filter((state) => state === 'suspect').length >= 2, 4_000);
    made.sockets[0]?.resume();
    await until(() => made.link.state() === 'online', 4_000);
    expect(made.states.filter((state) => state === 'racing')).toHaveLength(1);
    expect((await peer.call('quick', {})).value).toBe(1);
  }, 10_000);

  it('is given up when it stayed silent and nothing else could be reached', async () => {
    const made = world();
    await made.link.connect(LENDER);
    made.path = new KhloneError('unreachable', 'no route');
    blackHole(made.sockets[0]);
    made.link.doubt();
    await until(() => made.link.state() === 'offline', 15_000);
    expect(made.link.current()).toBeUndefined();
    expect(Date.now() - (made.link.lastSeenMs() ?? 0)).toBeGreaterThan(9_000);
    expect(made.states.at(-2)).not.toBe('online');
  }, 20_000);
});

describe('a server of another time', () => {
  it('is used within the range of protocols', async () => {
    const made = world();
    made.speaks = { min: 1, max: PROTOCOL.max + 5 };
    expect((await made.link.connect(LENDER)).server.uuid).toBe('u');
  });

  it('is refused outside of it, in one line with the way on, and waits for a person', async () => {
    const made = world();
    made.speaks = { min: PROTOCOL.max + 1, max: PROTOCOL.max + 5 };
    const refused = await made.link.connect(LENDER).catch((error: KhloneError) => error);
    expect(refused).toMatchObject({ code: 'version', hint: 'upgrade khlone where you work' });
    expect(made.link.state()).toBe('refused');
    expect(made.link.trouble()?.message).toBe(
      `the client speaks protocol ${PROTOCOL.min} to ${PROTOCOL.max}, this server ${PROTOCOL.max + 1} to ${PROTOCOL.max + 5}`,
    );
    made.speaks = PROTOCOL;
    await made.link.connect(LENDER);
    expect(made.states).toEqual(['connecting', 'refused', 'connecting', 'online']);
  });
});
