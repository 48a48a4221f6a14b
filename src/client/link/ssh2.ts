import type { Duplex } from 'node:stream';
import ssh2Library, { type Client, type ClientChannel } from 'ssh2';
import { KhloneError } from '../../protocol/error.ts';
import { ownNode, readBuild } from '../../provision/bootstrap.ts';
import { lateFault } from './away.ts';
import { resolveRoute, type SshSettings } from './ssh-config.ts';
import { createStageDeadline, withDeadline } from './ssh-deadline.ts';
import { momentOf, type SshMoment, sshFailure, unreachable, wayFailed } from './ssh-error.ts';
import { createHostKeyCheck, type HostKeyCheck } from './ssh-host-key.ts';
import { collectIdentities, type Identity } from './ssh-keys.ts';
import { createLoginPlan } from './ssh-login.ts';
import { type Begging, createBegging, personNeeded, SIGNATURE_DEADLINE_MS } from './ssh-person.ts';
import { asPty, type OpenPty, type PtyChannel, ptyCommand } from './ssh-pty.ts';
import { type RemoteProcess, type Spawn, startRelay } from './ssh-relay.ts';
import { CONNECT_DEADLINE_MS, openFirstSocket } from './ssh-socket.ts';
import type { Asker, SshTarget, Wire, WireDeps } from './ssh-target.ts';
import { asAuthMethod, keyTools } from './ssh2-auth.ts';

/** The only file that knows ssh2. Whoever makes a connection loads it then: a local zone never pays for it. */

export type { Asker, SshTarget, Wire, WireDeps } from './ssh-target.ts';

const HANDSHAKE_DEADLINE_MS = 10_000;
/** Reverse look-ups and PAM make logins slow; questions to a person do not count. */
const LOGIN_DEADLINE_MS = 20_000;
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

/** ssh2 as a value, for the file that speaks of keys; nobody else imports it. */
export type Ssh2 = typeof ssh2Library;
export type { AnyAuthMethod, BaseAgent, ParsedKey } from 'ssh2';

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

type SignWork = {
  begging: Begging;
  /** Runs a wait for a person while the clock stands still; undefined: there is none. */
  hold: (<T>(sign: () => Promise<T>) => Promise<T>) | undefined;
  late: () => void;
};

/** A signature may wait for a passphrase, for a touch on a key, for a yes in an agent's window. */
const patient = (one: Identity, { begging, hold, late }: SignWork): Identity => ({
  ...one,
  sign: async (data, hash) => {
    if (hold) return hold(() => one.sign(data, hash));
    const tooLate = (): Error => {
      late();
      return new Error('the signature came too late');
    };
    begging.begin(false);
    try {
      return await withDeadline(one.sign(data, hash), SIGNATURE_DEADLINE_MS, tooLate);
    } finally {
      begging.end();
    }
  },
});

