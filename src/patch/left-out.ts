import { type Path, pathText } from './listing.ts';
import type { Held } from './plan.ts';

/** What never leaves a worktree by itself: names that usually hold secrets, and what the configuration excludes. */

export type LeftOut = { path: string; why: string };

/** What does not travel, on either side. */
export type Left = { here: readonly LeftOut[]; there: readonly LeftOut[] };

/** Paths that a configuration (`sync.include`, `sync.exclude`) names, in the manner of gitignore. */
export type Choice = { include: readonly string[]; exclude: readonly string[] };

const HARMLESS = /^\.env\.(example|sample|template|dist)$/iu;
const SECRET_NAMES = [
  /^\.env/iu,
  /\.(pem|key|p12|pfx|jks|keystore|kdbx)$/iu,
  /^id_[^.]*$/iu,
  /^id_(rsa|dsa|ecdsa|ed25519)/iu,
  /^\.(npmrc|netrc|pypirc|pgpass|htpasswd|git-credentials)$/iu,
];
const SECRET_FOLDERS = /^\.(aws|ssh|gnupg|kube|docker)$/iu;

/** Whether a name looks like a file of secrets, whatever .gitignore says about it. */
export const looksSecret = (path: string): boolean => {
  const parts = path.split('/');
  const name = parts.at(-1) ?? '';
  if (parts.slice(0, -1).some((part) => SECRET_FOLDERS.test(part))) return true;
  return !HARMLESS.test(name) && SECRET_NAMES.some((pattern) => pattern.test(name));
};

/** khlone's own folder in a worktree: a readable snapshot of the binding, no work of anybody's. */
export const isOurs = (path: string): boolean => path === '.khlone' || path.startsWith('.khlone/');

const escaped = (text: string): string => text.replace(/[\\^$.*+?()[\]{}|]/gu, '\\$&');

const GLOB_PIECE = /\*\*\/|\*\*|\*|\?|[^*?]+/gu;
const MEANING: ReadonlyMap<string, string> = new Map([
  ['**/', '(?:.*/)?'],
  ['**', '.*'],
  ['*', '[^/]*'],
  ['?', '[^/]'],
]);

/** A pattern without a slash matches a name at any depth; a matched folder matches all in it. */
const toRegExp = (pattern: string): RegExp => {
  const bare = pattern.replace(/^\/+|\/+$/gu, '');
  const anchored = pattern.replace(/\/+$/u, '').includes('/');
  const body = (bare.match(GLOB_PIECE) ?? []).map((piece) => MEANING.get(piece) ?? escaped(piece)).join('');
  return new RegExp(`^${anchored ? '' : '(?:.*/)?'}${body}(?:/.*)?$`, 'su');
};

/** One matcher for a list of patterns; an empty list matches nothing. */
export const matcherOf = (patterns: readonly string[]): ((path: string) => boolean) => {
  const all = patterns.filter((pattern) => pattern.trim() !== '').map(toRegExp);
  return (path) => all.some((one) => one.test(path));
};

export const MAX_FILE_BYTES = 10_000_000;

/** What of a worktree travels. */
export type Carried = {
  /** Larger files that HEAD does not have as they are now are left out (default: 10 MB). */
  maxFileBytes?: number;
  choice?: Choice;
  /** Nothing is left out but submodules and nested repositories: for saving before a removal. */
  everything?: boolean;
};

/** Larger files stay here, in bytes. */
export const limitOf = (wish: Carried): number =>
  wish.everything ? Infinity : (wish.maxFileBytes ?? MAX_FILE_BYTES);

const LARGER = 'larger than max_file';
export const SECRET = 'looks like a secret';
export const EXCLUDED = 'excluded by sync.exclude';

export const megabytes = (bytes: number): string => `${Math.round(bytes / 100_000) / 10} MB`;

export const tooLarge = (bytes: number): string => `${LARGER} (${megabytes(bytes)})`;

export const NESTED = 'nested repository';
export const SUBMODULE = 'submodule';

const isRepository = ({ why }: LeftOut): boolean => why === NESTED || why === SUBMODULE;

const heldIn = (leftOut: readonly LeftOut[], where: string): Held[] =>
  leftOut.filter(isRepository).map(({ path, why }) => ({
    path: Buffer.from(path, 'utf8').toString('latin1'),
    why: `in a ${why} ${where}`,
  }));

/** Repositories inside of either worktree, as paths that are held: what the other side has there stays there. */
export const repositoriesIn = (here: readonly LeftOut[], zone: readonly LeftOut[] = []): Held[] => [
  ...heldIn(here, 'here'),
  ...heldIn(zone, 'of the zone'),
];

/** So many of them, repositories before all else: the other side needs to know of those. */
export const someOf = (leftOut: readonly LeftOut[], max: number): LeftOut[] =>
  [...leftOut.filter(isRepository), ...leftOut.filter((one) => !isRepository(one))].slice(0, max);

/** Whether this is told with every sync: somebody may miss the file there, and has a way to send it. */
export const isTold = ({ why }: LeftOut): boolean => why === SECRET || why.startsWith(LARGER);

/** What of the zone a pull does not bring: the same, and work in a repository that is only there. */
export const staysThere = ({ here, there }: Left): LeftOut[] => {
  const mine = new Set(here.map(({ path }) => path));
  return there.filter((one) => isTold(one) || (one.why === NESTED && !mine.has(one.path)));
};

/** Why a file that HEAD does not have stays here, if it does. */
export const refusalOfNew = (wish: Carried): ((path: Path, bytes: number) => string | undefined) => {
  if (wish.everything) return () => undefined;
  const included = matcherOf(wish.choice?.include ?? []);
  const excluded = matcherOf(wish.choice?.exclude ?? []);
  return (path, bytes) => {
    const text = pathText(path);
    if (excluded(text)) return EXCLUDED;
    if (looksSecret(text) && !included(text)) return SECRET;
    return bytes > limitOf(wish) ? tooLarge(bytes) : undefined;
  };
};
