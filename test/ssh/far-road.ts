import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { appendFileSync, readFileSync, writeFileSync } from 'node:fs';
import { freePort, type Sshd } from '../fixtures/sshd.ts';

/** A road between the client and an sshd through a network namespace: real interfaces and a real kernel's TCP. */

const ip = (...args: string[]): string => execFileSync('ip', args, { stdio: 'pipe' }).toString('utf8');

/** Why there can be no such road here; undefined when there can. */
export const roadMissing: string | undefined = (() => {
  if (process.getuid?.() !== 0) return 'network namespaces need root';
  const name = `khp${process.pid}`;
  try {
    ip('netns', 'add', name);
    ip('netns', 'del', name);
    return undefined;
  } catch {
    return 'no network namespaces here (ip netns)';
  }
})();

const third = (process.pid % 250) + 1;
/** The client's address on the road, where sshd must listen too. */
export const NEAR = `10.231.${third}.1`;
const FAR = `10.231.${third}.2`;

export type Road = {
  /** The client's own interface goes down and comes up. */
  unplug(): void;
  plug(): void;
  /** Somewhere on the way packets vanish; the client's interface stays as it is. */
  swallow(): void;
  restore(): void;
  close(): void;
};

const FORWARDER = `const net = require('node:net'); const [port, to, at] = process.argv.slice(1);
net.createServer((near) => {
  const far = net.connect({ host: at, port: Number(to), noDelay: true });
  for (const [a, b] of [[near, far], [far, near]]) { a.setNoDelay(true); a.pipe(b); a.on('error', () => b.destroy()); a.on('close', () => b.destroy()); }
}).listen(Number(port), () => console.log('ready'));`;

/** Makes the interfaces. Before sshd starts, for it listens on one of them. */
export const layRoad = (): { names: { space: string; near: string; far: string }; remove(): void } => {
  const names = {
    space: `khs${process.pid}`,
    near: `kha${process.pid}`,
    far: `khb${process.pid}`,
  };
  ip('netns', 'add', names.space);
  ip('link', 'add', names.near, 'type', 'veth', 'peer', 'name', names.far, 'netns', names.space);
  ip('addr', 'add', `${NEAR}/24`, 'dev', names.near);
  ip('link', 'set', names.near, 'up');
  ip('-n', names.space, 'addr', 'add', `${FAR}/24`, 'dev', names.far);
  ip('-n', names.space, 'link', 'set', names.far, 'up');
  return {
    names,
    remove: () => {
      ip('link', 'del', names.near);
      ip('netns', 'del', names.space);
    },
  };
};

/** Leads the host's traffic over the road. */
export const openRoad = async (sshd: Sshd, laid: ReturnType<typeof layRoad>): Promise<Road> => {
  const { space, near, far } = laid.names;
  const port = await freePort();
  const forwarder: ChildProcess = spawn(
    'ip',
    [
      ...['netns', 'exec', space],
      ...[process.execPath, '-e', FORWARDER, String(port), String(sshd.port), NEAR],
    ],
    { stdio: ['ignore', 'pipe', 'inherit'] },
  );
  if (forwarder.stdout) await once(forwarder.stdout, 'data');
  const [line = ''] = readFileSync(sshd.knownHosts, 'utf8').split('\n');
  appendFileSync(sshd.knownHosts, `${line.replace(/^\S+/, `[${FAR}]:${port}`)}\n`);
  const config = readFileSync(sshd.sshConfig, 'utf8');
  writeFileSync(
    sshd.sshConfig,
    config.replace(/HostName .*/, `HostName ${FAR}`).replace(/Port .*/, `Port ${port}`),
  );
  const mac = /link\/ether (\S+)/.exec(ip('-n', space, 'link', 'show', far))?.[1] ?? '';
  const known = (): void => void ip('neigh', 'replace', FAR, 'lladdr', mac, 'dev', near, 'nud', 'permanent');
  known();
  return {
    unplug: () => void ip('link', 'set', near, 'down'),
    plug: () => {
      ip('link', 'set', near, 'up');
      known();
    },
    swallow: () => void ip('-n', space, 'addr', 'del', `${FAR}/24`, 'dev', far),
    restore: () => void ip('-n', space, 'addr', 'add', `${FAR}/24`, 'dev', far),
    close: () => {
      forwarder.kill('SIGKILL');
      laid.remove();
    },
  };
};
