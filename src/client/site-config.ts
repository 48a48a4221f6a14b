import { type BigIntStats, constants, statSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { join } from 'node:path';
import { KhloneError } from '../protocol/error.ts';

/**
 * khlone.yml: what all zones of a repository share. This file holds the meaning and the cache; the shape on disk
 * (site-config-schema.ts) and its parser are loaded only when there is a file that is not yet known.
 */

export type Mode = 'local' | 'ssh' | 'ec2';
export type Instance = {
  type?: string;
  region?: string;
  ami?: string;
  diskGb: number;
  market: 'on-demand' | 'spot';
};
export type Constraints = {
  ttlMs?: number;
  idleMs?: number;
  onEnd: 'halt' | 'drop';
  costLimitUsd?: number;
  onLimit: 'alert' | 'hold' | 'halt';
};
export type BrainChoice = string | { acp: string[] } | { command: string[] };
export type RoleChoice = string | { path: string; brain?: string };
export type Hook = { prompt: string; artifact?: string } | { run: string[]; artifact?: string };

/** The whole configuration with all defaults filled in; frozen through and through. */
export type SiteConfig = {
  zone: {
    mode: Mode;
    /** Whether the file says so, or the built-in default does. */
    modeGiven: boolean;
    host?: string;
    path?: string;
    backend: 'auto' | 'ssh2' | 'openssh';
    /** Present where the file configures one, and always in ec2 mode. */
    instance?: Instance;
    constraints: Constraints;
  };
  supplies: string[];
  setup: string[][];
  repo: { origin?: string; deployKey?: string; history: 'branch' | 'full' };
  crew: {
    hero: { role?: string; brain?: string };
    defaults: { brain?: string };
    limits: { maxClones: number; maxQueue: number };
    permissions: 'free' | 'ask';
    sandbox: 'zone' | 'off';
    isolation: 'shared' | 'worktree';
    brains: Record<string, BrainChoice>;
  };
  roles: Record<string, RoleChoice>;
  hooks: { onStop: Hook[] };
  sync: { auto: boolean; autoGiven: boolean; maxFileBytes: number; include: string[]; exclude: string[] };
  secrets: Record<string, string>;
  retention: { transcriptsMs: number; diskBytes: number };
};

const freeze = <Value>(value: Value): Value => {
  if (value !== null && typeof value === 'object' && !Object.isFrozen(value)) {
    Object.freeze(value);
    for (const inner of Object.values(value)) freeze(inner);
  }
  return value;
};
export const frozen: (config: SiteConfig) => SiteConfig = freeze;

/** What holds without a file. */
export const DEFAULT_SITE_CONFIG: SiteConfig = frozen({
  zone: {
    mode: 'local',
    modeGiven: false,
    backend: 'auto',
    constraints: { onEnd: 'halt', onLimit: 'alert' },
  },
  supplies: [],
  setup: [],
  repo: { history: 'branch' },
  crew: {
    hero: {},
    defaults: {},
    limits: { maxClones: 8, maxQueue: 100 },
    permissions: 'free',
    sandbox: 'zone',
    isolation: 'shared',
    brains: {},
  },
  roles: {},
  hooks: { onStop: [] },
  sync: { auto: false, autoGiven: false, maxFileBytes: 10e6, include: [], exclude: [] },
  secrets: {},
  retention: { transcriptsMs: 90 * 86_400_000, diskBytes: 5e9 },
});

/** What holds in ec2 mode: a paid machine always has an end. */
export const EC2_DEFAULTS = { ttlMs: 4 * 3_600_000, idleMs: 30 * 60_000, diskGb: 60 } as const;

export const SITE_FILES = ['khlone.yml', 'khlone.worksite.yml'] as const;
export const MAX_SITE_FILE_BYTES = 256 * 1024;
const MAX_REMEMBERED = 256;
/** A file changed this recently may change again without a new time stamp, so it is read again next time. */
const RACY_MS = 50;

type Found = {
  fileName: string;
  key: string;
  settled: boolean;
  read: () => Promise<Buffer>;
  close: () => Promise<void>;
};

const keyOf = (fileName: string, facts: BigIntStats): string =>
  `${fileName} ${facts.mtimeNs} ${facts.ctimeNs} ${facts.size} ${facts.ino}`;

/** The key of a file's present state, from one look: undefined where it is absent, empty where a look says nothing. */
const seenKey = (root: string, fileName: string): string | undefined => {
  try {
    const facts = statSync(join(root, fileName), { bigint: true, throwIfNoEntry: false });
    return facts && keyOf(fileName, facts);
  } catch {
    return '';
  }
};

/** The next step where a configuration file is wrong as a whole. */
const nextFor = (fileName: string): string => `correct ${fileName}; khlone doctor reads it again`;

/** An open configuration file and what identifies its present state, or undefined where there is none. */
const openSiteFile = async (root: string, fileName: string): Promise<Found | undefined> => {
  // A fifo of that name must not block us, so the open does not wait.
  const file = await open(join(root, fileName), constants.O_RDONLY | constants.O_NONBLOCK).catch((error) => {
    if (error.code === 'ENOENT' || error.code === 'ENOTDIR') return undefined;
    throw new KhloneError('config', `${fileName} cannot be read: ${error.code}`, nextFor(fileName));
  });
  if (!file) return undefined;
  const facts = await file.stat({ bigint: true });
  if (!facts.isFile() || facts.size > MAX_SITE_FILE_BYTES) {
    await file.close();
    const why = facts.isFile() ? `is larger than ${MAX_SITE_FILE_BYTES / 1024} KiB` : 'is not a file';
    throw new KhloneError('config', `${fileName} ${why}`, nextFor(fileName));
  }
  return {
    fileName,
    key: keyOf(fileName, facts),
    settled: Date.now() - Number(facts.ctimeNs / 1_000_000n) > RACY_MS,
    // The file may grow while it is read: one byte more than allowed is all we take.
    read: async () => {
      const buffer = Buffer.alloc(MAX_SITE_FILE_BYTES + 1);
      let length = 0;
      for (let read = 1; read > 0 && length < buffer.length; length += read) {
        ({ bytesRead: read } = await file.read(buffer, length, buffer.length - length, length));
      }
      return buffer.subarray(0, length);
    },
    close: () => file.close(),
  };
};

const remembered = new Map<string, { key: string; config: SiteConfig }>();

const parse = async (found: Found): Promise<SiteConfig> => {
  const bytes = await found.read();
  if (bytes.length > MAX_SITE_FILE_BYTES)
    throw new KhloneError('config', `${found.fileName} is larger than 256 KiB`, nextFor(found.fileName));
  const { parseSiteConfig } = await import('./site-config-parse.ts');
  let text: string;
  try {
    text = new TextDecoder('utf-8', { fatal: true }).decode(bytes);
  } catch {
    throw new KhloneError('config', `${found.fileName}: not UTF-8 text`, nextFor(found.fileName));
  }
  return parseSiteConfig(text, found.fileName);
};

/**
 * The configuration of the worktree at `root`: all defaults without a file. Unchanged files are not read again.
 * Throws `config` with file, line and column of up to five mistakes; also where both names of the file exist.
 */
export const loadSiteConfig = async (root: string): Promise<SiteConfig> => {
  // Every dispatch asks: two looks answer while nothing changed (sync: a visit to the thread pool costs ten of them).
  const seen = SITE_FILES.map((fileName) => seenKey(root, fileName)).filter((key) => key !== undefined);
  if (seen.length === 0) return DEFAULT_SITE_CONFIG;
  const known = remembered.get(root);
  return known && seen.length === 1 && seen[0] === known.key ? known.config : readSiteConfig(root);
};

const readSiteConfig = async (root: string): Promise<SiteConfig> => {
  const opened: (Found | undefined)[] = [];
  try {
    for (const fileName of SITE_FILES) opened.push(await openSiteFile(root, fileName));
    const present = opened.filter((one) => one !== undefined);
    const [found, other] = present;
    if (!found) return DEFAULT_SITE_CONFIG;
    if (other) {
      throw new KhloneError(
        'config',
        `both ${found.fileName} and ${other.fileName} exist: they are the same file by two names`,
        `keep ${found.fileName}, remove the other`,
      );
    }
    const known = remembered.get(root);
    if (known?.key === found.key) return known.config;
    const config = await parse(found);
    if (remembered.size >= MAX_REMEMBERED) remembered.clear();
    if (found.settled) remembered.set(root, { key: found.key, config });
    return config;
  } finally {
    await Promise.all(opened.map((one) => one?.close()));
  }
};
