import { type ChildProcess, type ChildProcessWithoutNullStreams, spawn } from 'node:child_process';
import { PassThrough } from 'node:stream';
import { KhloneError } from '../../protocol/error.ts';
import { ownNode, readBuild } from '../../provision/bootstrap.ts';
import { lateFault } from './away.ts';
import { hopEnv, type OpensshWish, opensshArgv } from './openssh-argv.ts';
import { type AskpassDesk, openAskpass } from './openssh-askpass.ts';
import { opensshFailure } from './openssh-error.ts';
import { ptyOver } from './openssh-pty.ts';
import { resolveRoute, type SshSettings } from './ssh-config.ts';
import { createStageDeadline, type StageDeadline } from './ssh-deadline.ts';
import { momentOf, unreachable, wayFailed } from './ssh-error.ts';
import { pinsOf } from './ssh-host-key.ts';
import { createBegging, personNeeded, SIGNATURE_DEADLINE_MS } from './ssh-person.ts';
import { type RemoteProcess, type Spawn, startRelay } from './ssh-relay.ts';
import type { Asker, SshTarget, Wire, WireDeps } from './ssh-target.ts';

/**
 * The same wire as ssh2.ts gives, by a child `ssh`: for all that OpenSSH can and ssh2 cannot. One child per command
 * while a host is set up, then one that lives as long as the link. Nothing is shared with the person's own sessions.
 */

/** From the first byte to the end of the login; questions to a person do not count. */
const LOGIN_DEADLINE_MS = 40_000;
/** An agent or a key may ask somebody by itself, and tells us nothing of it. */
const LOGIN_WITH_PERSON_DEADLINE_MS = 120_000;
const KILL_AFTER_MS = 2_000;
/** How long what ssh started may outlast it: a ProxyCommand's last words come late, and its children may stay for ever. */
const LAST_WORDS_MS = 250;
const SAID_MAX_CHARS = 16_000;

/** What ssh itself says at this log level about a connection that goes well: no words of the host. */
const CHATTER = /^(debug1: |Authenticated to |Transferred: sent |Bytes per second: sent )/;
/** ssh ends with this on its own account; a command that ends so is taken for it, unless the host refused the command. */
const SSH_FAILED = 255;
const COMMAND_REFUSED = /request failed on channel|exec request failed/i;

/** The types of hardware keys as ssh says them. */
const HARDWARE_KEY = / (ED25519|ECDSA)-SK /;

/** Ends a child and what it started; `detached` made it the leader of a group of its own. */
const endGroup = (child: ChildProcess, signal: NodeJS.Signals): void => {
  try {
    if (child.pid !== undefined) process.kill(-child.pid, signal);
  } catch {
    // All of it has ended.
  }
};

const end = (child: ChildProcess): void => {
  // Whoever ends it reads no more, and a stream that is not read never closes.
  child.stdout?.destroy();
  if (child.exitCode !== null || child.signalCode !== null) return;
  endGroup(child, 'SIGTERM');
  const timer = setTimeout(endGroup, KILL_AFTER_MS, child, 'SIGKILL');
  child.once('exit', () => clearTimeout(timer));
};

type Heard = {
  /** What is of use for judging a failure. */
  said(): string;
  /** The same as a stream, for whoever reads the host's own words. */
  readonly host: PassThrough;
};

/** stderr of a child, where ssh's words and the host's come mixed. */
const listen = (child: ChildProcessWithoutNullStreams, onLine: (line: string) => void): Heard => {
  const host = new PassThrough();
  let said = '';
  let torn = '';
  const take = (line: string): void => {
    onLine(line);
    if (CHATTER.test(line)) return;
    said = `${said}${line}\n`.slice(-SAID_MAX_CHARS);
    // Nobody has to read it: what is not read stays within the bound of the stream.
    if (host.writableLength < SAID_MAX_CHARS) host.write(`${line}\n`);
  };
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    const lines = (torn + text).split('\n');
    torn = (lines.pop() ?? '').slice(-SAID_MAX_CHARS);
    lines.forEach(take);
  });
  child.stderr.once('close', () => {
    take(torn);
    torn = '';
    host.end();
  });
  return { host, said: () => said + torn };
};

