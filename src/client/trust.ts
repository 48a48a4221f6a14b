import { closeSync, fstatSync, openSync, readFileSync } from 'node:fs';
import { KhloneError } from '../protocol/error.ts';
import { oneLine } from '../protocol/sanitize.ts';
import { withFileLock, writePrivate } from './private-file.ts';
import { type ExecutableSkill, hashOf, type Sensitive, sensitiveParts } from './sensitive.ts';
import type { SiteConfig } from './site-config.ts';

/**
 * A repository is not trusted because it was cloned. What it wants beyond words holds after a person agreed to exactly
 * that content, for exactly that repository: the same file in another repository, or in another clone of it with
 * another place, asks again. Taking something away needs no new yes; adding or changing anything does.
 */

export type Repository = { org: string; repo: string; commonDir: string };
/** Where trust.json lies, e.g. a `Home`. */
export type TrustHome = { trust: string };

type Known = Pick<Sensitive, 'says' | 'value'>;
type Agreement = { repository: string; hash: string; agreedMs: number; items: Record<string, Known> };
type TrustFile = { version: 1; agreements: Record<string, Agreement> };

/** What differs from what was agreed to last time; without an earlier yes everything is `added`. */
export type TrustChange = {
  added: Sensitive[];
  changed: { before: string; now: Sensitive }[];
  removed: string[];
  first: boolean;
};
export type TrustState =
  | { state: 'nothing-to-trust' }
  | { state: 'trusted' }
  | { state: 'asks'; parts: Sensitive[]; change: TrustChange };
/** What to show a person before asking: `text` in full, `short` in one line. */
export type TrustQuestion = { text: string; short: string; change: TrustChange };

const MAX_TRUST_BYTES = 16 * 1024 * 1024;

/** The name and the place: an origin is written by whoever made the repository, a place is not. */
const keyOf = ({ org, repo, commonDir }: Repository): string => JSON.stringify([`${org}/${repo}`, commonDir]);

const isRecord = (value: unknown): value is Record<string, unknown> =>
  value !== null && typeof value === 'object' && !Array.isArray(value);
const isAgreement = (value: unknown): value is Agreement =>
  isRecord(value) &&
  isRecord(value.items) &&
  Object.values(value.items).every(
    (one) => isRecord(one) && typeof one.value === 'string' && typeof one.says === 'string',
  );

const EMPTY: TrustFile = { version: 1, agreements: {} };

const opened = (path: string): number | undefined => {
  try {
    return openSync(path, 'r');
  } catch (thrown) {
    const { code } = thrown as NodeJS.ErrnoException;
    if (code === 'ENOENT') return undefined;
    throw new KhloneError('denied', `${oneLine(path, 200)} cannot be read: ${code}`);
  }
};

const readOpened = (file: number, path: string): TrustFile => {
  const facts = fstatSync(file);
  if (facts.uid !== process.geteuid?.() || (facts.mode & 0o022) !== 0) {
    const hint = `look at it, then chmod 600 ${oneLine(path, 200)}`;
    throw new KhloneError('denied', 'others can write to trust.json, so it says nothing', hint);
  }
  if (!facts.isFile() || facts.size > MAX_TRUST_BYTES) return EMPTY;
  const parsed: unknown = JSON.parse(readFileSync(file, 'utf8'));
  if (!isRecord(parsed) || parsed.version !== 1 || !isRecord(parsed.agreements)) return EMPTY;
  const sound = Object.entries(parsed.agreements).filter((entry): entry is [string, Agreement] =>
    isAgreement(entry[1]),
  );
  return { version: 1, agreements: Object.fromEntries(sound) };
};

/**
 * The file as it is. A damaged one agrees to nothing; one that others may write to is refused. Synchronous, because
 * dispatches wait for it: it is small, and lies in our own home.
 */
const read = (path: string): TrustFile => {
  const file = opened(path);
  if (file === undefined) return EMPTY;
  try {
    return readOpened(file, path);
  } catch (error) {
    if (error instanceof SyntaxError) return EMPTY;
    throw error;
  } finally {
    closeSync(file);
  }
};

