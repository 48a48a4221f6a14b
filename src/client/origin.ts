import { createHash } from 'node:crypto';

/** Where a repository comes from, as the two halves of its address. */
export type Origin = { org: string; repo: string };

/**
 * What the parts of an address may be made of. White space, ":" and (in org and repo) "@" have a meaning in
 * addresses, "/" parts groups, and a leading "-" would read as an option.
 */
const PART = /^\.?[\p{L}\p{N}_][\p{L}\p{N}\p{M}._+~-]*$/u;
const BRANCH = /^[\p{L}\p{N}_][\p{L}\p{N}\p{M}._+~#=,@/-]*$/u;
const MAX_PART_CHARS = 200;

/** A hostile name in safe letters. The hash of the original keeps two such names apart. */
const disarmed = (name: string): string => {
  const letters = name
    .normalize('NFC')
    .replace(/[^\p{L}\p{N}._/-]+/gu, '_')
    .replace(/^[./-]+/u, '')
    .slice(0, 60);
  const mark = createHash('sha256').update(name).digest('hex').slice(0, 8);
  return `${letters || 'unnamed'}-${mark}`;
};

/** One part of an address, replaced safely where the repository chose a name that the grammar cannot hold. */
export const addressPart = (name: string): string =>
  PART.test(name) && name.length <= MAX_PART_CHARS ? name : disarmed(name.replaceAll('/', '_'));

/** The branch part of an address: as it is, or replaced safely. */
export const addressBranch = (branch: string): string =>
  BRANCH.test(branch) && branch.length <= MAX_PART_CHARS ? branch : disarmed(branch);

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
  return { org: org.map(addressPart).join('/'), repo: addressPart(repo) };
};

/** `org/repo@branch`: the parts are already safe. */
export const formatAddress = (origin: Origin, branch: string): string =>
  `${origin.org}/${origin.repo}@${branch}`;
