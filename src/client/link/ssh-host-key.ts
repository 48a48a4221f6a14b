import { createHash, randomBytes } from 'node:crypto';
import { access } from 'node:fs/promises';
import { join } from 'node:path';
import { KhloneError } from '../../protocol/error.ts';
import {
  algorithmOrder,
  appendKnownHost,
  hashedName,
  judgeHostKey,
  type KnownHost,
  knownHostName,
  readKnownHosts,
} from './known-hosts.ts';
import type { SshSettings } from './ssh-config.ts';
import type { Asker } from './ssh-target.ts';

/** The fingerprint as ssh-keygen -l shows it. */
export const fingerprint = (key: Uint8Array): string =>
  `SHA256:${createHash('sha256').update(key).digest('base64').replace(/=+$/, '')}`;

/** The type that a key claims to be. Whoever shows it has proved nothing yet: only a plain word is printed. */
const typeOf = (key: Buffer): string => {
  const word = key.length < 4 ? '' : key.toString('latin1', 4, 4 + key.readUInt32BE(0));
  return /^[a-z0-9@.-]{1,64}$/.test(word) ? word : 'odd';
};

/** The host key algorithms ssh2 and we accept, best first; SHA-1 signatures are not among them. */
const SUPPORTED = [
  'ssh-ed25519',
  'ecdsa-sha2-nistp256',
  'ecdsa-sha2-nistp384',
  'ecdsa-sha2-nistp521',
  'rsa-sha2-512',
  'rsa-sha2-256',
];

export type HostKeySettings = Pick<
  SshSettings,
  'alias' | 'hostname' | 'port' | 'hostKeyAlias' | 'userKnownHosts' | 'globalKnownHosts' | 'hashKnownHosts'
>;

/** khlone's own known_hosts: keys that came with a machine it raised, so that nothing is taken on trust. */
const pinsPath = (home: string): string => join(home, 'known_hosts');

/** The path of khlone's own known_hosts where there is one. */
export const pinsOf = (home: string): Promise<string | undefined> =>
  access(pinsPath(home)).then(
    () => pinsPath(home),
    () => undefined,
  );

export type HostKeyCheck = {
  /** Algorithms to offer, in order. */
  readonly algorithms: readonly string[];
  /** Settles when the key may be used; rejects with `host-key`. Called again at each rekey, without a question then. */
  verify(key: Buffer, asker: Asker): Promise<void>;
  /** Writes down a key the person said yes to. Called when the host has proved that it holds the key. */
  keep(): Promise<void>;
};

const changed = (host: string, name: string, key: Buffer, at: KnownHost) =>
  new KhloneError(
    'host-key',
    `the host key of ${host} is not the one on file (${at.file}:${at.line}); it shows ${typeOf(key)} ${fingerprint(key)}`,
    `somebody may be listening. If the host was set up anew: ssh-keygen -R '${name}' -f '${at.file}', then ssh ${host}`,
  );

const unknown = (host: string, key: Buffer) =>
  new KhloneError(
    'host-key',
    `the host key of ${host} is unknown: ${typeOf(key)} ${fingerprint(key)}`,
    `compare it once at a terminal: ssh ${host}, or khlone reconnect`,
  );

const askPerson = async (host: string, name: string, key: Buffer, asker: NonNullable<Asker>) => {
  const text =
    `${host} (${name}) is not known yet. Its ${typeOf(key)} key is\n  ${fingerprint(key)}\n` +
    'Is that the right host? (yes/no) ';
  const answer = (await asker.ask({ text, secret: false })).trim();
  if (answer.toLowerCase() !== 'yes' && answer !== fingerprint(key))
    throw new KhloneError(
      'host-key',
      `the host key of ${host} was not accepted`,
      'khlone reconnect asks again',
    );
};

/**
 * The host key check of one hop. Keys come from the files ssh uses and from khlone's own pins (KHLONE_HOME). A host is
 * never accepted unseen: accept-new and no in a config are read as ask.
 */
export const createHostKeyCheck = async (settings: HostKeySettings, home: string): Promise<HostKeyCheck> => {
  // A HostKeyAlias stands alone, without the port, as in OpenSSH.
  const name = settings.hostKeyAlias?.toLowerCase() ?? knownHostName(settings.hostname, settings.port);
  const files = [pinsPath(home), ...settings.userKnownHosts, ...settings.globalKnownHosts];
  const entries = await readKnownHosts(files);
  let accepted: Buffer | undefined;
  let isNew = false;

  const verify = async (key: Buffer, asker: Asker): Promise<void> => {
    if (accepted?.equals(key)) return;
    const verdict = judgeHostKey(entries, name, key.toString('base64'));
    if (verdict.kind === 'revoked')
      throw new KhloneError(
        'host-key',
        `the host key of ${settings.alias} is revoked (${verdict.at.file}:${verdict.at.line})`,
        'ask whoever runs the host for its new key',
      );
    if (verdict.kind === 'changed') throw changed(settings.alias, name, key, verdict.at);
    if (verdict.kind === 'unknown') {
      if (verdict.authority)
        throw new KhloneError(
          'host-key',
          `${settings.alias} is known by a certificate authority (${verdict.authority.file}:${verdict.authority.line})`,
          'set zone.backend: openssh, which can check certificates',
        );
      if (asker === undefined || accepted !== undefined) throw unknown(settings.alias, key);
      await askPerson(settings.alias, name, key, asker);
      isNew = true;
    }
    accepted = key;
  };

  const keep = async (): Promise<void> => {
    const [file] = settings.userKnownHosts;
    if (!isNew || accepted === undefined || file === undefined || file === '/dev/null') return;
    isNew = false;
    const written = settings.hashKnownHosts ? hashedName(name, randomBytes(20)) : name;
    await appendKnownHost(file, written, accepted.toString('base64'));
  };

  return { algorithms: algorithmOrder(entries, name, SUPPORTED), verify, keep };
};
