import { once } from 'node:events';
import { join } from 'node:path';
import { Worker } from 'node:worker_threads';
import { regionsByGit } from './hunks.ts';
import type { Stage } from './merge-said.ts';
import type { RangesQuestion } from './ranges-worker.ts';
import type { Shadow } from './shadow.ts';
import { blobSizes, readBlob } from './tree.ts';

/** Which lines of a text are in conflict, for people to read. It never decides what a conflict is: git does. */

/** Lines from 1, both inclusive; `to` is one less than `from` where a side has no line there. */
export type LineRange = { from: number; to: number };
export type Region = { local: LineRange; remote: LineRange };

/** Up to here each file is compared line by line in a thread, above it by git's hunks. */
const MAX_LINES = 2_000;
const MAX_BYTES = 256_000;
const LIMIT_MS = 200;
/** A larger text has no line numbers that anybody would read. */
const MAX_TEXT_BYTES = 64 * 1024 * 1024;
/** Git's own test: a NUL among the first bytes. */
const BINARY_PROBE_BYTES = 8_000;

/** The thread's program as text, put in by the build; in a checkout its source runs as it is. */
declare const __KHLONE_RANGES__: string | undefined;

const startWorker = (question: RangesQuestion): Worker =>
  typeof __KHLONE_RANGES__ === 'string'
    ? new Worker(__KHLONE_RANGES__, { eval: true, workerData: question })
    : new Worker(join(import.meta.dirname, 'ranges-worker.ts'), { workerData: question });

/** What the thread says, or undefined where it takes more than `limitMs` of work. */
export const regionsInThread = async (
  question: RangesQuestion,
  limitMs: number = LIMIT_MS,
): Promise<Region[] | undefined> => {
  const worker = startWorker(question);
  const over = new AbortController();
  // Its start is not its work; a thread that never starts is as good as one that takes too long.
  let timer = setTimeout(() => over.abort(), limitMs * 10);
  worker.once('online', () => {
    clearTimeout(timer);
    timer = setTimeout(() => over.abort(), limitMs);
  });
  try {
    // Heard from the first moment: where this thread was busy, the answer comes before the word that it is there.
    const [said] = await once(worker, 'message', { signal: over.signal });
    return said as Region[];
  } catch {
    return undefined;
  } finally {
    clearTimeout(timer);
    await worker.terminate();
  }
};

const linesOf = (bytes: Buffer): string[] => {
  const lines = bytes.toString('latin1').split('\n');
  if (lines.at(-1) === '') lines.pop();
  return lines;
};

const isText = (bytes: Buffer): boolean => !bytes.subarray(0, BINARY_PROBE_BYTES).includes(0);

const isFile = (mode: string | undefined): boolean => mode === undefined || mode.startsWith('100');

/** Whether both sides made the same edit. */
const isSame = ({ local, remote }: Region, mine: readonly string[], theirs: readonly string[]): boolean => {
  const [here, there] = [mine.slice(local.from - 1, local.to), theirs.slice(remote.from - 1, remote.to)];
  return here.length === there.length && here.every((line, i) => line === there[i]);
};

/**
 * The line ranges of a conflict's content (`Conflict.contents`). Undefined where there are none to tell: a side is
 * deleted, binary, a link, or too large. Without a base each whole file is one range.
 */
export const rangesOf = async (shadow: Shadow, stage: Stage): Promise<Region[] | undefined> => {
  const { base, local, remote } = stage;
  if (!local || !remote || ![base?.mode, local.mode, remote.mode].every(isFile)) return undefined;
  const oids = [local.oid, remote.oid, ...(base ? [base.oid] : [])];
  const sizes = Math.max(...(await blobSizes(shadow, oids)).values());
  if (sizes > MAX_TEXT_BYTES) return undefined;
  const texts = await Promise.all(oids.map((oid) => readBlob(shadow, oid, MAX_TEXT_BYTES)));
  if (!texts.every(isText)) return undefined;
  const [mine = [], theirs = [], before] = texts.map(linesOf);
  if (!base || !before) {
    return [{ local: { from: 1, to: mine.length }, remote: { from: 1, to: theirs.length } }];
  }
  const isSmall = sizes <= MAX_BYTES && [mine, theirs, before].every((lines) => lines.length <= MAX_LINES);
  const quick = isSmall ? await regionsInThread({ base: before, local: mine, remote: theirs }) : undefined;
  if (quick !== undefined) return quick;
  const regions = await regionsByGit(shadow, base.oid, local.oid, remote.oid);
  return regions.filter((region) => !isSame(region, mine, theirs));
};

/** "lines 42-47", "line 42", or "nothing after line 41". */
export const rangeText = ({ from, to }: LineRange): string => {
  if (to < from) return from === 1 ? 'nothing' : `nothing after line ${from - 1}`;
  return from === to ? `line ${from}` : `lines ${from}-${to}`;
};
