/**
 * What shells read, written: small files under `<home>/shell` that the zsh and bash plugins read with builtins.
 *
 *   index        `1 TAB <hash>`, then `<worktree root> TAB <zone key>` per line, longest root first, so the first
 *                match is the innermost. A shell looks at the first line only, until it or its directory changes.
 *   zones/<key>  one line of ten fields, tab separated, none empty (`-`), because a tab is IFS white space and
 *                empty fields would collapse: version, label, mode, conn, active, queued, patches, conflicts,
 *                attention, epoch seconds. Later versions may only append fields.
 *   mail/<shell> one line, `generation TAB session-or-dash [TAB zone]`. A shell adopts what it has not seen.
 *
 * These are caches: each is replaced by rename, so that no reader sees half a file, and none is fsynced. All is
 * synchronous on purpose: two updates of one file can then never overtake each other.
 */
import { createHash } from 'node:crypto';
import {
  chmodSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { dirname, join } from 'node:path';
import { KhloneError } from '../protocol/error.ts';

export type IndexRow = { readonly root: string; readonly key: string };

/** `down`: the zone's machine is halted or gone. `connecting` and `offline`: its state is not known. */
export type Conn = 'online' | 'offline' | 'connecting' | 'down';

export type ZoneLine = {
  /** The address as a person reads it, as `@feat/auth`; hostile characters are taken out here. */
  readonly label: string;
  readonly mode: 'local' | 'ssh' | 'ec2';
  readonly conn: Conn;
  readonly active: number;
  readonly queued: number;
  readonly patches: number;
  readonly conflicts: number;
  readonly attention: number;
  /** When the writer last vouched for this line. */
  readonly epochSeconds: number;
};

/** Most worktrees in the index; the caller puts those used last first. */
export const INDEX_ROWS = 256;
/** Longest root in the index, in UTF-8 bytes: PATH_MAX of Linux. */
export const ROOT_BYTES = 4096;
/** Longest label in a prompt, in code points. */
export const LABEL_CHARS = 64;
/** Largest count in a prompt. */
export const COUNT_MAX = 9999;
/** The last time of ten digits, less the age a shell adds: bash compares times as words. */
const EPOCH_MAX_SECONDS = 9_999_999_000;
/** An unchanged line is written anew when it is this old. Shells show `?` for lines older than three of these. */
export const HEARTBEAT_SECONDS = 30;

/** Names that become file names or values of shell variables. `-` alone means none, so it cannot begin one. */
const NAME = /^[A-Za-z0-9_][A-Za-z0-9._-]{0,63}$/;

const checked = (what: string, name: string): string => {
  if (NAME.test(name)) return name;
  throw new KhloneError('invalid-params', `${what} ${JSON.stringify(name)} is not a name of [A-Za-z0-9._-]`);
};

/** One field: no control, format or line-breaking characters (they could drive a terminal), and never empty. */
const field = (value: string): string => {
  const plain = value.toWellFormed().replace(/[\p{C}\p{Zl}\p{Zp}]/gu, '');
  return Array.from(plain).slice(0, LABEL_CHARS).join('') || '-';
};

/** A count as digits only: shells read it with patterns, and one of them would evaluate `1e+21`. */
const digits = (value: number, most: number): string =>
  String(Math.max(0, Math.min(most, Math.trunc(value) || 0)));

/** The line of a zone, without its line feed. */
export const formatZoneLine = (zone: ZoneLine): string =>
  [
    '1',
    field(zone.label),
    zone.mode,
    zone.conn,
    ...[zone.active, zone.queued, zone.patches, zone.conflicts, zone.attention].map((n) =>
      digits(n, COUNT_MAX),
    ),
    digits(zone.epochSeconds, EPOCH_MAX_SECONDS),
  ].join('\t');

const read = (path: string): string | undefined => {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return undefined;
  }
};

let written = 0;

/** Replaces a file by rename, in directories that only this user may enter. Errors of the file system are thrown. */
const replace = (path: string, text: string): void => {
  const dir = dirname(path);
  mkdirSync(dir, { recursive: true, mode: 0o700 });
  if ((statSync(dir).mode & 0o077) !== 0) chmodSync(dir, 0o700);
  written += 1;
  const temporary = `${path}.${process.pid}.${written}.tmp`;
  try {
    writeFileSync(temporary, text, { mode: 0o600, flag: 'wx' });
    renameSync(temporary, path);
  } catch (error) {
    rmSync(temporary, { force: true });
    throw error;
  }
};

const shellPath = (home: string, ...names: string[]): string => join(home, 'shell', ...names);

