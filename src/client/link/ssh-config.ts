import { execFile } from 'node:child_process';
import { homedir, userInfo } from 'node:os';
import { KhloneError } from '../../protocol/error.ts';
import { oneLine } from '../../provision/remote-shell.ts';

type Env = Record<string, string | undefined>;

/** How `ssh` itself would reach a host: the parts of `ssh -G` that matter here, resolved. */
export type SshSettings = {
  /** As the user wrote it, without user and port. */
  readonly alias: string;
  readonly hostname: string;
  readonly port: number;
  readonly user: string;
  readonly identityFiles: readonly string[];
  /** A socket path, `none`, or undefined for the caller's SSH_AUTH_SOCK. */
  readonly identityAgent: string | undefined;
  readonly identitiesOnly: boolean;
  readonly proxyCommand: string | undefined;
  /** Hops as written, the first to dial first. */
  readonly proxyJump: readonly string[];
  readonly userKnownHosts: readonly string[];
  readonly globalKnownHosts: readonly string[];
  readonly hostKeyAlias: string | undefined;
  readonly hashKnownHosts: boolean;
  readonly certificateFiles: readonly string[];
  readonly kexAlgorithms: readonly string[];
  readonly gssapi: boolean;
  readonly hostBased: boolean;
  readonly pkcs11Provider: string | undefined;
  readonly knownHostsCommand: string | undefined;
  /** A ProxyCommand that hands over a connected socket instead of carrying its bytes. */
  readonly proxyUseFdpass: boolean;
  /** Every option that this ssh knows, in small letters: an unknown one on its command line would be an error. */
  readonly options: ReadonlySet<string>;
};

/** How long `ssh -G` may take; `Match exec` in a config may run programs. */
const RESOLVE_DEADLINE_MS = 10_000;
const OUTPUT_MAX_BYTES = 1 << 20;

export type HostWord = { readonly host: string; readonly user?: string; readonly port?: number };

const refuse = (word: string, why: string) =>
  new KhloneError(
    'config',
    `"${oneLine(word, 80)}" is not a host: ${why}`,
    'name a Host of ~/.ssh/config, or user@host:port',
  );

/**
 * Splits `host`, `user@host`, `user@host:port`, `[v6]:port` or an ssh:// address. Whatever could be an option or
 * mean something to a shell is refused (`config`): the words end up in argv and in a user's own ProxyCommand.
 */
