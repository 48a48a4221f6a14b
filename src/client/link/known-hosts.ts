import { createHmac, timingSafeEqual } from 'node:crypto';
import { appendFile, mkdir, open, readFile } from 'node:fs/promises';
import { dirname } from 'node:path';

/** One line of a known_hosts file (sshd(8), SSH_KNOWN_HOSTS FILE FORMAT). */
export type KnownHost = {
  readonly marker: 'revoked' | 'cert-authority' | undefined;
  /** Patterns as written: names, `[name]:port`, wildcards, `!negated`, or one `|1|salt|hash`. */
  readonly patterns: readonly string[];
  readonly type: string;
  /** The public key in base64. */
  readonly key: string;
  readonly file: string;
  /** Counted from 1. */
  readonly line: number;
};

/** The largest known_hosts file that is read; a longer one is read up to here. */
const FILE_MAX_BYTES = 16 << 20;

const parseLine = (text: string, file: string, line: number): KnownHost[] => {
  const words = text.trim().split(/[ \t]+/);
  const first = words[0] ?? '';
  if (first === '' || first.startsWith('#')) return [];
  const marked = first.startsWith('@');
  if (marked) words.shift();
  const [patterns = '', type = '', key = ''] = words;
  const marker =
    first === '@revoked' ? 'revoked' : first === '@cert-authority' ? 'cert-authority' : undefined;
  if ((marked && marker === undefined) || type === '' || !/^[A-Za-z0-9+/]+=*$/.test(key)) return [];
  return [{ marker, patterns: patterns.split(','), type, key, file, line }];
};

/** Reads a known_hosts file. Lines that are no entry are skipped, as ssh does. Never throws. */
export const parseKnownHosts = (text: string, file: string): KnownHost[] =>
  text.split('\n').flatMap((line, at) => parseLine(line.replace(/\r$/, ''), file, at + 1));

/** The name under which a host stands in known_hosts: bare on port 22, else `[name]:port`. */
export const knownHostName = (host: string, port: number): string =>
  port === 22 ? host.toLowerCase() : `[${host.toLowerCase()}]:${port}`;

const hashMatches = (pattern: string, name: string): boolean => {
  const [, , salt = '', hash = ''] = pattern.split('|');
  const want = Buffer.from(hash, 'base64');
  const have = createHmac('sha1', Buffer.from(salt, 'base64')).update(name).digest();
  return want.length === have.length && timingSafeEqual(want, have);
};

/** Whether `name` matches a pattern with `*` and `?`. Linear in practice and without a regular expression of a stranger. */
export const wildcardMatches = (pattern: string, name: string): boolean => {
  let p = 0;
  let n = 0;
  let star = -1;
  let resume = 0;
  while (n < name.length) {
    if (pattern[p] === '*') {
      star = p++;
      resume = n;
    } else if (p < pattern.length && (pattern[p] === '?' || pattern[p] === name[n])) {
      p++;
      n++;
    } else if (star !== -1) {
      p = star + 1;
      n = ++resume;
    } else return false;
  }
  while (pattern[p] === '*') p++;
  return p === pattern.length;
};

/** Whether an entry is about `name` (from knownHostName). One matching negation rules the whole line out. */
export const entryMatches = (entry: KnownHost, name: string): boolean => {
  let matched = false;
  for (const pattern of entry.patterns) {
    if (pattern.startsWith('|1|')) matched ||= hashMatches(pattern, name);
    else if (pattern.startsWith('!')) {
      if (wildcardMatches(pattern.slice(1).toLowerCase(), name)) return false;
    } else matched ||= wildcardMatches(pattern.toLowerCase(), name);
  }
  return matched;
};

export type HostKeyVerdict =
  | { readonly kind: 'known' }
  /** No plain key is on file. `authority`: a CA is, which only the openssh backend can check. */
  | { readonly kind: 'unknown'; readonly authority: KnownHost | undefined }
  /** Another key is on file, of this type or of another one: refused either way. */
  | { readonly kind: 'changed'; readonly at: KnownHost }
  | { readonly kind: 'revoked'; readonly at: KnownHost };

/** What the entries say about the key a host shows. Revocation wins over everything. */
export const judgeHostKey = (entries: readonly KnownHost[], name: string, key: string): HostKeyVerdict => {
  const about = entries.filter((entry) => entryMatches(entry, name));
  const revoked = about.find((entry) => entry.marker === 'revoked' && entry.key === key);
  if (revoked) return { kind: 'revoked', at: revoked };
  const plain = about.filter((entry) => entry.marker === undefined);
  if (plain.some((entry) => entry.key === key)) return { kind: 'known' };
  const type = Buffer.from(key, 'base64').toString('latin1', 4, 4 + 64);
  const other = plain.find((entry) => type.startsWith(entry.type)) ?? plain[0];
  if (other) return { kind: 'changed', at: other };
  return { kind: 'unknown', authority: about.find((entry) => entry.marker === 'cert-authority') };
};

const ALGORITHMS_OF = (type: string): string[] =>
  type === 'ssh-rsa' ? ['rsa-sha2-512', 'rsa-sha2-256'] : [type];

/** Host key algorithms to offer, those first whose keys are on file: else a known host would show another, unknown key. */
export const algorithmOrder = (entries: readonly KnownHost[], name: string, supported: readonly string[]) => {
  const known = new Set(
    entries
      .filter((entry) => entry.marker === undefined && entryMatches(entry, name))
      .flatMap((entry) => ALGORITHMS_OF(entry.type)),
  );
  return [
    ...supported.filter((algorithm) => known.has(algorithm)),
    ...supported.filter((algorithm) => !known.has(algorithm)),
  ];
};

/** Entries of all files that exist, in order. An unreadable file counts as empty, as for ssh. */
export const readKnownHosts = async (files: readonly string[]): Promise<KnownHost[]> => {
  const texts = await Promise.all(
    files.map((file) =>
      readFile(file, 'utf8').then(
        (text) => text.slice(0, FILE_MAX_BYTES),
        () => '',
      ),
    ),
  );
  return texts.flatMap((text, at) => parseKnownHosts(text, files[at] ?? ''));
};

/** `name` in the form that hides it from a reader of the file (HashKnownHosts). `salt`: 20 random bytes. */
export const hashedName = (name: string, salt: Buffer): string =>
  `|1|${salt.toString('base64')}|${createHmac('sha1', salt).update(name).digest('base64')}`;

/** Appends one entry, 0600, on a line of its own even when the file ends without a line break. */
export const appendKnownHost = async (file: string, name: string, key: string): Promise<void> => {
  const bytes = Buffer.from(key, 'base64');
  const type = bytes.toString('latin1', 4, 4 + bytes.readUInt32BE(0));
  await mkdir(dirname(file), { recursive: true, mode: 0o700 });
  const handle = await open(file, 'a+', 0o600);
  try {
    const { size } = await handle.stat();
    const last = Buffer.alloc(1);
    if (size > 0) await handle.read(last, 0, 1, size - 1);
    const gap = size > 0 && last[0] !== 10 ? '\n' : '';
    await appendFile(handle, `${gap}${name} ${type} ${key}\n`);
    await handle.sync();
  } finally {
    await handle.close();
  }
};
