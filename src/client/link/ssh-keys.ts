import { readFile } from 'node:fs/promises';
import type { SshSettings } from './ssh-config.ts';
import type { Asker, SshTarget } from './ssh-target.ts';

/** A key to log in with: its public half is offered, `sign` is called only when the host would take it. */
export type Identity = {
  /** In SSH wire form. */
  readonly publicKey: Buffer;
  readonly label: string;
  sign(data: Buffer, hash: string | undefined): Promise<Buffer>;
};

/** The little of ssh2's key code that is needed here (ssh2.ts hands it in). */
export type ParsedKey = {
  isPrivateKey(): boolean;
  getPublicSSH(): Buffer;
  sign(data: Buffer, hash?: string): Buffer | Error;
};
export type KeyTools = {
  parse(data: Buffer, passphrase?: string): ParsedKey | Error;
  /** The keys an agent at this socket holds. Rejects when it does not answer. */
  agentIdentities(socketPath: string): Promise<Identity[]>;
};

const PASSPHRASE_TRIES = 3;

const OPENSSH_KEY = /-----BEGIN OPENSSH PRIVATE KEY-----([\s\S]+?)-----END OPENSSH PRIVATE KEY-----/;

/** The public half of an encrypted key in OpenSSH's own format, which keeps it in the clear (PROTOCOL.key). */
export const publicHalf = (file: Buffer): Buffer | undefined => {
  const body = Buffer.from(file.toString('latin1').match(OPENSSH_KEY)?.[1] ?? '', 'base64');
  const magic = 'openssh-key-v1\0';
  if (body.toString('latin1', 0, magic.length) !== magic) return undefined;
  let at = magic.length;
  const string = (): Buffer | undefined => {
    if (at + 4 > body.length) return undefined;
    const end = at + 4 + body.readUInt32BE(at);
    if (end > body.length) return undefined;
    const value = body.subarray(at + 4, end);
    at = end;
    return value;
  };
  // Cipher, key derivation and its options, then the number of keys, then the first public key.
  if (!string() || !string() || !string()) return undefined;
  at += 4;
  return string();
};

const unlock = async (
  path: string,
  file: Buffer,
  tools: KeyTools,
  asker: NonNullable<Asker>,
): Promise<ParsedKey> => {
  for (let tries = 0; tries < PASSPHRASE_TRIES; tries++) {
    const passphrase = await asker.ask({ text: `Passphrase for ${path}: `, secret: true });
    if (passphrase === '') break;
    const key = tools.parse(file, passphrase);
    if (!(key instanceof Error)) return key;
  }
  throw new Error(`no right passphrase for ${path}`);
};

type Found = { identity?: Identity; publicKey?: Buffer; remark?: string };

const fromFile = async (path: string, tools: KeyTools, asker: Asker): Promise<Found> => {
  const file = await readFile(path).catch(() => undefined);
  if (file === undefined) return {};
  const key = tools.parse(file);
  if (!(key instanceof Error)) {
    const publicKey = key.getPublicSSH();
    // An IdentityFile may be a public key: it picks that key from the agent.
    if (!key.isPrivateKey()) return { publicKey };
    const sign = async (data: Buffer, hash: string | undefined) => {
      const signature = key.sign(data, hash);
      if (signature instanceof Error) throw signature;
      return signature;
    };
    return { publicKey, identity: { publicKey, label: path, sign } };
  }
  if (!/passphrase/i.test(key.message)) return { remark: `${path} (left out: ssh2 cannot read its format)` };
  const beside = await readFile(`${path}.pub`).then(
    (text) => tools.parse(text),
    () => undefined,
  );
  const publicKey = publicHalf(file) ?? (beside instanceof Error ? undefined : beside?.getPublicSSH());
  const skipped = { remark: `${path} (left out: it has a passphrase and there is no terminal to ask at)` };
  if (publicKey === undefined)
    return asker ? { remark: `${path} (left out: its .pub file is missing)` } : skipped;
  if (asker === undefined) return { publicKey, ...skipped };
  let open: Promise<ParsedKey> | undefined;
  const sign = async (data: Buffer, hash: string | undefined) => {
    open ??= unlock(path, file, tools, asker);
    const signature = (await open).sign(data, hash);
    if (signature instanceof Error) throw signature;
    return signature;
  };
  return { publicKey, identity: { publicKey, label: path, sign } };
};

/** The agent to ask: IdentityAgent, else the caller's own socket; `none` in a config means none. */
export const agentSocket = (settings: SshSettings, target: SshTarget): string | undefined => {
  const word = settings.identityAgent;
  if (word === 'none') return undefined;
  if (word === undefined || word === 'SSH_AUTH_SOCK') return target.sshAuthSock ?? target.env.SSH_AUTH_SOCK;
  return word.startsWith('$') ? target.env[word.replace(/^\$\{?(\w+)\}?$/, '$1')] : word;
};

/**
 * The keys to offer, best first: agent keys that the config names, other agent keys (unless IdentitiesOnly), then key
 * files the agent does not hold. `remarks` says what was left out and why.
 */
export const collectIdentities = async (
  settings: SshSettings,
  target: SshTarget,
  tools: KeyTools,
  asker: Asker,
): Promise<{ identities: Identity[]; remarks: string[] }> => {
  const found = await Promise.all(settings.identityFiles.map((path) => fromFile(path, tools, asker)));
  const named = (key: Buffer) => found.some((file) => file.publicKey?.equals(key));
  const remarks: string[] = [];
  const socket = agentSocket(settings, target);
  const held =
    socket === undefined || socket === ''
      ? []
      : await tools.agentIdentities(socket).catch((error: Error) => {
          remarks.push(`the agent at ${socket} (left out: ${error.message})`);
          return [];
        });
  const inAgent = (key: Buffer | undefined) =>
    key !== undefined && held.some((one) => one.publicKey.equals(key));
  const files = found.flatMap(({ identity }) => (identity && !inAgent(identity.publicKey) ? [identity] : []));
  remarks.push(...found.flatMap((file) => (file.remark && !inAgent(file.publicKey) ? [file.remark] : [])));
  const others = settings.identitiesOnly ? [] : held.filter((one) => !named(one.publicKey));
  return { identities: [...held.filter((one) => named(one.publicKey)), ...others, ...files], remarks };
};