/** A root is carried as it is or not at all: control characters would break the line apart. */
const fits = (root: string): boolean =>
  root.startsWith('/') && !/\p{Cc}/u.test(root) && Buffer.byteLength(root) <= ROOT_BYTES;

const innermostFirst = (a: IndexRow, b: IndexRow): number =>
  b.root.length - a.root.length || (a.root < b.root ? -1 : 1);

/**
 * Writes which worktree shows which zone. A worktree that people enter by a symbolic link needs a row for that path
 * too; bash cannot resolve it without a process. Roots that no line can carry are left out, rows beyond INDEX_ROWS
 * too. Returns whether anything changed. Throws `invalid-params` for a bad key.
 */
export const writeIndex = (home: string, rows: readonly IndexRow[]): boolean => {
  const lines = rows
    .map(({ root, key }) => ({ root: root.replace(/(?<=.)\/+$/, ''), key: checked('zone key', key) }))
    .filter(({ root }) => fits(root))
    .slice(0, INDEX_ROWS)
    .sort(innermostFirst)
    .map(({ root, key }) => `${root}\t${key}\n`)
    .join('');
  const text = `1\t${createHash('sha256').update(lines).digest('hex').slice(0, 16)}\n${lines}`;
  const path = shellPath(home, 'index');
  if (read(path) === text) return false;
  replace(path, text);
  return true;
};

/** The rows of the index, innermost first; none if there is no index. Never throws. */
export const readIndex = (home: string): IndexRow[] =>
  (read(shellPath(home, 'index')) ?? '').split('\n').flatMap((line) => {
    const [root = '', key = ''] = line.split('\t');
    return root.startsWith('/') && NAME.test(key) ? [{ root, key }] : [];
  });

/** True when the old line says the same and is young enough to vouch for it. */
const stillHolds = (old: string | undefined, line: string): boolean => {
  if (old === undefined) return false;
  const [oldTab, tab] = [old.lastIndexOf('\t'), line.lastIndexOf('\t')];
  const ageSeconds = Number(line.slice(tab)) - Number(old.slice(oldTab));
  return old.slice(0, oldTab) === line.slice(0, tab) && ageSeconds >= 0 && ageSeconds < HEARTBEAT_SECONDS;
};

/**
 * Writes the state of a zone for the prompts. Returns whether the file was written: an unchanged state is written
 * once per HEARTBEAT_SECONDS. Throws `invalid-params` for a bad key.
 */
export const writeZoneLine = (home: string, key: string, zone: ZoneLine): boolean => {
  const path = shellPath(home, 'zones', checked('zone key', key));
  const line = formatZoneLine(zone);
  if (stillHolds(read(path), line)) return false;
  replace(path, `${line}\n`);
  return true;
};

/** Takes a zone out of the prompts. A zone without a line shows nothing, whatever the index says. */
export const removeZoneLine = (home: string, key: string): void =>
  rmSync(shellPath(home, 'zones', checked('zone key', key)), { force: true });

/** Greater than every generation before it, also one of a process with a faster clock; microseconds, so exact. */
const nextGeneration = (old: string | undefined): number => {
  const last = /^(\d{1,16})\t/.exec(old ?? '')?.[1];
  return Math.max(Date.now() * 1000, Number(last ?? 0) + 1);
};

/**
 * Tells one shell its session (undefined: it has none any more), to be adopted when the command returns or at the
 * next prompt. Always written: the shell may have changed its variable meanwhile. Returns the generation. Throws
 * `invalid-params` for a shell id or session that is not a name: the id comes from the environment.
 */
export const writeMail = (
  home: string,
  shellId: string,
  session: string | undefined,
  zone?: string,
): number => {
  const path = shellPath(home, 'mail', checked('shell id', shellId));
  const generation = nextGeneration(read(path));
  const fields = [generation, session === undefined ? '-' : checked('session', session)];
  replace(path, `${[...fields, ...(zone === undefined ? [] : [field(zone)])].join('\t')}\n`);
  return generation;
};

/** Removes mailboxes that nobody wrote to for so long; a shell cannot clean up after itself without a process. */
export const pruneMail = (home: string, olderThanMs: number): number => {
  const dir = shellPath(home, 'mail');
  try {
    const old = readdirSync(dir)
      .map((name) => join(dir, name))
      .filter((path) => Date.now() - statSync(path).mtimeMs > olderThanMs);
    for (const path of old) rmSync(path, { force: true });
    return old.length;
  } catch {
    return 0; // Absent, or another process was at it: the next time will do.
  }
};
