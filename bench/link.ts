import { spawn, spawnSync } from 'node:child_process';
import { appendFileSync, readFileSync, writeFileSync } from 'node:fs';
import { connect, createServer, type Socket } from 'node:net';
import { join, resolve } from 'node:path';
import { openSshWire } from '../src/client/link/ssh2.ts';
import { PROTOCOL } from '../src/protocol/limits.ts';
import { createPeer } from '../src/protocol/peer.ts';
import { clientEnv, createSshd, freePort, type Sshd } from '../test/fixtures/sshd.ts';
import { against, median, type Row } from './row.ts';

/** The link beside OpenSSH over the same sshd: cold start, and a call over a held link at 0 and 50 ms round trip. */

const ROUNDS = 12;
const CALLS = 40;
const BUNDLE = resolve(import.meta.dirname, '../dist/khlone-server.mjs');

/** A TCP proxy that holds every byte for half the round trip, each way. */
const delayProxy = async (target: number, oneWayMs: number): Promise<{ port: number; close(): void }> => {
  const sockets = new Set<Socket>();
  const later = (from: Socket, to: Socket): void => {
    from.on('data', (bytes) => setTimeout(() => to.writable && to.write(bytes), oneWayMs));
    from.on('close', () => to.destroy());
    from.on('error', () => to.destroy());
    sockets.add(from);
  };
  const server = createServer((near) => {
    near.setNoDelay(true);
    const far = connect({ port: target, host: '127.0.0.1', noDelay: true });
    later(near, far);
    later(far, near);
  });
  const port = await freePort();
  await new Promise<void>((done) => server.listen(port, '127.0.0.1', done));
  return {
    port,
    close: () => {
      for (const socket of sockets) socket.destroy();
      server.close();
    },
  };
};

const sshMs = (sshd: Sshd, env: NodeJS.ProcessEnv, words: string[]): Promise<number> =>
  new Promise((done, fail) => {
    const start = performance.now();
    const child = spawn('ssh', [...words, sshd.host, 'exec true'], { env, stdio: 'ignore' });
    child.on('error', fail);
    child.on('close', () => done(performance.now() - start));
  });

const openLink = async (
  sshd: Sshd,
  home: string,
  env: Record<string, string | undefined>,
  host = sshd.host,
) => {
  const deps = { serverBundle: BUNDLE, version: 'bench', signal: new AbortController().signal };
  const wire = await openSshWire({ host, home, env }, undefined, deps);
  const peer = createPeer(wire.duplex, {});
  await peer.call('hello', { proto: [PROTOCOL.min, PROTOCOL.max], build: 'bench' });
  return { wire, peer };
};

const callMs = async (peer: ReturnType<typeof createPeer>): Promise<number> => {
  const times: number[] = [];
  for (let i = 0; i < CALLS; i += 1) {
    const start = performance.now();
    await peer.call('zone.get', { zone: 'z-0000000000000000' });
    times.push(performance.now() - start);
  }
  return median(times);
};

/** The server that the links started lives on without them: a bench leaves nothing behind. */
const stopServer = async (sshd: Sshd, home: string, env: Record<string, string>): Promise<void> => {
  const { wire, peer } = await openLink(sshd, home, env);
  await peer.call('stop', { keep: false });
  await peer.closed;
  wire.close();
};

export type LinkBench = { rows: Row[]; sshControlMs: number };

export const benchLink = async (): Promise<LinkBench> => {
  const sshd = await createSshd();
  const env = clientEnv(sshd);
  const home = join(sshd.clientHome, 'khlone');
  const control = join(sshd.clientHome, 'ctl');
  try {
    const first = await openLink(sshd, home, env);
    first.wire.close();
    spawnSync('ssh', ['-fNM', '-S', control, sshd.host], { env: env as NodeJS.ProcessEnv, stdio: 'ignore' });
    const cold: number[] = [];
    const opensshCold: number[] = [];
    const warm: number[] = [];
    for (let round = 0; round < ROUNDS; round += 1) {
      opensshCold.push(await sshMs(sshd, env as NodeJS.ProcessEnv, ['-S', 'none']));
      warm.push(await sshMs(sshd, env as NodeJS.ProcessEnv, ['-S', control]));
      const start = performance.now();
      const { wire } = await openLink(sshd, home, env);
      cold.push(performance.now() - start);
      wire.close();
    }
    const sshControlMs = median(warm);
    const rows = [
      against(
        'link from cold to first answer',
        median(cold),
        'ms',
        { name: 'ssh cold exec true', value: median(opensshCold) },
        0.5,
      ),
    ];
    const held = await openLink(sshd, home, env);
    const near = await callMs(held.peer);
    rows.push(
      against(
        'call over the held link, loopback',
        near,
        'ms',
        { name: 'ssh -S ctl true', value: sshControlMs },
        0.1,
      ),
    );
    held.wire.close();
    rows.push(await farRow(sshd, home, env));
    return { rows, sshControlMs };
  } finally {
    await stopServer(sshd, home, env);
    spawnSync('ssh', ['-S', control, '-O', 'exit', sshd.host], {
      env: env as NodeJS.ProcessEnv,
      stdio: 'ignore',
    });
    await sshd.stop();
  }
};

const RTT_MS = 50;

const farRow = async (sshd: Sshd, home: string, env: Record<string, string | undefined>): Promise<Row> => {
  const proxy = await delayProxy(sshd.port, RTT_MS / 2);
  // The same host by another port: known by its key, logged in to by the same account and key.
  const known = readFileSync(sshd.knownHosts, 'utf8').replaceAll(`:${sshd.port}`, `:${proxy.port}`);
  appendFileSync(sshd.knownHosts, known);
  const settings = `Host far\n  HostName 127.0.0.1\n  Port ${proxy.port}\n  IdentityFile ${sshd.userKey}\n  UserKnownHostsFile ${sshd.knownHosts}\n`;
  writeFileSync(sshd.sshConfig, `${settings}${readFileSync(sshd.sshConfig, 'utf8')}`);
  try {
    const { wire, peer } = await openLink(sshd, home, env, 'far');
    const far = await callMs(peer);
    wire.close();
    return against('call over the held link', far, 'ms', { name: 'round trip', value: RTT_MS }, 1.15);
  } finally {
    proxy.close();
  }
};