type Line = {
  readonly target: SshTarget;
  readonly wish: OpensshWish;
  readonly env: Record<string, string | undefined>;
  readonly desk: AskpassDesk | undefined;
  readonly living: Set<ChildProcess>;
  readonly signal: AbortSignal;
  /** Commands get a terminal of sshd's. */
  readonly tty: boolean;
  /** The clock of the login under way. */
  deadline: StageDeadline | undefined;
  /** Ends the login under way with this. */
  fail: (thrown: unknown) => void;
};

const start = (line: Line, command: string): ChildProcessWithoutNullStreams => {
  const child = spawn('ssh', opensshArgv(line.wish, command, line.tty), {
    env: line.env,
    stdio: 'pipe',
    // A session of its own: no terminal that ssh could ask at behind our back, and a group that ends as one.
    detached: true,
  });
  line.living.add(child);
  child.stdin.on('error', () => {});
  child.once('exit', () => {
    line.living.delete(child);
    setTimeout(() => {
      // What is left of its group has nobody to carry bytes for.
      endGroup(child, 'SIGKILL');
      child.stderr.destroy();
    }, LAST_WORDS_MS);
  });
  return child;
};

const asProcess = (child: ChildProcessWithoutNullStreams, words: Heard): RemoteProcess => ({
  stdin: child.stdin,
  stdout: child.stdout,
  stderr: words.host,
  ended: new Promise((resolve) => {
    child.once('close', (code) => {
      const refused = code === SSH_FAILED && COMMAND_REFUSED.test(words.said());
      resolve({ code, lost: !refused && (code === null || code === SSH_FAILED) });
    });
  }),
  kill: () => end(child),
});

const notStarted = (error: NodeJS.ErrnoException, settings: SshSettings): KhloneError =>
  error.code === 'ENOENT'
    ? new KhloneError('config', 'ssh is not installed here', 'install the OpenSSH client')
    : unreachable(momentOf(settings, 'connect'), `cannot be dialled: ${error.message}`);

const tooLate = (settings: SshSettings, signs: boolean, limitMs: number): KhloneError =>
  signs ? personNeeded(settings.alias) : wayFailed(momentOf(settings, 'login'), lateFault('login', limitMs));

/** Runs a command over an ssh of its own and gives it when the login is done. */
const spawnOver =
  (line: Line): Spawn =>
  (command) => {
    const { canAsk, target } = line.wish;
    line.desk?.nextChild();
    const child = start(line, command);
    return new Promise<RemoteProcess>((resolve, reject) => {
      const begging = createBegging();
      let signs = false;
      const settle = () => {
        deadline.end();
        line.signal.removeEventListener('abort', onAbort);
        child.off('close', onClose);
        child.stdout.off('readable', onOutput);
      };
      const fail = (thrown: unknown) => {
        settle();
        end(child);
        reject(thrown);
      };
      const onAbort = () => fail(line.signal.reason);
      const onLogin = () => {
        settle();
        resolve(process);
      };
      // Output proves a login too, should this ssh not say so in words that are known here.
      const onOutput = () => {
        if (child.stdout.readableLength > 0) onLogin();
        else child.stdout.read(0);
      };
      const onClose = () =>
        fail(
          begging.waits()
            ? personNeeded(target.alias)
            : opensshFailure(words.said(), momentOf(target, 'login')),
        );
      const words = listen(child, (said) => {
        if (said.startsWith('Authenticated to ')) onLogin();
        if (canAsk || !said.startsWith('debug1: ')) return;
        // What follows was answered: another way to log in is tried, or the next.
        if (said.startsWith('debug1: Authentications that can continue')) begging.end();
        if (!said.startsWith('debug1: Server accepts key')) return;
        begging.begin(HARDWARE_KEY.test(said));
        signs = true;
        deadline.restart(SIGNATURE_DEADLINE_MS);
      });
      const process = asProcess(child, words);
      const deadline = createStageDeadline(
        canAsk ? LOGIN_WITH_PERSON_DEADLINE_MS : LOGIN_DEADLINE_MS,
        (limitMs) => fail(tooLate(target, signs, limitMs)),
      );
      Object.assign(line, { deadline, fail });
      line.signal.addEventListener('abort', onAbort, { once: true });
      child.once('close', onClose);
      child.stdout.on('readable', onOutput);
      child.once('error', (error: NodeJS.ErrnoException) => fail(notStarted(error, target)));
    });
  };