/** Compares what is wanted with what was agreed to. Pure. */
export const diffTrust = (
  agreed: Readonly<Record<string, Known>> | undefined,
  parts: readonly Sensitive[],
): TrustChange => {
  const before = new Map(Object.entries(agreed ?? {}));
  const change: TrustChange = { added: [], changed: [], removed: [], first: agreed === undefined };
  for (const now of parts) {
    const known = before.get(now.key);
    if (!known) change.added.push(now);
    else if (known.value !== now.value) change.changed.push({ before: known.says, now });
    before.delete(now.key);
  }
  change.removed.push(...[...before.values()].map(({ says }) => says));
  return change;
};

/** Whether the person has agreed to all that this configuration wants, and if not, what is new. */
export const trustState = async (
  home: TrustHome,
  repository: Repository,
  config: SiteConfig,
  skills: readonly ExecutableSkill[] = [],
): Promise<TrustState> => {
  const parts = sensitiveParts(config, skills);
  if (parts.length === 0) return { state: 'nothing-to-trust' };
  const { agreements } = read(home.trust);
  const key = keyOf(repository);
  const change = diffTrust(Object.hasOwn(agreements, key) ? agreements[key]?.items : undefined, parts);
  return change.added.length + change.changed.length === 0
    ? { state: 'trusted' }
    : { state: 'asks', parts, change };
};

const plural = (count: number, what: string): string => `${count} ${what}${count === 1 ? '' : 's'}`;

/** The question in words: what is new, what changed since last time, what is gone. Safe to print. */
export const describeChange = (
  { org, repo }: Pick<Repository, 'org' | 'repo'>,
  change: TrustChange,
): string => {
  const name = oneLine(`${org}/${repo}`, 300);
  const title = change.first
    ? `khlone.yml of ${name} wants to:`
    : `khlone.yml of ${name} changed since you agreed:`;
  return [
    title,
    ...change.added.map(({ says, key }) => `  + ${says}  [${oneLine(key, 120)}]`),
    ...change.changed.flatMap(({ before, now }) => [
      `  - ${oneLine(before, 4_000)}`,
      `  + ${now.says}  [${oneLine(now.key, 120)}]`,
    ]),
    ...change.removed.map((says) => `  - ${oneLine(says, 4_000)}`),
  ].join('\n');
};

/** The question to ask before this configuration may do anything, or undefined where nothing has to be asked. */
export const needsTrust = async (
  home: TrustHome,
  repository: Repository,
  config: SiteConfig,
  skills: readonly ExecutableSkill[] = [],
): Promise<TrustQuestion | undefined> => {
  const found = await trustState(home, repository, config, skills);
  if (found.state !== 'asks') return undefined;
  const { change } = found;
  const news = [...change.added, ...change.changed.map(({ now }) => now)];
  const more = news.length > 1 ? ` and ${plural(news.length - 1, 'other thing')}` : '';
  return {
    text: describeChange(repository, change),
    short: `${oneLine(news[0]?.says ?? '', 120)}${more}`,
    change,
  };
};

/** Throws `not-trusted` (exit 3) unless the person has agreed to all that this configuration wants. */
export const requireTrust = async (
  home: TrustHome,
  repository: Repository,
  config: SiteConfig,
  skills: readonly ExecutableSkill[] = [],
): Promise<void> => {
  const question = await needsTrust(home, repository, config, skills);
  if (!question) return;
  throw new KhloneError(
    'not-trusted',
    `khlone.yml wants what you have not agreed to: ${question.short}`,
    'khlone trust',
  );
};

/**
 * Records the person's yes to exactly what this configuration wants now, in place of an earlier yes for the same
 * repository. `config` must be the value that was shown. Several khlones may agree at once; none is lost.
 */
export const agree = (
  home: TrustHome,
  repository: Repository,
  config: SiteConfig,
  skills: readonly ExecutableSkill[] = [],
): Promise<void> => {
  const parts = sensitiveParts(config, skills);
  return change(home, (agreements) => ({
    ...agreements,
    [keyOf(repository)]: {
      repository: `${repository.org}/${repository.repo}`,
      hash: hashOf(parts),
      agreedMs: Date.now(),
      items: Object.fromEntries(parts.map(({ key, says, value }) => [key, { says, value }])),
    },
  }));
};

const change = (
  home: TrustHome,
  edit: (agreements: Record<string, Agreement>) => Record<string, Agreement>,
): Promise<void> =>
  withFileLock(home.trust, async () => {
    const { agreements } = read(home.trust);
    await writePrivate(
      home.trust,
      `${JSON.stringify({ version: 1, agreements: edit(agreements) }, null, 1)}\n`,
    );
  });
