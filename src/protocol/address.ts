import { KhloneError } from './error.ts';
import { ADDRESS_CHARS, INDEX_MAX, NAME_CHARS, PATH_CHARS } from './limits.ts';

/**
 * The two addresses a person types: a clone in one token (`--who`) and a zone (`--zone`).
 * For both, parsing what was formatted gives the same address. What a token means in a crew is decided elsewhere.
 */

/** Absent parts are for the caller to fill in. The hero is `{ role: 'clone', index: 0 }`; `spawn`: always a new clone. */
export type Who = { role?: string; index?: number; brain?: string; spawn: boolean };

export type ZoneAddress = { org?: string; repo?: string; branch: string } | { path: string };

const NAME = new RegExp(`^[a-z][a-z0-9-]{0,${NAME_CHARS - 1}}$`, 'u');
const TOKEN = /^(?<role>[^.@+]*)(?<dot>\.(?<index>[^.@+]*))?(?<at>@(?<brain>[^.@+]*))?(?<plus>\+\+)?$/u;
const INDEX = /^(?:0|[1-9]\d*)$/u;
const HERO = 'hero';
const HERO_ROLE = 'clone';

const WHO_HINT = '--who takes [role][.n][@brain][++]: mechanic, mechanic.1, @codex, researcher@codex++, hero';
const ZONE_HINT = 'a zone is org/repo@branch, repo@branch, @branch, or a path that begins with / ./ ../ or ~';

/** What a person typed, fit for an error message: short, and without anything a terminal would obey. */
const quoted = (token: string): string =>
  JSON.stringify(token.slice(0, 80)).replace(/[^\x20-\x7e\p{L}\p{N}]/gu, '?');

const whoError = (token: string, why: string): KhloneError =>
  new KhloneError('usage', `${quoted(token)} names no clone: ${why}`, WHO_HINT);

const zoneError = (token: string, why: string): KhloneError =>
  new KhloneError('usage', `${quoted(token)} is no zone address: ${why}`, ZONE_HINT);

const indexOf = (token: string, digits: string): number => {
  const index = INDEX.test(digits) ? Number(digits) : Number.NaN;
  if (index <= INDEX_MAX) return index;
  throw whoError(token, 'an index is a number such as 1');
};

const nameOf = (token: string, name: string, what: string): string => {
  if (NAME.test(name)) return name;
  throw whoError(token, `a ${what} is lower-case letters, digits and "-", at most ${NAME_CHARS}`);
};

/** The clone that a `--who` token names. Throws `usage` with the grammar in the hint. */
export const parseWho = (token: string): Who => {
  const parts = TOKEN.exec(token)?.groups;
  if (token === '' || !parts) throw whoError(token, 'it does not fit the grammar');
  const who: Who = { spawn: parts.plus !== undefined };
  const hero = parts.role === HERO;
  if (parts.role && !hero) who.role = nameOf(token, parts.role, 'role');
  if (parts.dot !== undefined) {
    if (!who.role) throw whoError(token, hero ? 'the hero has no index' : 'an index needs a role before it');
    if (who.spawn) throw whoError(token, 'a new clone gets its index by itself');
    who.index = indexOf(token, parts.index ?? '');
  }
  if (parts.at !== undefined) who.brain = nameOf(token, parts.brain ?? '', 'brain');
  // A new hero is what "++" alone asks for, so "hero++" says the same.
  if (hero && !who.spawn) return { ...who, role: HERO_ROLE, index: 0 };
  return who;
};

/** The token of a clone. `{ spawn: false }` alone is the hero, whom nobody needs to name. */
export const formatWho = ({ role, index, brain, spawn }: Who): string => {
  const dot = index === undefined ? '' : `.${index}`;
  const token = `${role ?? ''}${dot}${brain === undefined ? '' : `@${brain}`}${spawn ? '++' : ''}`;
  return token || HERO;
};

/** A part of `org/repo`: no "@" (it ends them), no "/" (it parts them), nothing that reads as an option or as "..". */
const PART = /^\.?[\p{L}\p{N}_][\p{L}\p{N}\p{M}._+~-]*$/u;
/** What git refuses in a branch, and what a shell or a terminal would obey. */
const BAD_BRANCH = /^[-/.]|[/.]$|\/\/|\/\.|\.\.|@\{|\.lock(?:\/|$)|^@$|[\p{C}\p{Z}~^:?*[\\"'`$&|;<>(){}!]/u;
const PATH = /^(?:\/|\.\.?(?:\/|$)|~)/u;
const CONTROL = /[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}]/u;

const isPath = (token: string): boolean => PATH.test(token);

/** The zone that an address names; a path stays as typed. Throws `usage` with the grammar in the hint. */
export const parseZone = (token: string): ZoneAddress => {
  if (CONTROL.test(token)) throw zoneError(token, 'it holds control characters');
  if (isPath(token)) {
    if (token.length > PATH_CHARS) throw zoneError(token, 'it is too long');
    return { path: token };
  }
  if (token.length > ADDRESS_CHARS) throw zoneError(token, 'it is too long');
  const at = token.indexOf('@');
  if (at < 0) throw zoneError(token, 'it has no "@" before a branch');
  const branch = token.slice(at + 1);
  if (branch === '' || BAD_BRANCH.test(branch)) throw zoneError(token, 'git would not take this branch');
  if (at === 0) return { branch };
  const parts = token.slice(0, at).split('/');
  if (!parts.every((part) => PART.test(part))) throw zoneError(token, 'before "@" stands org/repo or repo');
  const repo = parts.pop() ?? '';
  return parts.length > 0 ? { org: parts.join('/'), repo, branch } : { repo, branch };
};

/** The whole address. */
export const formatZone = (zone: ZoneAddress): string => {
  if ('path' in zone) return zone.path;
  const site = zone.org === undefined ? (zone.repo ?? '') : `${zone.org}/${zone.repo ?? ''}`;
  return `${site}@${zone.branch}`;
};

/** The address for somebody who stands in the repository: `@branch`, or the path. */
export const formatShort = (zone: ZoneAddress): string => ('path' in zone ? zone.path : `@${zone.branch}`);