/** Logs in to one host over an open socket. Rejects with `host-key`, `ssh-auth` or `unreachable`. */
const login = (ssh2: Ssh2, hop: Hop, person: Asker, signal: AbortSignal): Promise<Client> => {
  const { settings, sock, check } = hop;
  const asker: Asker = person && { ask: (question) => deadline.hold(() => person.ask(question)) };
  const begging = createBegging();
  const work: SignWork = {
    ...{ begging, hold: person && ((sign) => deadline.hold(sign)) },
    late: () => fail(personNeeded(settings.alias)),
  };
  const identities = hop.identities.map((one) => patient(one, work));
  const plan = createLoginPlan(`${settings.user}@${settings.alias}`, identities, hop.remarks, asker);
  const client = new ssh2.Client();
  const faults: string[] = [];
  let stage: 'handshake' | 'login' = 'handshake';
  let accepts: readonly string[] = [];
  const moment = (): SshMoment => ({
    ...{ host: settings.alias, hostname: settings.hostname, port: settings.port, stage, accepts },
    ...{ tried: [...plan.tried(), ...faults], proxySaid: hop.said() },
  });
  let fail: (thrown: unknown) => void = () => {};
  const deadline = createStageDeadline(HANDSHAKE_DEADLINE_MS, (limitMs) =>
    fail(wayFailed(moment(), lateFault(stage, limitMs))),
  );
  return new Promise<Client>((resolve, reject) => {
    const settle = () => {
      deadline.end();
      signal.removeEventListener('abort', onAbort);
    };
    fail = (thrown) => {
      settle();
      reject(
        begging.waits() && !signal.aborted ? personNeeded(settings.alias) : sshFailure(thrown, moment()),
      );
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

const spawnOver =
  (client: Client, settings: SshSettings): Spawn =>
  (command) => {
    const opening = new Promise<RemoteProcess>((resolve, reject) => {
      client.exec(command, (error, channel) => (error ? reject(error) : resolve(asProcess(channel))));
    });
    const late = () => unreachable(momentOf(settings, 'open'), 'opens no channel');
    return withDeadline(opening, CHANNEL_DEADLINE_MS, late).catch((error) => {
      if (error instanceof Error && /open failure/i.test(error.message)) return undefined;
      throw sshFailure(error, momentOf(settings, 'open'));
    });
  };

const ptyOver =
  (client: Client, settings: SshSettings): OpenPty =>
  ({ argv, env, size }) => {
    const pty = { term: env.TERM ?? 'xterm', cols: size.columns, rows: size.rows, width: 0, height: 0 };
    const opening = new Promise<PtyChannel>((resolve, reject) => {
      const command = ptyCommand({ argv, env });
      client.exec(command, { pty }, (error, channel) => (error ? reject(error) : resolve(asPty(channel))));
    });
    const late = () => unreachable(momentOf(settings, 'open'), 'opens no channel');
    return withDeadline(opening, CHANNEL_DEADLINE_MS, late);
  };

/** Connects to each host of a route through the one before it. The clients come in the order of the hosts. */
async function* connectRoute(
  ssh2: Ssh2,
  route: readonly SshSettings[],
  target: SshTarget,
  asker: Asker,
  signal: AbortSignal,
): AsyncGenerator<{ client: Client; sock: Duplex; rttMs: number | undefined }> {
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
    yield { client, sock: way.sock, rttMs: way.rttMs };
  }
}

/**
 * Connects to a host over its jump hosts, sets khlone-server up there if it is missing, and gives the one channel to
 * it. Rejects with `host-key` or `ssh-auth` (a person is needed), `unreachable`, `remote-setup` or `config`.
 */
export const openSshWire = async (target: SshTarget, asker: Asker, deps: WireDeps): Promise<Wire> => {
  const ssh2 = ssh2Library;
  const [build, route] = await Promise.all([
    readBuild(deps.serverBundle, deps.version),
    deps.route ?? resolveRoute(target.host, target.env, deps.signal),
  ]);
  const hops: { client: Client; sock: Duplex }[] = [];
  // A goodbye where it still gets through; the socket goes at once, for behind a dead path it would linger for minutes.
  const close = () => {
    for (const { client, sock } of hops.toReversed()) {
      client.end();
      sock.destroy();
    }
  };
  deps.signal.addEventListener('abort', close, { once: true });
  try {
    let rttMs: number | undefined;
    for await (const hop of connectRoute(ssh2, route, target, asker, deps.signal)) {
      hops.push(hop);
      if (route.length === 1) rttMs = hop.rttMs;
    }
    const [client, settings] = [hops.at(-1)?.client, route.at(-1)];
    if (client === undefined || settings === undefined)
      throw new KhloneError('config', `no way to ${target.host}`);
    const closed = whenClosed(client);
    void closed.then(close);
    const spawn = spawnOver(client, settings);
    const duplex = await startRelay(spawn, {
      host: target.host,
      build,
      node: ownNode(),
      progress: deps.progress,
    });
    const openPty = ptyOver(client, settings);
    return { duplex, close, closed, openPty, spawn, ...(rttMs === undefined ? {} : { rttMs }) };
  } catch (error) {
    close();
    throw deps.signal.aborted ? deps.signal.reason : error;
  } finally {
    deps.signal.removeEventListener('abort', close);
  }
};
