import { KhloneError } from '../../protocol/error.ts';
import { oneLine } from '../../provision/remote-shell.ts';
import { WAY_FAULTS, type WayFault } from './away.ts';
import { authFailed, type SshMoment, unreachable, wayFailed } from './ssh-error.ts';

/**
 * What a child `ssh` that ended before its login was done tells on stderr, as the errors that ssh2 gives. Pure. A host
 * may write there too (its banner): the worst it gets is another error about itself.
 */

/** ssh's own last line seldom says why: what a proxy or a jump host said stands before it. */
const LINES_SHOWN = 3;

/** The last words, without lines that are no news of a failure. */
const lastWords = (said: string): string =>
  said
    .split('\n')
    .map((line) => line.trim())
    .filter((line) => line !== '' && !/^(Pseudo-terminal|Warning: Permanently added|@+$)/.test(line))
    .slice(-LINES_SHOWN)
    .join('; ');

const lineWith = (said: string, pattern: RegExp): string | undefined =>
  said.split('\n').find((line) => pattern.test(line));

const hostKeyFailure = (said: string, { host }: SshMoment): KhloneError | undefined => {
  const at = said.match(/^(?:Offending|Matching) .*key in (.+:\d+)\s*$/m)?.[1];
  const shown = said.match(/\bSHA256:[A-Za-z0-9+/]{43}/)?.[0];
  const shows = shown === undefined ? '' : `; it shows ${shown}`;
  const place = at === undefined ? '' : ` (${oneLine(at, 200)})`;
  const fail = (what: string, hint: string) => new KhloneError('host-key', what, hint);
  if (/REVOKED HOST KEY|is marked as revoked/i.test(said))
    return fail(`the host key of ${host} is revoked${place}`, 'ask whoever runs the host for its new key');
  if (/HOST IDENTIFICATION HAS CHANGED|has changed and you have requested strict/i.test(said))
    return fail(
      `the host key of ${host} is not the one on file${place}${shows}`,
      `somebody may be listening. If the host was set up anew, remove that line, then ssh ${host}`,
    );
  if (/^No .* host key is known for/im.test(said))
    return fail(
      `the host key of ${host} is unknown${shows}`,
      `compare it once at a terminal: ssh ${host}, or khlone reconnect`,
    );
  if (/Host key verification failed|^Host certificate|certificate is not (yet )?valid/im.test(said))
    return fail(`the host key of ${host} was not accepted${shows}`, `look at it with: ssh ${host}`);
  return undefined;
};

const LOGIN_FAILED =
  /Permission denied \(|Too many authentication failures|No more authentication methods|no authentication methods enabled|^Authentication failed/im;

/** What stands for a way to the host that is not there, best known first. */
const WAYS: readonly (readonly [RegExp, WayFault])[] = [
  [/Temporary failure in name resolution/i, WAY_FAULTS.lookup],
  [/Could not resolve hostname/i, WAY_FAULTS.nameless],
  [/Connection refused/i, WAY_FAULTS.refused],
  [/No route to host|Network is (unreachable|down)|Host is down/i, WAY_FAULTS.roadless],
  [/timed out|not responding/i, WAY_FAULTS.silent],
];

const signing = /(sign_and_send_pubkey|agent refused operation|Load key ).*/i;

/** Longer lines are of no use to anybody, and slow to search. */
const LINE_MAX_CHARS = 500;

/** `words`: what came on stderr. Codes: host-key, ssh-auth, config, unreachable. */
export const opensshFailure = (words: string, moment: SshMoment): KhloneError => {
  const said = words
    .split('\n')
    .map((line) => line.slice(0, LINE_MAX_CHARS))
    .join('\n');
  const hostKey = hostKeyFailure(said, moment);
  if (hostKey) return hostKey;
  if (/no matching .* found/i.test(said))
    return unreachable(
      moment,
      `has no algorithm in common with ssh: ${oneLine(lineWith(said, /no matching/i) ?? '')}`,
    );
  if (LOGIN_FAILED.test(said)) {
    const accepts = said.match(/Permission denied \(([a-z0-9@.,-]+)\)/i)?.[1]?.split(',') ?? [];
    const remark = lineWith(said, signing);
    const refusal = lineWith(said, LOGIN_FAILED) ?? '';
    const tried = [refusal.replace(/\s*\([a-z0-9@.,-]+\)\.?\s*$/i, ''), remark ?? ''];
    return authFailed({ ...moment, accepts, tried: tried.map((text) => oneLine(text)).filter(Boolean) });
  }
  if (
    /Bad configuration option|Bad owner or permissions|terminating, \d+ bad|command-line.*line \d+/i.test(
      said,
    )
  )
    return new KhloneError(
      'config',
      `ssh does not take its configuration: ${oneLine(lineWith(said, /bad|command-line/i) ?? '')}`,
      `look at it with: ssh -G ${moment.host}`,
    );
  const way = WAYS.find(([pattern]) => pattern.test(said));
  if (way) return wayFailed(moment, way[1], oneLine(lineWith(said, way[0]) ?? ''));
  const end = oneLine(lastWords(said));
  if (end === '') return wayFailed(moment, WAY_FAULTS.closed);
  return unreachable(moment, `ended the ${moment.stage}: ${end}`);
};
