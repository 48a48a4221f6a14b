/** Which program speaks SSH to a host: ssh2 in the hub, or a child `ssh`. Pure: facts in, choice and reason out. */

export type Backend = 'ssh2' | 'openssh';

export type BackendChoice = {
  readonly backend: Backend;
  /** For a person: what decided. */
  readonly why: string;
};

/** What is known of one host of a route before anything is dialled. */
export type HopFacts = {
  /** As the person wrote it. */
  readonly host: string;
  /** Certificates that ssh would offer: files that exist, and labels of those in the agent. */
  readonly certificates: readonly string[];
  /** Types of the plain keys that ssh would offer, from files and agent: `ssh-ed25519`, `sk-…`. */
  readonly keyTypes: readonly string[];
  /** GSSAPIAuthentication is on and a ticket is there. */
  readonly gssapiTicket: boolean;
  readonly hostBased: boolean;
  readonly pkcs11Provider: string | undefined;
  readonly knownHostsCommand: boolean;
  readonly proxyUseFdpass: boolean;
  /** `file:line` of a `@cert-authority` line that is about this host. */
  readonly certAuthority: string | undefined;
  /** KexAlgorithms as the config has them; empty: not known. */
  readonly kexAlgorithms: readonly string[];
};

/** The key exchanges of ssh2 1.17; the post-quantum ones are not among them. */
const SSH2_KEX = new Set([
  'curve25519-sha256',
  'curve25519-sha256@libssh.org',
  'ecdh-sha2-nistp256',
  'ecdh-sha2-nistp384',
  'ecdh-sha2-nistp521',
  'diffie-hellman-group-exchange-sha256',
  'diffie-hellman-group14-sha256',
  'diffie-hellman-group15-sha512',
  'diffie-hellman-group16-sha512',
  'diffie-hellman-group17-sha512',
  'diffie-hellman-group18-sha512',
]);

/** Key types that ssh2 can sign with. */
const SSH2_KEYS = /^(ssh-ed25519|ssh-rsa|ecdsa-sha2-nistp\d+)$/;

const needs = (hop: HopFacts): string | undefined => {
  const usable = hop.keyTypes.filter((type) => SSH2_KEYS.test(type));
  if (hop.certificates[0] !== undefined) return `a certificate (${hop.certificates[0]})`;
  if (hop.pkcs11Provider !== undefined) return `keys of a PKCS#11 provider (${hop.pkcs11Provider})`;
  if (hop.hostBased) return 'host-based authentication';
  if (hop.certAuthority !== undefined) return `a host certificate (@cert-authority, ${hop.certAuthority})`;
  if (hop.knownHostsCommand) return 'a KnownHostsCommand';
  if (hop.proxyUseFdpass) return 'ProxyUseFdpass';
  if (hop.kexAlgorithms.length > 0 && !hop.kexAlgorithms.some((name) => SSH2_KEX.has(name)))
    return `a key exchange that ssh2 lacks (KexAlgorithms ${hop.kexAlgorithms[0]})`;
  if (hop.keyTypes.length > 0 && usable.length === 0) return `only keys of type ${hop.keyTypes[0]}`;
  if (usable.length === 0 && hop.gssapiTicket) return 'a Kerberos ticket and no key';
  return undefined;
};

/**
 * | what is known                                                            | backend |
 * |--------------------------------------------------------------------------|---------|
 * | `zone.backend` in khlone.yml                                             | as said |
 * | a certificate: CertificateFile, `KEY-cert.pub` beside a key, in the agent | openssh |
 * | PKCS11Provider                                                           | openssh |
 * | HostbasedAuthentication                                                  | openssh |
 * | a `@cert-authority` line in known_hosts about the host                   | openssh |
 * | KnownHostsCommand, ProxyUseFdpass                                        | openssh |
 * | KexAlgorithms without any that ssh2 has (post-quantum only)              | openssh |
 * | keys, and all of them on hardware (`sk-…`) or of another unknown type    | openssh |
 * | no key that ssh2 can use, GSSAPIAuthentication and a ticket              | openssh |
 * | anything else                                                            | ssh2    |
 *
 * Any host on the way decides for the whole way. GSSAPIAuthentication alone says nothing: Debian turns it on for all.
 */
export const chooseBackend = (route: readonly HopFacts[], forced: Backend | undefined): BackendChoice => {
  if (forced !== undefined) return { backend: forced, why: `zone.backend is ${forced}` };
  for (const [at, hop] of route.entries()) {
    const why = needs(hop);
    if (why === undefined) continue;
    return { backend: 'openssh', why: at === route.length - 1 ? why : `${hop.host} on the way: ${why}` };
  }
  return { backend: 'ssh2', why: 'nothing here needs openssh' };
};

/** What ssh2 said when it failed, as far as it decides whether openssh is worth a try. */
export type Ssh2Failure = { readonly noCommonAlgorithm?: boolean; readonly accepts?: readonly string[] };

/** Why openssh may get further where ssh2 failed; undefined: it would fail alike. `gssapiTicket`: on, with a ticket. */
export const opensshMayHelp = (failure: Ssh2Failure, gssapiTicket: boolean): string | undefined => {
  if (failure.noCommonAlgorithm) return 'ssh2 and the host have no algorithm in common';
  if (gssapiTicket && failure.accepts?.includes('gssapi-with-mic')) return 'the host takes a Kerberos ticket';
  return undefined;
};

/** What a zone asks of its host's link. */
export type BackendWish = { readonly backend?: Backend | undefined; readonly usedMs: number };

/**
 * A host has one link however many zones are on it. A zone that names a backend wins over those that leave it open;
 * of two that name different ones, the zone used last.
 */
export const forcedBackend = (wishes: readonly BackendWish[]): Backend | undefined =>
  wishes.filter(({ backend }) => backend !== undefined).toSorted((a, b) => b.usedMs - a.usedMs)[0]?.backend;
