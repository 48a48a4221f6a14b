import type { Duplex } from 'node:stream';
import { setTimeout as delay } from 'node:timers/promises';
import type { AnyAuthMethod, BaseAgent, Client, ClientChannel, ParsedKey as Ssh2Key } from 'ssh2';
import { KhloneError } from '../../protocol/error.ts';
import { ownNode, readBuild } from '../../provision/bootstrap.ts';
import { resolveRoute, type SshSettings } from './ssh-config.ts';
import { createStageDeadline, withDeadline } from './ssh-deadline.ts';
import { momentOf, type SshMoment, sshFailure, unreachable } from './ssh-error.ts';
import { createHostKeyCheck, type HostKeyCheck } from './ssh-host-key.ts';
import { collectIdentities, type Identity, type KeyTools } from './ssh-keys.ts';
import { createLoginPlan, type LoginStep } from './ssh-login.ts';
import { type RemoteProcess, type Spawn, startRelay } from './ssh-relay.ts';
import { CONNECT_DEADLINE_MS, openFirstSocket } from './ssh-socket.ts';
import type { Asker, SshTarget } from './ssh-target.ts';

/** The only file that knows ssh2, and it loads it when a connection is made: a local zone never pays for it. */

export type { Asker, SshTarget } from './ssh-target.ts';

/** One exec channel to a host's khlone-server: its bytes are the framed protocol, nothing before, nothing between. */
export type Wire = {
  readonly duplex: Duplex;
  close(): void;
  /** One round trip in milliseconds as TCP measured it; absent behind a jump host or a proxy. */
  readonly rttMs?: number;
  /** Settles when the connection is gone, with the reason if there was one. */
  readonly closed: Promise<Error | undefined>;
};

export type WireDeps = {
  /** Path of dist/khlone-server.mjs. */
  readonly serverBundle: string;
  readonly version: string;
  readonly signal: AbortSignal;
};

const HANDSHAKE_DEADLINE_MS = 10_000;
/** Reverse look-ups and PAM make logins slow; questions to a person do not count. */
const LOGIN_DEADLINE_MS = 20_000;
const AGENT_DEADLINE_MS = 5_000;
const CHANNEL_DEADLINE_MS = 10_000;

/** GCM first: it is fast with ssh2's native part and without it. */
const CIPHERS = [
  'aes128-gcm@openssh.com',
  'aes256-gcm@openssh.com',
  'chacha20-poly1305@openssh.com',
  'aes128-ctr',
  'aes192-ctr',
  'aes256-ctr',
] as const;

const loadSsh2 = async () => (await import('ssh2')).default;
type Ssh2 = Awaited<ReturnType<typeof loadSsh2>>;

const keyTools = (ssh2: Ssh2): KeyTools => ({
  parse: (data, passphrase) => ssh2.utils.parseKey(data, passphrase),
  agentIdentities: (socketPath) =>
    new Promise((resolve, reject) => {
      const agent = ssh2.createAgent(socketPath) as BaseAgent<Ssh2Key>;
      const timer = setTimeout(() => reject(new Error('it does not answer')), AGENT_DEADLINE_MS);
      const asIdentity = (key: Ssh2Key): Identity => ({
        publicKey: key.getPublicSSH(),
        label: `agent:${key.comment || key.type}`,
        sign: (data, hash) =>
          new Promise((done, failed) => {
            const options = hash === undefined ? {} : { hash: hash as 'sha256' | 'sha512' };
            agent.sign(key, data, options, (error, signature) =>
              signature ? done(signature) : failed(error ?? new Error('the agent gave no signature')),
            );
          }),
      });
      agent.getIdentities((error, keys) => {
        clearTimeout(timer);
        if (error) reject(error);
        else resolve((keys ?? []).map((key) => asIdentity(key as Ssh2Key)));
      });
    }),
});

/** All keys as one agent: ssh2 asks it to sign only what the host would accept, so no passphrase is asked in vain. */
const identityAgent = (
  ssh2: Ssh2,
  identities: readonly Identity[],
  onFault: (words: string) => void,
): BaseAgent => {
  class IdentityAgent extends ssh2.BaseAgent<Buffer> {
    override getIdentities(done: (error?: Error | null, keys?: Buffer[]) => void): void {
      done(
        null,
        identities.map((identity) => identity.publicKey),
      );
    }
    override sign(key: unknown, data: Buffer, ...rest: unknown[]): void {
      const [options, done] = rest as [{ hash?: string }, (error: Error | null, signature?: Buffer) => void];
      const wanted = (key as Ssh2Key).getPublicSSH();
      const identity = identities.find((one) => one.publicKey.equals(wanted));
      const signing = identity?.sign(data, options.hash) ?? Promise.reject(new Error('a key nobody offered'));
      signing.then(
        (signature) => done(null, signature),
        (error: Error) => {
          onFault(error.message);
          done(error);
        },
      );
    }
  }
  return new IdentityAgent();
};

