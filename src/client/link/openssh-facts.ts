import { execFile } from 'node:child_process';
import { access, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { HopFacts } from './choose-backend.ts';
import { entryMatches, knownHostName, readKnownHosts } from './known-hosts.ts';
import { type AgentKey, keyTypeOf, listAgentKeys } from './openssh-agent.ts';
import type { SshSettings } from './ssh-config.ts';
import { agentSocket, publicHalf } from './ssh-keys.ts';
import type { SshTarget } from './ssh-target.ts';

/** Looks up what the choice of a backend rests on: key files, the agent, known_hosts. Asks nobody, dials nothing. */

const isThere = (path: string): Promise<boolean> =>
  access(path).then(
    () => true,
    () => false,
  );

/** A public key file in OpenSSH's form. */
const publicKeyIn = (text: string): Buffer | undefined => {
  const [, key] = text.match(/^[a-z][\w@.-]+ ([A-Za-z0-9+/]+=*)/) ?? [];
  return key === undefined ? undefined : Buffer.from(key, 'base64');
};

type KeyFile = { readonly publicKey: Buffer | undefined; readonly type: string };

/** The key in a file, by its public half; a private key of an older form counts as one that ssh2 may read. */
const keyFile = async (path: string): Promise<KeyFile[]> => {
  const file = await readFile(path).catch(() => undefined);
  const beside = await readFile(`${path}.pub`, 'latin1').catch(() => '');
  if (file === undefined && beside === '') return [];
  const publicKey =
    (file && (publicHalf(file) ?? publicKeyIn(file.toString('latin1')))) ?? publicKeyIn(beside);
  return [{ publicKey, type: publicKey ? keyTypeOf(publicKey) : 'ssh-rsa' }];
};

const isCertificate = (type: string): boolean => type.includes('-cert-v0');

const KLIST_DEADLINE_MS = 2_000;

/** Whether GSSAPI is on and a valid ticket is there; `klist -s` knows every kind of ticket cache. */
export const hasTicket = (settings: SshSettings, env: SshTarget['env']): Promise<boolean> =>
  new Promise((resolve) => {
    if (!settings.gssapi) return resolve(false);
    execFile('klist', ['-s'], { env, timeout: KLIST_DEADLINE_MS }, (error) => resolve(!error));
  });

const authorityOf = async (settings: SshSettings, home: string): Promise<string | undefined> => {
  const name = settings.hostKeyAlias?.toLowerCase() ?? knownHostName(settings.hostname, settings.port);
  const files = [join(home, 'known_hosts'), ...settings.userKnownHosts, ...settings.globalKnownHosts];
  const entries = await readKnownHosts(files);
  const found = entries.find((entry) => entry.marker === 'cert-authority' && entryMatches(entry, name));
  return found && `${found.file}:${found.line}`;
};

/** Certificates that exist as files: named, or beside a key as ssh looks for them. */
const certificateFiles = async (settings: SshSettings): Promise<string[]> => {
  const beside = settings.identityFiles.map((path) => `${path}-cert.pub`);
  const all = [...settings.certificateFiles, ...beside];
  const there = await Promise.all(all.map(isThere));
  return all.filter((_, at) => there[at]);
};

const offeredByAgent = async (
  settings: SshSettings,
  target: SshTarget,
  files: KeyFile[],
): Promise<AgentKey[]> => {
  const held = await listAgentKeys(agentSocket(settings, target));
  if (!settings.identitiesOnly) return held;
  return held.filter(({ blob }) => files.some(({ publicKey }) => publicKey?.equals(blob)));
};

const factsOf = async (settings: SshSettings, target: SshTarget): Promise<HopFacts> => {
  const [found, certificates, certAuthority] = await Promise.all([
    Promise.all(settings.identityFiles.map(keyFile)),
    certificateFiles(settings),
    authorityOf(settings, target.home),
  ]);
  const files = found.flat();
  const held = await offeredByAgent(settings, target, files);
  const keyTypes = [...held, ...files].map(({ type }) => type).filter((type) => !isCertificate(type));
  return {
    host: settings.alias,
    certificates: [
      ...certificates,
      ...held.filter(({ type }) => isCertificate(type)).map(({ label }) => `${label} in the agent`),
    ],
    keyTypes,
    gssapiTicket: keyTypes.length === 0 && (await hasTicket(settings, target.env)),
    hostBased: settings.hostBased,
    pkcs11Provider: settings.pkcs11Provider,
    knownHostsCommand: settings.knownHostsCommand !== undefined,
    proxyUseFdpass: settings.proxyUseFdpass,
    certAuthority,
    kexAlgorithms: settings.kexAlgorithms,
  };
};

/** The facts of each host of a route, in its order. */
export const gatherFacts = (route: readonly SshSettings[], target: SshTarget): Promise<HopFacts[]> =>
  Promise.all(route.map((settings) => factsOf(settings, target)));