/** The caller's environment, in which ssh asks us or nobody. */
const environmentOf = (
  target: SshTarget,
  hops: Record<string, string>,
  desk: AskpassDesk | undefined,
): Line['env'] => {
  const { SSH_ASKPASS: _theirs, SSH_ASKPASS_PROMPT: _kind, ...env } = target.env;
  return {
    ...env,
    ...(target.sshAuthSock && { SSH_AUTH_SOCK: target.sshAuthSock }),
    ...hops,
    // Versions before 8.4 ask the program only where there is a display.
    ...(desk ? { DISPLAY: env.DISPLAY || 'none', ...desk.env } : { SSH_ASKPASS_REQUIRE: 'never' }),
  };
};

/** Readies a link without dialling. Fails with `config`. */
const ready = async (target: SshTarget, asker: Asker, deps: WireDeps): Promise<Line> => {
  const route = deps.route ?? (await resolveRoute(target.host, target.env, deps.signal));
  const last = route.at(-1);
  if (last === undefined) throw new KhloneError('config', `no way to ${target.host}`);
  const wish = {
    ...{ host: target.host, target: last, hops: route.slice(0, -1) },
    ...{ canAsk: asker !== undefined, pins: await pinsOf(target.home) },
  };
  const hops = hopEnv(wish);
  const desk =
    asker &&
    (await openAskpass(target.home, {
      asker,
      hold: (work) => line.deadline?.hold(work) ?? work(),
      notice: (text) => deps.notice?.(text),
      // This option came with 8.7: the oldest sign that `ssh -G` gives.
      namesHosts: last.options.has('sessiontype'),
      onFault: (thrown) => line.fail(thrown),
    }));
  const line: Line = {
    ...{ target, wish, desk, signal: deps.signal, env: environmentOf(target, hops, desk) },
    ...{ living: new Set(), tty: false, deadline: undefined, fail: () => {} },
  };
  return line;
};

/** Logs in once more for a terminal. Nobody waits there to be asked: a key of the agent, or a file's, has to do. */
const quietly = (line: Line): Line => ({
  ...{ ...line, tty: true, desk: undefined, wish: { ...line.wish, canAsk: false } },
  env: environmentOf(line.target, hopEnv({ ...line.wish, canAsk: false }), undefined),
});

/**
 * Connects to a host by `ssh`, sets khlone-server up there if it is missing, and gives the one stream to it. Rejects
 * with `host-key` or `ssh-auth` (a person is needed), `unreachable`, `remote-setup` or `config`.
 */
export const openOpensshWire = async (target: SshTarget, asker: Asker, deps: WireDeps): Promise<Wire> => {
  const build = await readBuild(deps.serverBundle, deps.version);
  const line = await ready(target, asker, deps);
  const close = () => {
    for (const child of line.living) end(child);
  };
  let last: RemoteProcess | undefined;
  const spawnNext: Spawn = async (command) => {
    last = await spawnOver(line)(command);
    return last;
  };
  deps.signal.addEventListener('abort', close, { once: true });
  try {
    const setup = { host: target.host, build, node: ownNode(), progress: deps.progress };
    const duplex = await startRelay(spawnNext, setup);
    const closed = (last?.ended ?? Promise.resolve()).then(() => undefined);
    return { duplex, close, closed, openPty: ptyOver(spawnOver(quietly(line))) };
  } catch (error) {
    close();
    throw deps.signal.aborted ? deps.signal.reason : error;
  } finally {
    // Nothing is asked after a login.
    line.desk?.close();
    deps.signal.removeEventListener('abort', close);
  }
};
