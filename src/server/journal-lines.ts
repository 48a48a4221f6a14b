import { type FileHandle, open } from 'node:fs/promises';
import type { Item } from '../protocol/calls.ts';
import { fileOf, type Piece, type Segment } from './journal.ts';
import { itemIn, SEQ_BYTES, seqAtStart, seqOf } from './line-head.ts';
import { createReadBuffers } from './read-buffers.ts';

/**
 * Reading a zone's journal: its lines as the bytes that they are. They were written as JSON once and travel as such, so
 * a watcher costs the reading and a look at the head of each line, and nothing that a garbage collector must find.
 */

const READ_BYTES = 128 * 1024;
/** Buffers that wait for the next reader: as many read at once at most, more or less, since the others wait for theirs. */
const IDLE_BUFFERS = 8;
const buffers = createReadBuffers(READ_BYTES, IDLE_BUFFERS);

/** A line's bytes with its line break, as a view that holds until the reader asks for more. */
export type Line = { seq: number; bytes: Buffer };

/** Where a reader stands: cheap to keep, one per watcher, so that a stalled one costs nothing to anybody. */
export type Position = { n: number; offset: number };

/** Complete lines in one piece, and the offset behind them in their segment. */
type Block = { bytes: Buffer; end: number };

const LF = 10;

const grown = (buffer: Buffer): Buffer => {
  const larger = Buffer.allocUnsafeSlow(buffer.length * 2);
  buffer.copy(larger);
  return larger;
};

/** The complete lines of one segment from a byte offset to its committed length, by blocks of a buffer's size. */
async function* blocksOf(dir: string, segment: Segment, from: number): AsyncGenerator<Block> {
  const file = await open(fileOf(dir, segment.n), 'r');
  let buffer = buffers.borrow();
  try {
    // Bytes at the buffer's beginning of a line that goes on in the next read.
    let begun = 0;
    let at = from;
    while (at < segment.length) {
      if (begun === buffer.length) buffer = grown(buffer);
      const most = Math.min(buffer.length - begun, segment.length - at);
      const { bytesRead } = await file.read(buffer, begun, most, at);
      if (bytesRead === 0) return;
      at += bytesRead;
      const filled = begun + bytesRead;
      const cut = buffer.subarray(begun, filled).lastIndexOf(LF) + 1;
      if (cut > 0) yield { bytes: buffer.subarray(0, begun + cut), end: at - bytesRead + cut };
      if (cut > 0) buffer.copyWithin(0, begun + cut, filled);
      begun = cut > 0 ? bytesRead - cut : filled;
    }
  } finally {
    buffers.giveBack(buffer);
    await file.close();
  }
}

/** The lines of a block after `afterSeq`; what is no item of ours is passed over. */
const linesIn = ({ bytes }: Block, afterSeq: number): Line[] => {
  const lines: Line[] = [];
  let at = 0;
  for (let cut = bytes.indexOf(LF); cut >= 0; cut = bytes.indexOf(LF, at)) {
    const line = bytes.subarray(at, cut + 1);
    at = cut + 1;
    const seq = seqOf(line);
    if (seq !== undefined && seq > afterSeq) lines.push({ seq, bytes: line });
  }
  return lines;
};

/** The first line that begins behind an offset: where, and its sequence number. Undefined where there is none. */
const lineBehind = async (
  file: FileHandle,
  buffer: Buffer,
  offset: number,
  end: number,
): Promise<{ at: number; seq: number } | undefined> => {
  for (let from = offset; from < end; from += buffer.length) {
    const { bytesRead } = await file.read(buffer, 0, Math.min(buffer.length, end - from), from);
    const cut = buffer.subarray(0, bytesRead).indexOf(LF);
    if (bytesRead > 0 && cut < 0) continue;
    const at = from + cut + 1;
    const head = await file.read(buffer, 0, Math.min(SEQ_BYTES, end - at), at);
    const seq = seqAtStart(buffer.subarray(0, head.bytesRead));
    return cut < 0 || seq === undefined ? undefined : { at, seq };
  }
  return undefined;
};

/** A line's beginning at or shortly before the first item after `afterSeq`: by halves, for a segment is long. */
const seek = async (dir: string, segment: Segment, afterSeq: number): Promise<number> => {
  const file = await open(fileOf(dir, segment.n), 'r');
  const buffer = buffers.borrow();
  try {
    let low = 0;
    let high = segment.length;
    while (high - low > READ_BYTES) {
      const middle = Math.floor((low + high) / 2);
      const line = await lineBehind(file, buffer, middle, high);
      if (line && line.seq <= afterSeq) low = line.at;
      else high = middle;
    }
    return low;
  } finally {
    buffers.giveBack(buffer);
    await file.close();
  }
};

/** The end of a piece in memory from an offset of its segment, as one block. */
const blockIn = ({ offset, bytes }: Piece, from: number): Block[] => {
  const data = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).subarray(from - offset);
  return data.length > 0 ? [{ bytes: data, end: offset + bytes.byteLength }] : [];
};

/**
 * The lines after `afterSeq`, up to what is committed now, as many at a time as were read in one go; `position` lets
 * the next call go on without a scan, and is behind the lines that are given. `last` is the end of the last segment,
 * which need not be read from its file.
 */
export async function* readLines(
  dir: string,
  segments: readonly Segment[],
  afterSeq: number,
  position: Position,
  last?: Piece,
): AsyncGenerator<Line[]> {
  for (const [i, segment] of segments.entries()) {
    if (segment.n < position.n) continue;
    const next = segments[i + 1];
    if (next && next.firstSeq <= afterSeq + 1) continue;
    const fresh = segment.n !== position.n && afterSeq >= segment.firstSeq;
    const from = fresh ? await seek(dir, segment, afterSeq) : segment.n === position.n ? position.offset : 0;
    position.n = segment.n;
    position.offset = from;
    const isHere = last?.n === segment.n && from >= last.offset;
    for await (const block of isHere ? blockIn(last, from) : blocksOf(dir, segment, from)) {
      position.offset = block.end;
      const lines = linesIn(block, afterSeq);
      if (lines.length > 0) yield lines;
    }
  }
}

/** By piece: a piece in memory is gone through once, however many read it. */
const known = new WeakMap<Piece, Line[]>();

/**
 * The lines of `last` where they are just what comes next at `position`, which is moved behind them; else undefined.
 * This is how everybody reads who is up to date: no file, nothing to wait for.
 */
export const linesHere = (position: Position, last: Piece | undefined): readonly Line[] | undefined => {
  if (!last || position.n !== last.n || position.offset !== last.offset) return undefined;
  position.offset += last.bytes.byteLength;
  const lines = known.get(last) ?? blockIn(last, last.offset).flatMap((block) => linesIn(block, 0));
  known.set(last, lines);
  return lines;
};

/** The same, item by item. */
export async function* readItems(...of: Parameters<typeof readLines>): AsyncGenerator<Item> {
  for await (const lines of readLines(...of)) {
    for (const { bytes } of lines) {
      const item = itemIn(bytes);
      if (item) yield item;
    }
  }
}
