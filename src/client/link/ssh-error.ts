import { asKhloneError, KhloneError } from '../../protocol/error.ts';
import { oneLine } from '../../provision/remote-shell.ts';
import type { SshSettings } from './ssh-config.ts';

/** Where a connection stood when it failed. */
export type SshMoment = {
  readonly host: string;
  readonly hostname: string;
  readonly port: number;
  readonly stage: 'connect' | 'handshake' | 'login' | 'open';
  /** The ways to log in that were tried or left out, in words. */
  readonly tried: readonly string[];
  /** What the host would still accept, where it said so. */
  readonly accepts: readonly string[];
  /** What a ProxyCommand printed on stderr. */
  readonly proxySaid: string;
};

/** A moment of one hop before anything was tried. */
export const momentOf = (settings: SshSettings, stage: SshMoment['stage'], proxySaid = ''): SshMoment => ({
  host: settings.alias,
  hostname: settings.hostname,
  port: settings.port,
  stage,
  tried: [],
  accepts: [],
  proxySaid,
});

const SOCKET_FAULTS: Record<string, string> = {
  ECONNREFUSED: 'refuses connections',
  ENOTFOUND: 'has no address',
  EAI_AGAIN: 'cannot be looked up now',
  EHOSTUNREACH: 'has no route',
  ENETUNREACH: 'has no route',
  ETIMEDOUT: 'does not answer',
  ECONNRESET: 'closed the connection',
  EPIPE: 'closed the connection',
  ERR_STREAM_PREMATURE_CLOSE: 'closed the connection',
};

/** What an error tells the choice of the backend: why openssh may get further. */
export type BackendHint = { readonly noCommonAlgorithm?: true; readonly accepts?: readonly string[] };

export const unreachable = (
  moment: SshMoment,
  what: string,
  hint?: string,
  data?: BackendHint,
): KhloneError => {
  const said = moment.proxySaid === '' ? '' : ` (proxy: ${oneLine(moment.proxySaid)})`;
  return new KhloneError(
    'unreachable',
    `${moment.host} (${moment.hostname}:${moment.port}) ${what}${said}`,
    hint ?? `try: ssh ${moment.host}; khlone reconnect tries again now`,
    // Retries are spaced by how far this one came: a host that was reached is not asked again at once.
    { stage: moment.stage, ...data },
  );
};

export const authFailed = (moment: SshMoment): KhloneError => {
  const tried = moment.tried.length === 0 ? 'nothing to log in with' : `tried ${moment.tried.join('; ')}`;
  const accepts = moment.accepts.length === 0 ? '' : `; the host accepts ${moment.accepts.join(', ')}`;
  return new KhloneError(
    'ssh-auth',
    `${moment.host} refused the login (${tried}${accepts})`,
    `make "ssh ${moment.host}" work, or run khlone reconnect at a terminal to be asked`,
    { accepts: moment.accepts } satisfies BackendHint,
  );
};

/** The one place where what ssh2 and sockets throw becomes a KhloneError. */
export const sshFailure = (thrown: unknown, moment: SshMoment): KhloneError => {
  if (thrown instanceof KhloneError) return thrown;
  const { message, level, code } = (thrown ?? {}) as { message?: unknown; level?: unknown; code?: unknown };
  const said = oneLine(typeof message === 'string' ? message : String(thrown));
  if (level === 'client-authentication' || /too many authentication failures/i.test(said))
    return authFailed(moment);
  if (level === 'handshake' && /no matching/i.test(said))
    return unreachable(
      moment,
      `offers no algorithm ssh2 knows: ${said}`,
      'set zone.backend: openssh for this host',
      { noCommonAlgorithm: true },
    );
  if (typeof code === 'string' && SOCKET_FAULTS[code] !== undefined)
    return unreachable(moment, SOCKET_FAULTS[code]);
  if (said === '') return asKhloneError(thrown);
  return unreachable(moment, `ended the ${moment.stage}: ${said}`);
};
