import { appendFileSync, readFileSync, writeFileSync } from 'node:fs';
import { connect, createServer, type Socket } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import { freePort, type Sshd } from '../fixtures/sshd.ts';

/** A line between the client and an sshd that carries so many bytes a second upwards, and no more. */

const SLICE_MS = 20;

const pump = async (from: Socket, to: Socket, bytesPerSecond: number): Promise<void> => {
  for await (const chunk of from as AsyncIterable<Buffer>) {
    const slice = Math.max(1, Math.floor((bytesPerSecond * SLICE_MS) / 1000));
    for (let at = 0; at < chunk.length; at += slice) {
      if (to.destroyed) return;
      to.write(chunk.subarray(at, at + slice));
      await delay(SLICE_MS);
    }
  }
};

export type SlowLine = {
  /** Connections that were made over it so far. */
  connections(): number;
  close(): void;
};

/** Puts the line in front of a host: its ssh_config names the line's port from now on. */
export const slowLine = async (sshd: Sshd, bytesPerSecond: number): Promise<SlowLine> => {
  const sockets = new Set<Socket>();
  let count = 0;
  const server = createServer((near) => {
    count += 1;
    const far = connect({ port: sshd.port, host: '127.0.0.1', noDelay: true });
    for (const [one, other] of [
      [near, far],
      [far, near],
    ] as const) {
      sockets.add(one);
      one.on('error', () => {}).on('close', () => other.destroy());
    }
    far.pipe(near);
    pump(near, far, bytesPerSecond).catch(() => {});
  });
  const port = await freePort();
  await new Promise<void>((done) => server.listen(port, '127.0.0.1', done));
  appendFileSync(
    sshd.knownHosts,
    readFileSync(sshd.knownHosts, 'utf8').replaceAll(`:${sshd.port} `, `:${port} `),
  );
  const config = readFileSync(sshd.sshConfig, 'utf8');
  writeFileSync(sshd.sshConfig, config.replace(`Port ${sshd.port}`, `Port ${port}`));
  return {
    connections: () => count,
    close: () => {
      for (const socket of sockets) socket.destroy();
      server.close();
    },
  };
};
