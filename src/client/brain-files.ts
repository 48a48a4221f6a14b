import { createHash } from 'node:crypto';
import { type BigIntStats, closeSync, constants, fstatSync, openSync, readSync, statSync } from 'node:fs';
import { join } from 'node:path';
import type { ExecutableSkill } from './sensitive.ts';

/**
 * Files of a repository by which it steers an AI CLI: hooks and tool servers in them are programs. An act uses them only
 * after a person agreed to their content; until then it goes on without them.
 */

const FILES = ['.claude/settings.json', '.claude/settings.local.json', '.mcp.json'] as const;
/** A longer file is agreed to by its beginning and its length. */
const MAX_BYTES = 1024 * 1024;

/** A file changed this recently may change again without a new time stamp, so it is read again next time. */
const RACY_MS = 50;
const MAX_REMEMBERED = 1024;

/** Fingerprints by path, each of one state of its file. */
const remembered = new Map<string, { key: string; sha256: string }>();

const hashOpened = (file: number, size: number): string => {
  const bytes = Buffer.alloc(Math.min(size, MAX_BYTES));
  const length = readSync(file, bytes, 0, bytes.length, 0);
  return createHash('sha256').update(`${size} `).update(bytes.subarray(0, length)).digest('hex');
};

const keep = (path: string, facts: BigIntStats, sha256: string): void => {
  if (remembered.size >= MAX_REMEMBERED) remembered.clear();
  if (Date.now() - Number(facts.ctimeNs / 1_000_000n) > RACY_MS) {
    remembered.set(path, { key: keyOf(facts), sha256 });
  }
};

const keyOf = (facts: BigIntStats): string =>
  `${facts.mtimeNs} ${facts.ctimeNs} ${facts.size} ${facts.ino} ${facts.dev}`;

/** Of a file that is there. What is no file (a fifo would hold an ordinary open for ever) has none. */
const fingerprintOf = (path: string): string | undefined => {
  const seen = statSync(path, { bigint: true, throwIfNoEntry: false });
  if (!seen?.isFile()) return undefined;
  const known = remembered.get(path);
  if (known?.key === keyOf(seen)) return known.sha256;
  const file = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
  try {
    const facts = fstatSync(file, { bigint: true });
    if (!facts.isFile()) return undefined;
    const sha256 = hashOpened(file, Number(facts.size));
    keep(path, facts, sha256);
    return sha256;
  } finally {
    closeSync(file);
  }
};

const fingerprint = (path: string): string | undefined => {
  try {
    return fingerprintOf(path);
  } catch {
    return undefined;
  }
};

/** Those that are there, each as a thing to agree to: every dispatch asks, so an unchanged file costs one look. */
export const brainFiles = (root: string): ExecutableSkill[] =>
  FILES.flatMap((path) => {
    const sha256 = fingerprint(join(root, path));
    if (sha256 === undefined) return [];
    return [{ name: path, path, sha256, says: `lets claude run the hooks and tool servers of ${path}` }];
  });