export const parseHostWord = (word: string): HostWord => {
  const bare = word.replace(/^ssh:\/\//, '').replace(/\/$/, '');
  const at = bare.lastIndexOf('@');
  const user = at === -1 ? undefined : bare.slice(0, at);
  const place = bare.slice(at + 1);
  const [, v6, v6Port] = place.match(/^\[([0-9A-Fa-f:.%\w]+)\](?::(\d+))?$/) ?? [];
  const [, name, namePort] = place.match(/^([^:]+)(?::(\d+))?$/) ?? [];
  const host = v6 ?? name ?? place;
  const port = v6Port ?? namePort;
  if (host.startsWith('-') || user?.startsWith('-')) throw refuse(word, 'it begins with "-"');
  if (!/^[\p{L}\p{N}._:%-]+$/u.test(host))
    throw refuse(word, 'a host name has letters, digits, ".", "-" and "_"');
  if (user !== undefined && !/^[\p{L}\p{N}._@+$-]+$/u.test(user)) throw refuse(word, 'the user name is odd');
  if (port !== undefined && !(Number(port) >= 1 && Number(port) <= 65_535))
    throw refuse(word, 'the port is odd');
  return {
    host,
    ...(user === undefined ? {} : { user }),
    ...(port === undefined ? {} : { port: Number(port) }),
  };
};

/** Expands `~` as ssh does: to the home of the account, whatever HOME says. */
const expandHome = (path: string): string =>
  path.replace(/^~(?=\/|$)/, () => userInfo().homedir || homedir());

/** Expands the tokens of ssh_config that may stand in a ProxyCommand or a file name. */
export const expandTokens = (
  text: string,
  settings: Pick<SshSettings, 'alias' | 'hostname' | 'port' | 'user'>,
) => {
  const values: Record<string, string> = {
    '%': '%',
    h: settings.hostname,
    n: settings.alias,
    p: String(settings.port),
    r: settings.user,
    u: userInfo().username,
    d: userInfo().homedir,
    i: String(userInfo().uid),
  };
  return text.replace(/%([%hnprudi])/g, (_, key: string) => values[key] ?? '');
};

const notNone = (value: string | undefined) =>
  value === undefined || value.toLowerCase() === 'none' ? undefined : value;

/** Reads the output of `ssh -G`. Pure; unknown keys are skipped, missing ones get OpenSSH's defaults. */
export const parseSshG = (alias: string, text: string): SshSettings => {
  const lines = text.split(/\r?\n/).map((line) => {
    const gap = line.indexOf(' ');
    return gap === -1
      ? ([line, ''] as const)
      : ([line.slice(0, gap).toLowerCase(), line.slice(gap + 1)] as const);
  });
  const all = (key: string) =>
    lines.flatMap(([name, value]) => (name === key && value !== '' ? [value] : []));
  const one = (key: string) => all(key)[0];
  const place = {
    alias,
    hostname: one('hostname') ?? alias,
    port: Number(one('port') ?? 22),
    user: one('user') ?? userInfo().username,
  };
  const file = (path: string) => expandHome(expandTokens(path.replace(/^"(.*)"$/, '$1'), place));
  const files = (key: string) => (notNone(one(key))?.match(/"[^"]*"|\S+/g) ?? []).map(file);
  const agent = one('identityagent');
  return {
    ...place,
    identityFiles: all('identityfile').flatMap((path) => (notNone(path) === undefined ? [] : [file(path)])),
    identityAgent:
      agent === undefined || agent === 'SSH_AUTH_SOCK' || agent.startsWith('$') ? agent : file(agent),
    identitiesOnly: one('identitiesonly') === 'yes',
    proxyCommand: notNone(one('proxycommand')),
    proxyJump:
      notNone(one('proxyjump'))
        ?.split(',')
        .map((hop) => hop.trim()) ?? [],
    userKnownHosts: files('userknownhostsfile'),
    globalKnownHosts: files('globalknownhostsfile'),
    hostKeyAlias: notNone(one('hostkeyalias')),
    hashKnownHosts: one('hashknownhosts') === 'yes',
    certificateFiles: all('certificatefile').flatMap((path) => (notNone(path) ? [file(path)] : [])),
    kexAlgorithms: one('kexalgorithms')?.split(',') ?? [],
    gssapi: one('gssapiauthentication') === 'yes',
    hostBased: one('hostbasedauthentication') === 'yes',
    pkcs11Provider: notNone(one('pkcs11provider')),
    knownHostsCommand: notNone(one('knownhostscommand')),
    proxyUseFdpass: one('proxyusefdpass') === 'yes',
    options: new Set(lines.map(([name]) => name)),
  };
};

const argvOf = ({ user, port, host }: HostWord): string[] => [
  ...(user === undefined ? [] : ['-l', user]),
  ...(port === undefined ? [] : ['-p', String(port)]),
  ...['--', host],
];

/** A host as written in the words that `ssh` takes, the end of its options included. Fails with `config`. */
export const hostArgv = (written: string): string[] => argvOf(parseHostWord(written));

const runSshG = (word: HostWord, env: Env, signal: AbortSignal): Promise<string> => {
  const argv = ['-G', ...argvOf(word)];
  const limits = { timeout: RESOLVE_DEADLINE_MS, maxBuffer: OUTPUT_MAX_BYTES, signal, env };
  return new Promise((resolve, reject) => {
    execFile('ssh', argv, limits, (error, stdout, stderr) => {
      if (!error) resolve(stdout);
      else if (signal.aborted) reject(signal.reason);
      else if (error.code === 'ENOENT')
        reject(new KhloneError('config', 'ssh is not installed here', 'install the OpenSSH client'));
      else
        reject(
          new KhloneError(
            'config',
            `ssh cannot resolve ${word.host}: ${oneLine(stderr) || error.message}`,
            `look at it with: ssh -G ${word.host}`,
          ),
        );
    });
  });
};

/** Resolves a host as written, by `ssh -G`, in the caller's environment. Fails with `config`. */
export const resolveHost = async (written: string, env: Env, signal: AbortSignal): Promise<SshSettings> => {
  const word = parseHostWord(written);
  const settings = parseSshG(word.host, await runSshG(word, env, signal));
  // HostName and User come from a config that may hold anything; they meet a ProxyCommand's shell below.
  parseHostWord(settings.hostname.includes(':') ? `[${settings.hostname}]` : settings.hostname);
  return settings;
};

/** How many hosts may stand in a row. */
const HOPS_MAX = 8;

/**
 * The hosts to pass, the target last. A jump host named in a config may itself need a jump; a list of jumps is
 * followed as written, as OpenSSH does. Fails with `config` when the chain is too long.
 */
export const resolveRoute = async (
  written: string,
  env: Env,
  signal: AbortSignal,
): Promise<SshSettings[]> => {
  const target = await resolveHost(written, env, signal);
  const route: SshSettings[] = [target];
  let waiting = [...target.proxyJump];
  while (waiting.length > 0) {
    if (route.length >= HOPS_MAX)
      throw new KhloneError(
        'config',
        `more than ${HOPS_MAX} jumps to ${written}`,
        'look at ProxyJump in ~/.ssh/config',
      );
    const hop = await resolveHost(waiting.pop() ?? '', env, signal);
    route.unshift(hop);
    if (waiting.length === 0) waiting = [...hop.proxyJump];
  }
  return route;
};
