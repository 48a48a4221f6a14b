import { KhloneError } from '../../protocol/error.ts';
import { oneLine } from '../../provision/remote-shell.ts';
import { hostArgv, type SshSettings } from './ssh-config.ts';

/** The words of our `ssh` children. Pure. Whatever a config says about forwarding, sharing or asking, these win. */

export type OpensshWish = {
  /** The target as the person wrote it. */
  readonly host: string;
  readonly target: SshSettings;
  /** The jump hosts before it, the first to dial first. */
  readonly hops: readonly SshSettings[];
  /** Whether somebody is there to be asked. */
  readonly canAsk: boolean;
  /** khlone's own known_hosts where there is one, read besides those of the config. */
  readonly pins: string | undefined;
};

const CONNECT_SECONDS = 10;
/** The hub notices a dead path itself, and sooner: this is for a child whose hub was killed. */
const ALIVE_EVERY_SECONDS = 15;
const ALIVE_TRIES = 3;

/** Options that older versions lack: set only where `ssh -G` names them. */
const IF_KNOWN = { SessionType: 'default', StdinNull: 'no', ForkAfterAuthentication: 'no' };

const word = (path: string): string => (/[\s"]/.test(path) ? `"${path.replaceAll('"', '\\"')}"` : path);

const common = (settings: SshSettings, wish: OpensshWish, logLevel: string): string[] => {
  const options: Record<string, string | number> = {
    ControlMaster: 'no',
    ControlPath: 'none',
    ForwardAgent: 'no',
    ForwardX11: 'no',
    Tunnel: 'no',
    PermitLocalCommand: 'no',
    RemoteCommand: 'none',
    BatchMode: wish.canAsk ? 'no' : 'yes',
    // A host is never accepted unseen, whatever a config says.
    StrictHostKeyChecking: wish.canAsk ? 'ask' : 'yes',
    ConnectTimeout: CONNECT_SECONDS,
    ServerAliveInterval: ALIVE_EVERY_SECONDS,
    ServerAliveCountMax: ALIVE_TRIES,
    // A session without a terminal would be marked as background traffic, and keystrokes travel in it.
    IPQoS: 'none',
    LogLevel: logLevel,
  };
  if (wish.pins !== undefined)
    options.GlobalKnownHostsFile = [...settings.globalKnownHosts, wish.pins].map(word).join(' ');
  return Object.entries(options).flatMap(([name, value]) => ['-o', `${name}=${value}`]);
};

const quoted = (text: string): string => `'${text.replaceAll("'", `'\\''`)}'`;

const hopVariable = (at: number): string => `KHLONE_SSH_HOP_${at}`;

/** ssh gives a ProxyCommand to the person's shell; the words themselves wait in a variable for sh. */
const through = (at: number): string[] => ['-o', `ProxyCommand=sh -c "$${hopVariable(at)}"`];

/** Another config may hold anything as User; it is a word of its own here, and no option. */
const userOf = ({ user }: SshSettings): string => {
  if (!user.startsWith('-') && !/[\0\n]/.test(user)) return user;
  throw new KhloneError('config', `"${oneLine(user, 80)}" is no user name`, 'look at User in ~/.ssh/config');
};

/** The ssh that carries the bytes to `next` from host `at` of the route, as a line for sh. */
const hopLine = (at: number, hop: SshSettings, next: SshSettings, wish: OpensshWish): string =>
  [
    'exec',
    'ssh',
    ...['-S', 'none', ...common(hop, wish, 'ERROR')],
    ...(at === 0 ? [] : through(at - 1)),
    ...['-l', userOf(hop), '-p', String(hop.port), '-W', `[${next.hostname}]:${next.port}`, '--', hop.alias],
  ]
    .map(quoted)
    .join(' ');

/**
 * What each child has in its environment: one line per jump host. ssh's own ProxyJump would start its hops with the
 * options of the config alone, so the chain is made here, with the same rules for every host of it.
 */
export const hopEnv = (wish: OpensshWish): Record<string, string> =>
  Object.fromEntries(
    wish.hops.map((hop, at) => [hopVariable(at), hopLine(at, hop, wish.hops[at + 1] ?? wish.target, wish)]),
  );

/** The argv, without `ssh` itself, that runs `command` by the target's login shell, with a terminal of sshd's or without. Fails with `config`. */
export const opensshArgv = (wish: OpensshWish, command: string, tty: boolean): string[] => {
  const { target, hops, host } = wish;
  const known = Object.entries(IF_KNOWN).filter(([name]) => target.options.has(name.toLowerCase()));
  return [
    // A terminal's `~.` would be ours to read, and has been.
    ...(tty ? ['-tt', '-e', 'none'] : ['-T']),
    ...['-S', 'none'],
    ...['-o', 'ClearAllForwardings=yes'],
    ...known.flatMap(([name, value]) => ['-o', `${name}=${value}`]),
    // What it tells at this level of its login is read, and kept from everybody else.
    ...common(target, wish, 'DEBUG1'),
    ...(hops.length > 0 ? through(hops.length - 1) : []),
    ...hostArgv(host),
    command,
  ];
};
