import { asKhloneError, KhloneError } from '../../protocol/error.ts';
import { oneLine } from '../../provision/remote-shell.ts';
import { WAY_FAULTS, type WayFault } from './away.ts';
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

const SOCKET_FAULTS: Record<string, WayFault> = {
  ECONNREFUSED: WAY_FAULTS.refused,
  ENOTFOUND: WAY_FAULTS.nameless,
  EAI_AGAIN: WAY_FAULTS.lookup,
  EHOSTUNREACH: WAY_FAULTS.roadless,
  EHOSTDOWN: WAY_FAULTS.roadless,
  ENETUNREACH: WAY_FAULTS.roadless,
  ENETDOWN: WAY_FAULTS.roadless,
  EADDRNOTAVAIL: WAY_FAULTS.roadless,
  ETIMEDOUT: WAY_FAULTS.silent,
  ECONNRESET: WAY_FAULTS.closed,
  EPIPE: WAY_FAULTS.closed,
  ERR_STREAM_PREMATURE_CLOSE: WAY_FAULTS.closed,
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
    hint ?? WAY_FAULTS.closed.hint(moment.host),
    // Retries are spaced by how far this one came: a host that was reached is not asked again at once.
    { stage: moment.stage, ...data },
  );
};

/** A fault of the way to a host; `detail`: what somebody said about it. */
export const wayFailed = (moment: SshMoment, { says, hint }: WayFault, detail = ''): KhloneError =>
  unreachable(moment, detail === '' ? says : `${says} (${detail})`, hint(moment.host));

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
  if (/^Connection lost before handshake/i.test(said)) return wayFailed(moment, WAY_FAULTS.hungUp);
  const fault = typeof code === 'string' ? SOCKET_FAULTS[code] : undefined;
  if (fault) return wayFailed(moment, fault);
  if (said === '') return asKhloneError(thrown);
  return unreachable(moment, `ended the ${moment.stage}: ${said}`);
};
