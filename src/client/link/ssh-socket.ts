import { spawn } from 'node:child_process';
import { Duplex } from 'node:stream';
import { KhloneError } from '../../protocol/error.ts';
import { oneLine } from '../../provision/remote-shell.ts';
import { expandTokens, type SshSettings } from './ssh-config.ts';
import { openTcp } from './tcp.ts';

export const CONNECT_DEADLINE_MS = 10_000;

/** How much of a ProxyCommand's stderr is kept, in characters. */
const PROXY_SAID_MAX_CHARS = 4_000;

/** How long a ProxyCommand's stderr may outlast its output. */
const LAST_WORDS_MS = 250;

export type FirstSocket = {
  readonly sock: Duplex;
  /** One round trip as the TCP handshake measured it; undefined behind a ProxyCommand. */
  readonly rttMs: number | undefined;
  /** What a ProxyCommand printed on stderr so far. */
  said(): string;
};

/**
 * What is written in one turn goes out in one write. ssh2 hands over a packet in up to three pieces, and with Nagle off
 * each would be a segment of its own, for which the host is woken before the packet is whole.
 */
export const inOneWrite = <S extends Duplex>(sock: S): S => {
  const write = sock.write.bind(sock) as Duplex['write'];
  let isCorked = false;
  sock.write = ((...given: Parameters<Duplex['write']>) => {
    if (!isCorked) {
      isCorked = true;
      sock.cork();
      process.nextTick(() => {
        isCorked = false;
        sock.uncork();
      });
    }
    return write(...given);
  }) as Duplex['write'];
  return sock;
};

/**
 * Runs the user's own ProxyCommand by the user's shell, as ssh does. The host and user put into it have passed
 * parseHostWord or are refused here, so they mean nothing to a shell.
 */
const openProxy = (
  settings: SshSettings,
  command: string,
  env: Record<string, string | undefined>,
): FirstSocket => {
  const odd = [settings.hostname, settings.user, settings.alias].find(
    (word) => !/^[\p{L}\p{N}._:%@+-]+$/u.test(word),
  );
  if (odd !== undefined || settings.user.startsWith('-'))
    throw new KhloneError(
      'config',
      `"${oneLine(odd ?? settings.user, 80)}" cannot be put into a ProxyCommand`,
    );
  const shell = env.SHELL?.startsWith('/') ? env.SHELL : '/bin/sh';
  const child = spawn(shell, ['-c', `exec ${expandTokens(command, settings)}`], { env, stdio: 'pipe' });
  let said = '';
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    said = (said + text).slice(-PROXY_SAID_MAX_CHARS);
  });
  const sock = new Duplex({
    read: () => {
      child.stdout.resume();
    },
    // A write to a proxy that has gone is no news: its end tells more.
    write: (chunk: Buffer, _encoding, done) => {
      child.stdin.write(chunk, () => done());
    },
    writev: (pieces, done) => {
      child.stdin.write(Buffer.concat(pieces.map(({ chunk }) => chunk)), () => done());
    },
    final: (done) => {
      child.stdin.end(() => done());
    },
    destroy: (error, done) => {
      child.kill();
      done(error);
    },
  });
  const end = () => sock.push(null);
  child.stdin.on('error', () => {});
  child.stdout.on('data', (chunk: Buffer) => {
    if (!sock.push(chunk)) child.stdout.pause();
  });
  child.once('error', (error) => sock.destroy(error));
  child.once('close', end);
  // Its last words may come after its last byte; a daemon it left behind may hold them open for ever.
  child.stdout.once('end', () => setTimeout(end, LAST_WORDS_MS));
  return { sock, rttMs: undefined, said: () => said };
};

/** The byte stream to the first host of a route: TCP, or what a ProxyCommand makes. */
export const openFirstSocket = async (
  settings: SshSettings,
  env: Record<string, string | undefined>,
  signal: AbortSignal,
): Promise<FirstSocket> => {
  if (settings.proxyCommand !== undefined) {
    const opened = openProxy(settings, settings.proxyCommand, env);
    return { ...opened, sock: inOneWrite(opened.sock) };
  }
  const { sock, rttMs } = await openTcp(settings.hostname, settings.port, CONNECT_DEADLINE_MS, signal);
  return { sock: inOneWrite(sock), rttMs, said: () => '' };
};