const asAuthMethod = (
  ssh2: Ssh2,
  step: LoginStep,
  username: string,
  onFault: (fault: unknown) => void,
): AnyAuthMethod | Promise<AnyAuthMethod> => {
  if (step.kind === 'none') return { type: 'none', username };
  if (step.kind === 'keys')
    return {
      type: 'agent',
      username,
      agent: identityAgent(ssh2, step.identities, (words) => onFault(words)),
    };
  if (step.kind === 'password')
    return step.ask().then((password) => ({ type: 'password' as const, username, password }));
  return {
    type: 'keyboard-interactive',
    username,
    prompt: (name, instructions, _language, prompts, finish) => {
      const title = [name, instructions].filter((text) => text.trim() !== '').join('\n');
      step.answer(title, prompts).then(finish, onFault);
    },
  };
};

/** What is read before a socket is opened, so that nothing a socket says meets an empty chair. */
type Prepared = { check: HostKeyCheck; identities: Identity[]; remarks: string[] };

const prepare = async (
  ssh2: Ssh2,
  settings: SshSettings,
  target: SshTarget,
  asker: Asker,
): Promise<Prepared> => {
  const check = await createHostKeyCheck(settings, target.home);
  return { check, ...(await collectIdentities(settings, target, keyTools(ssh2), asker)) };
};

type Hop = Prepared & { settings: SshSettings; sock: Duplex; said(): string };

/** Logs in to one host over an open socket. Rejects with `host-key`, `ssh-auth` or `unreachable`. */
const login = (ssh2: Ssh2, hop: Hop, person: Asker, signal: AbortSignal): Promise<Client> => {
  const { settings, sock, check } = hop;
  const asker: Asker = person && { ask: (question) => deadline.hold(() => person.ask(question)) };
  // A signature may wait for a passphrase, for a touch on a key, for a yes in an agent's window.
  const identities = hop.identities.map((one): Identity => {
    return { ...one, sign: (data, hash) => deadline.hold(() => one.sign(data, hash)) };
  });
  const plan = createLoginPlan(`${settings.user}@${settings.alias}`, identities, hop.remarks, asker);
  const client = new ssh2.Client();
  const faults: string[] = [];
  let stage: SshMoment['stage'] = 'handshake';
  let accepts: readonly string[] = [];
  const moment = (): SshMoment => ({
    ...{ host: settings.alias, hostname: settings.hostname, port: settings.port, stage, accepts },
    ...{ tried: [...plan.tried(), ...faults], proxySaid: hop.said() },
  });
  let fail: (thrown: unknown) => void = () => {};
  const deadline = createStageDeadline(HANDSHAKE_DEADLINE_MS, (limitMs) =>
    fail(unreachable(moment(), `did not finish the ${stage} within ${limitMs / 1000} s`)),
  );
  return new Promise<Client>((resolve, reject) => {
    const settle = () => {
      deadline.end();
      signal.removeEventListener('abort', onAbort);
    };
    fail = (thrown) => {
      settle();
      reject(sshFailure(thrown, moment()));
      client.end();
      sock.destroy();
    };
    const onAbort = () => fail(signal.reason);
    signal.addEventListener('abort', onAbort, { once: true });
    client.on('handshake', () => {
      if (stage !== 'handshake') return;
      stage = 'login';
      deadline.restart(LOGIN_DEADLINE_MS);
      check.keep().catch(fail);
    });
    client.once('ready', () => {
      settle();
      resolve(client);
    });
    // An agent's fault leaves the other keys and ways; every other error ends the attempt.
    client.on('error', (error: Error & { level?: string }) => {
      if (error.level !== 'agent') fail(error);
    });
    client.once('close', () => fail(Object.assign(new Error('closed'), { code: 'ECONNRESET' })));
    const onFault = (fault: unknown) => (typeof fault === 'string' ? void faults.push(fault) : fail(fault));
    client.connect({
      sock,
      username: settings.user,
      keepaliveInterval: 0,
      readyTimeout: 0,
      agentForward: false,
      algorithms: { serverHostKey: check.algorithms as never, cipher: [...CIPHERS], compress: ['none'] },
      hostVerifier: (key: Buffer, verify: (ok: boolean) => void) => {
        check.verify(Buffer.from(key), asker).then(() => verify(true), fail);
      },
      authHandler: (left, _partial, next) => {
        if (Array.isArray(left)) accepts = left;
        const step = plan.next(Array.isArray(left) ? left : undefined);
        const refuse = next as unknown as (no: false) => void;
        if (step === undefined) refuse(false);
        else Promise.resolve(asAuthMethod(ssh2, step, settings.user, onFault)).then(next, fail);
      },
    });
  });
};

