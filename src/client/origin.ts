import { createHash } from 'node:crypto';
import { formatZone, parseZone } from '../protocol/address.ts';

/** Where a repository comes from, as the two halves of its address. */
export type Origin = { org: string; repo: string };

/** Both halves of `org/repo@branch` and its whole stay below what the address grammar takes. */
const MAX_PART_CHARS = 150;

const fits = (zone: string): boolean => {
  try {
    return !('path' in parseZone(zone));
  } catch {
    return false;
  }
};

/** A hostile name in safe letters. The hash of the original keeps two such names apart. */
const disarmed = (name: string): string => {
  const letters = name
    .normalize('NFC')
    .replace(/[^\p{L}\p{N}-]+/gu, '_')
    .replace(/^-+/u, '');
  const mark = createHash('sha256').update(name).digest('hex').slice(0, 8);
  return `${[...letters].slice(0, 60).join('') || 'unnamed'}-${mark}`;
};

/** One part of an address, replaced safely where the repository chose a name that the grammar cannot hold. */
export const addressPart = (name: string): string =>
  name.length <= MAX_PART_CHARS && /^[^@/]+$/u.test(name) && fits(`${name}@x`) ? name : disarmed(name);

/** The branch part of an address: as it is, or replaced safely. */
export const addressBranch = (branch: string): string =>
  branch.length <= MAX_PART_CHARS && fits(`@${branch}`) ? branch : disarmed(branch);

const groups = (names: readonly string[]): string => {
  const joined = names.map(addressPart).join('/');
  return joined.length <= MAX_PART_CHARS ? joined : disarmed(joined);
};

const decoded = (text: string): string => {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
};

/** The host and the path of a git url, or only a path where it names a folder of this machine. */
const split = (url: string): { host?: string; path: string } => {
  const plain = url.replace(/^[a-z0-9+.-]+::(?=[a-z])/iu, '');
  const scheme = /^([a-z][a-z0-9+.-]*):\/\/([^/]*)(\/.*)?$/isu.exec(plain);
  if (scheme) {
    const [, name = '', authority = '', path = ''] = scheme;
    if (name.toLowerCase() === 'file') return { path: decoded(path) };
    const host = authority.replace(/^.*@/su, '').replace(/:\d*$/u, '');
    return { host, path: decoded(path.replace(/[?#].*$/su, '')) };
  }
  // Git's own rule for `host:path`: a colon before any slash; an IPv6 host stands in brackets.
  const scp = /^(?:[^/@]*@)?(\[[^\]/]+\]|[^/:]+):(.*)$/su.exec(plain);
  if (scp) return { host: scp[1] ?? '', path: scp[2] ?? '' };
  return { path: plain };
};

/**
 * `org` and `repo` of an origin's url in any form that git takes: ssh, https, git, `user@host:path`, a local path.
 * Groups stay in `org` ("group/sub"). A local path belongs to the org "local"; a path without group to its host.
 * Answers undefined for a url that names nothing.
 */
export const parseOrigin = (url: string): Origin | undefined => {
  const { host, path } = split(url.trim());
  const parts = path
    .replace(/\/+$/u, '')
    .replace(/(?:\/)?\.git$/iu, '')
    .split('/')
    .filter((part) => part !== '' && part !== '.' && part !== '..' && !part.startsWith('~'));
  const repo = parts.pop();
  if (repo === undefined) return undefined;
  if (host === undefined) return { org: 'local', repo: addressPart(repo) };
  const org = parts.length > 0 ? parts : [host.replace(/[[\]]/gu, '')];
  return { org: groups(org), repo: addressPart(repo) };
};

/** `org/repo@branch`: the parts are already safe. */
export const formatAddress = (origin: Origin, branch: string): string => formatZone({ ...origin, branch });
