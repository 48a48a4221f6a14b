import { appendFileSync, readFileSync, writeFileSync } from 'node:fs';
import { connect, createServer, type Socket } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import { freePort, type Sshd } from '../fixtures/sshd.ts';

/**
 * A line between the client and an sshd that has every fault on demand. It ends connections by RST, and what it
 * swallows it gives back when it is whole again, as TCP would.
 */

export type Way = 'up' | 'down';

export type FaultLine = {
  /** Connections that were made over it so far. */
  connections(): number;
  /** Connections that are open now. */
  open(): number;
  /** Bytes that it took from either end so far. */
  readonly carried: Record<Way, number>;
  /** Bytes that it was sent while it swallowed. */
  readonly held: Record<Way, number>;
  /** Milliseconds that each byte takes, each way. */
  delayMs: number;
  /** Bytes a second, each way; Infinity: as fast as it goes. */
  rate: Record<Way, number>;
  /** What a swallowing line is sent arrives nowhere, and nobody is told. One way only: half open. */
  swallow: Record<Way, boolean>;
  /** Each connection that is taken is made twice on the far side, and the second one says nothing. */
  twice: boolean;
  /** RST to both ends of every connection; how many there were. */
  reset(): number;
  /** The next connection is reset when so many bytes went this way; resolves when that happened. */
  cutNext(bytes: number, way: Way): Promise<void>;
  /** Everything as it should be. */
  heal(): void;
  close(): void;
};

/** What a full router holds; a writer waits before it. */
const ROOM_BYTES = 64 * 1024;

type Cut = { bytes: number; way: Way; done: () => void };
type Pair = Record<Way, Socket>;

const hangUp = (pair: Pair): void => {
  pair.up.resetAndDestroy();
  pair.down.resetAndDestroy();
};

/** Carries one direction of a connection; ends when either socket does. */
const carry = async (line: FaultLine, pair: Pair, way: Way, cut: Cut | undefined): Promise<void> => {
  const [from, to] = way === 'up' ? [pair.up, pair.down] : [pair.down, pair.up];
  let left = cut?.way === way ? cut.bytes : Number.POSITIVE_INFINITY;
  const late: Promise<unknown>[] = [];
  for await (const chunk of from as AsyncIterable<Buffer>) {
    if (line.swallow[way]) line.held[way] += chunk.length;
    for (let at = 0; at < chunk.length; ) {
      while (line.swallow[way] && !to.destroyed) await delay(10);
      if (to.destroyed) return;
      const slice = chunk.subarray(at, at + Math.min(ROOM_BYTES, Math.ceil(line.rate[way] / 50)));
      const whole = slice.subarray(0, Math.max(0, left));
      at += slice.length;
      left -= slice.length;
      line.carried[way] += slice.length;
      if (line.rate[way] !== Number.POSITIVE_INFINITY) await delay((1000 * slice.length) / line.rate[way]);
      if (line.delayMs > 0) late.push(delay(line.delayMs).then(() => to.write(whole)));
      else to.write(whole);
      if (left > 0) continue;
      await Promise.all(late);
      hangUp(pair);
      cut?.done();
      return;
    }
  }
  await Promise.all(late);
  to.end();
};

/** Puts the line in front of a host: its ssh_config names the line's port from now on. */
export const faultLine = async (sshd: Sshd, given: Partial<FaultLine> = {}): Promise<FaultLine> => {
  const pairs = new Set<Pair>();
  let count = 0;
  let cut: Cut | undefined;
  const reach = (): Socket => connect({ port: sshd.port, host: '127.0.0.1', noDelay: true });

  const server = createServer({ noDelay: true }, (near) => {
    count += 1;
    const mine = cut;
    cut = undefined;
    const pair: Pair = { up: near, down: reach() };
    const twin = line.twice ? reach() : undefined;
    twin?.on('error', () => {});
    pairs.add(pair);
    for (const socket of [pair.up, pair.down]) {
      socket.on('error', () => {});
      socket.on('close', () => {
        pairs.delete(pair);
        pair.up.destroy();
        pair.down.destroy();
        twin?.destroy();
        mine?.done();
      });
    }
    if (mine?.bytes === 0) return hangUp(pair);
    carry(line, pair, 'up', mine).catch(() => {});
    carry(line, pair, 'down', mine).catch(() => {});
  });

  const line: FaultLine = {
    connections: () => count,
    open: () => pairs.size,
    carried: { up: 0, down: 0 },
    held: { up: 0, down: 0 },
    delayMs: 0,
    rate: { up: Number.POSITIVE_INFINITY, down: Number.POSITIVE_INFINITY },
    swallow: { up: false, down: false },
    twice: false,
    reset: () => {
      const all = [...pairs];
      all.forEach(hangUp);
      return all.length;
    },
    cutNext: (bytes, way) => new Promise((done) => (cut = { bytes, way, done })),
    heal: () => {
      cut?.done();
      cut = undefined;
      line.rate = { up: Number.POSITIVE_INFINITY, down: Number.POSITIVE_INFINITY };
      line.swallow = { up: false, down: false };
      line.delayMs = 0;
      line.twice = false;
    },
    close: () => {
      line.reset();
      server.close();
    },
    ...given,
  };
  const port = await freePort();
  await new Promise<void>((done) => server.listen(port, '127.0.0.1', done));
  appendFileSync(
    sshd.knownHosts,
    readFileSync(sshd.knownHosts, 'utf8').replaceAll(`:${sshd.port} `, `:${port} `),
  );
  const config = readFileSync(sshd.sshConfig, 'utf8');
  writeFileSync(sshd.sshConfig, config.replace(`Port ${sshd.port}`, `Port ${port}`));
  return line;
};