const forward = (client: Client, from: SshSettings, to: SshSettings): Promise<Duplex> => {
  const opening = new Promise<Duplex>((resolve, reject) => {
    client.forwardOut('127.0.0.1', 0, to.hostname, to.port, (error, stream) =>
      error
        ? reject(
            unreachable(momentOf(to, 'connect'), `is not reachable from ${from.alias}: ${error.message}`),
          )
        : resolve(stream),
    );
  });
  const late = () => unreachable(momentOf(to, 'connect'), `does not answer ${from.alias}`);
  return withDeadline(opening, CONNECT_DEADLINE_MS, late);
};

const whenClosed = (client: Client): Promise<Error | undefined> => {
  let reason: Error | undefined;
  client.on('error', (error: Error) => {
    reason ??= error;
  });
  return new Promise((resolve) => client.once('close', () => resolve(reason)));
};

const asProcess = (channel: ClientChannel): RemoteProcess => {
  let exit: { code: number | null } | undefined;
  channel.on('exit', (code: number | null) => {
    exit = { code };
  });
  const ended = new Promise<{ code: number | null; lost: boolean }>((resolve) => {
    channel.once('close', () => resolve({ code: exit?.code ?? null, lost: exit === undefined }));
  });
  channel.on('error', () => {});
  return {
    stdin: channel,
    stdout: channel,
    stderr: channel.stderr,
    ended,
    kill: () => void channel.destroy(),
  };
};

/** sshd frees a session a moment after it closed its channel; where MaxSessions is 1 the next open may come too early. */
const OPEN_RETRIES_MS = [25, 50, 100, 200, 400];

const openChannel = (client: Client, settings: SshSettings, command: string): Promise<ClientChannel> => {
  const opening = new Promise<ClientChannel>((resolve, reject) => {
    client.exec(command, (error, channel) => (error ? reject(error) : resolve(channel)));
  });
  return withDeadline(opening, CHANNEL_DEADLINE_MS, () =>
    unreachable(momentOf(settings, 'open'), 'opens no channel'),
  );
};

const spawnOver =
  (client: Client, settings: SshSettings): Spawn =>
  async (command) => {
    for (let tries = 0; ; tries++) {
      try {
        return asProcess(await openChannel(client, settings, command));
      } catch (error) {
        const waitMs = OPEN_RETRIES_MS[tries];
        const refused = error instanceof Error && /open failure/i.test(error.message);
        if (!refused || waitMs === undefined) throw sshFailure(error, momentOf(settings, 'open'));
        await delay(waitMs);
      }
    }
  };

/** Connects to each host of a route through the one before it. The clients come in the order of the hosts. */
async function* connectRoute(
  ssh2: Ssh2,
  route: readonly SshSettings[],
  target: SshTarget,
  asker: Asker,
  signal: AbortSignal,
): AsyncGenerator<{ client: Client; rttMs: number | undefined }> {
  const prepared = await Promise.all(route.map((settings) => prepare(ssh2, settings, target, asker)));
  let before: { client: Client; settings: SshSettings } | undefined;
  for (const [at, settings] of route.entries()) {
    const ready = prepared[at];
    if (ready === undefined) return;
    const way = before
      ? { sock: await forward(before.client, before.settings, settings), rttMs: undefined, said: () => '' }
      : await openFirstSocket(settings, target.env, signal).catch((error) => {
          throw sshFailure(error, momentOf(settings, 'connect'));
        });
    const client = await login(ssh2, { ...ready, settings, sock: way.sock, said: way.said }, asker, signal);
    before = { client, settings };
    yield { client, rttMs: way.rttMs };
  }
}

/**
 * Connects to a host over its jump hosts, sets khlone-server up there if it is missing, and gives the one channel to
 * it. Rejects with `host-key` or `ssh-auth` (a person is needed), `unreachable`, `remote-setup` or `config`.
 */
export const openSshWire = async (target: SshTarget, asker: Asker, deps: WireDeps): Promise<Wire> => {
  const [ssh2, build, route] = await Promise.all([
    loadSsh2(),
    readBuild(deps.serverBundle, deps.version),
    resolveRoute(target.host, target.env, deps.signal),
  ]);
  const clients: Client[] = [];
  const close = () => {
    for (const client of clients.toReversed()) client.end();
  };
  deps.signal.addEventListener('abort', close, { once: true });
  try {
    let rttMs: number | undefined;
    for await (const hop of connectRoute(ssh2, route, target, asker, deps.signal)) {
      clients.push(hop.client);
      if (route.length === 1) rttMs = hop.rttMs;
    }
    const [client, settings] = [clients.at(-1), route.at(-1)];
    if (client === undefined || settings === undefined)
      throw new KhloneError('config', `no way to ${target.host}`);
    const closed = whenClosed(client);
    void closed.then(close);
    const duplex = await startRelay(spawnOver(client, settings), target.host, build, ownNode());
    return { duplex, close, closed, ...(rttMs === undefined ? {} : { rttMs }) };
  } catch (error) {
    close();
    throw deps.signal.aborted ? deps.signal.reason : error;
  } finally {
    deps.signal.removeEventListener('abort', close);
  }
};
