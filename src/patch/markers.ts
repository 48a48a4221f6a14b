import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { KhloneError } from '../protocol/error.ts';
import { git, gitFailed } from './git.ts';
import type { Stage } from './merge-said.ts';
import type { Shadow } from './shadow.ts';
import { readBlob } from './tree.ts';

/** The text that a person edits to resolve a conflict: beside the worktree, never in it. */

export type Marked = {
  text: Buffer;
  /** How many characters a marker has: more than any run of them at the start of a line of the three files. */
  markerSize: number;
};

const MIN_MARKER = 7;
const MAX_MARKER = 200;
const MAX_TEXT_BYTES = 64 * 1024 * 1024;
const DEADLINE_MS = 60_000;
const RUN = /^(?:<+|\|+|=+|>+)/gmu;

/** A heading that is underlined with "=======" must not look like a marker that was forgotten. */
const markerSizeFor = (texts: readonly Buffer[]): number => {
  let longest = MIN_MARKER - 1;
  for (const text of texts) {
    for (const [run] of text.toString('latin1').matchAll(RUN)) longest = Math.max(longest, run.length);
  }
  return longest + 1;
};

const mergeFiles = async (shadow: Shadow, dir: string, markerSize: number): Promise<Buffer> => {
  const labels = ['local', 'base', 'remote'];
  const options = [`--marker-size=${markerSize}`, '-p', '--diff3'];
  const args = ['merge-file', ...options, ...labels.flatMap((label) => ['-L', label]), ...labels];
  const { GIT_WORK_TREE: _, ...env } = shadow.env();
  const { code, stdout, stderr } = await git(args, {
    cwd: dir,
    env,
    deadlineMs: DEADLINE_MS,
    maxBytes: 4 * MAX_TEXT_BYTES,
  });
  // Up to 127 is the number of conflicts.
  if (code <= 127) return stdout;
  if (stderr.includes('binary')) throw noText();
  throw gitFailed('git could not write the conflict', stderr);
};

const noText = (): KhloneError =>
  new KhloneError(
    'conflict',
    'this conflict has no lines to merge',
    'choose a side: --keep local or --keep remote',
  );

/**
 * Both sides of a content in conflict in one text, with markers in the manner of diff3: local, base, remote. Throws
 * `conflict` where a side has no text (deleted, binary, a link), `too-large`.
 */
export const markedText = async (shadow: Shadow, { base, local, remote }: Stage): Promise<Marked> => {
  const entries = [local, base, remote];
  if (!local || !remote || entries.some((entry) => entry && !entry.mode.startsWith('100'))) throw noText();
  const texts = await Promise.all(
    entries.map((entry) => (entry ? readBlob(shadow, entry.oid, MAX_TEXT_BYTES) : Buffer.alloc(0))),
  );
  const markerSize = markerSizeFor(texts);
  if (markerSize > MAX_MARKER) throw noText();
  const dir = await mkdtemp(join(shadow.dir, 'marked-'));
  try {
    const [mine = Buffer.alloc(0), before = Buffer.alloc(0), theirs = Buffer.alloc(0)] = texts;
    await Promise.all([
      writeFile(join(dir, 'local'), mine, { mode: 0o600 }),
      writeFile(join(dir, 'base'), before, { mode: 0o600 }),
      writeFile(join(dir, 'remote'), theirs, { mode: 0o600 }),
    ]);
    return { text: await mergeFiles(shadow, dir, markerSize), markerSize };
  } finally {
    await rm(dir, { recursive: true, force: true });
  }
};

/** The lines, counted from 1, that still hold a marker. Empty when the conflict is resolved. */
export const markersLeft = (text: Buffer, markerSize: number): number[] => {
  const n = markerSize;
  const marker = new RegExp(`^(?:<{${n}}|\\|{${n}}|={${n}}|>{${n}})(?:[ \\r]|$)`, 'u');
  return text
    .toString('latin1')
    .split('\n')
    .flatMap((line, i) => (marker.test(line) ? [i + 1] : []));
};
