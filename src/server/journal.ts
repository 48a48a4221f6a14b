import {
  closeSync,
  fdatasyncSync,
  fsyncSync,
  ftruncateSync,
  mkdirSync,
  openSync,
  rmSync,
  writeSync,
} from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import { join } from 'node:path';
import type { Item } from '../protocol/calls.ts';

/**
 * A zone's events: append-only JSONL segments. The bytes are written first, and only then are offset and length
 * committed by the store; what lies past the committed length is cut on start, and no reader passes it. So an event
 * is neither lost nor repeated whatever dies (segments and SQLite are not one transaction by themselves).
 *
 * A commit is durable by one sync: either the segment is synced before it, or the store keeps the same bytes with
 * their place in the commit itself, until a later sync of the segment has covered them. After a power cut they are
 * written to that place again.
 */

/** A segment is closed at this size; retention removes whole segments. */
export const SEGMENT_MAX_BYTES = 16 * 1024 * 1024;
const READ_BYTES = 64 * 1024;

export type Segment = { n: number; firstSeq: number; length: number };

const fileOf = (dir: string, n: number): string => join(dir, `${String(n).padStart(6, '0')}.jsonl`);

/** Writes all bytes at an offset: a short write (a full disk answers with one) goes on until it is whole or throws. */
const writeAllAt = (fd: number, bytes: Uint8Array, offset: number): void => {
  let done = 0;
  while (done < bytes.length) done += writeSync(fd, bytes, done, bytes.length - done, offset + done);
};

/** Bytes of a segment and their place in it. */
export type Piece = { n: number; offset: number; bytes: Uint8Array };

export type Appended = {
  /** The last segment as it will be once committed. */
  segment: Segment;
  /** Where the bytes begin in it. */
  offset: number;
  /** All bytes before these are on disk, and with `sync` these too. */
  synced: boolean;
};

export type Appender = {
  /** Appends after the committed end, and syncs where asked. */
  append(bytes: Uint8Array, firstSeq: number, sync: boolean): Appended;
  /** The caller's commit succeeded or failed; after a failure the file is cut back. */
  settle(committed: boolean): void;
  segments(): readonly Segment[];
  drop(n: number): void;
  close(): void;
};

const syncDir = (dir: string): void => {
  const fd = openSync(dir, 'r');
  try {
    fsyncSync(fd);
  } finally {
    closeSync(fd);
  }
};

/** Writes pieces to their places: the same bytes again, but after a power cut. */
const restore = (dir: string, pieces: readonly Piece[]): void => {
  for (const { n, offset, bytes } of pieces) {
    closeSync(openSync(fileOf(dir, n), 'a', 0o600));
    const fd = openSync(fileOf(dir, n), 'r+');
    try {
      writeAllAt(fd, bytes, offset);
    } finally {
      closeSync(fd);
    }
  }
};

/**
 * Opens a zone's journal and cuts its last segment to the committed length. `dir` is made when missing. `kept` are
 * committed bytes of which nobody knows whether the segment's file has them on disk.
 */
export const openAppender = (
  dir: string,
  committed: readonly Segment[],
  kept: readonly Piece[] = [],
): Appender => {
  mkdirSync(dir, { recursive: true, mode: 0o700 });
  restore(dir, kept);
  let segments: Segment[] = [...committed];
  let pending: Segment[] | undefined;
  let fd: number | undefined;

  const openSegment = (segment: Segment): number => {
    const opened = openSync(fileOf(dir, segment.n), 'a+', 0o600);
    closeSync(opened);
    const writable = openSync(fileOf(dir, segment.n), 'r+');
    ftruncateSync(writable, segment.length);
    syncDir(dir);
    return writable;
  };

  const append = (bytes: Uint8Array, firstSeq: number, sync: boolean): Appended => {
    const last = segments.at(-1);
    const fits = last !== undefined && last.length + bytes.length <= SEGMENT_MAX_BYTES;
    const target = fits ? last : { n: (last?.n ?? 0) + 1, firstSeq, length: 0 };
    if (!fits && last) {
      // Nobody opens this one for writing again.
      fd ??= openSegment(last);
      fdatasyncSync(fd);
      closeSync(fd);
      fd = undefined;
    }
    fd ??= openSegment(target);
    writeAllAt(fd, bytes, target.length);
    if (sync) fdatasyncSync(fd);
    const segment = { ...target, length: target.length + bytes.length };
    pending = fits ? [...segments.slice(0, -1), segment] : [...segments, segment];
    return { segment, offset: target.length, synced: sync || !fits };
  };

  const settle = (ok: boolean): void => {
    if (ok && pending) segments = pending;
    if (!ok && fd !== undefined) {
      // Reopening cuts what the failed commit left behind.
      closeSync(fd);
      fd = undefined;
    }
    pending = undefined;
  };

  const drop = (n: number): void => {
    segments = segments.filter((segment) => segment.n !== n);
    rmSync(fileOf(dir, n), { force: true });
  };

  return {
    append,
    settle,
    drop,
    segments: () => segments,
    close: () => {
      if (fd !== undefined) closeSync(fd);
      fd = undefined;
    },
  };
};

type Line = { line: string; end: number };

/** The lines of a piece in memory, from a byte offset in its segment. */
function* linesIn({ offset, bytes }: Piece, from: number): Generator<Line> {
  const data = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  let at = from - offset;
  for (let cut = data.indexOf(10, at); cut >= 0; cut = data.indexOf(10, at)) {
    yield { line: data.toString('utf8', at, cut), end: offset + cut + 1 };
    at = cut + 1;
  }
}

/** The complete lines of one segment from a byte offset to its committed length, in pieces. */
async function* linesOf(dir: string, segment: Segment, from: number): AsyncGenerator<Line> {
  const file = await open(fileOf(dir, segment.n), 'r');
  try {
    // The pieces of a line that goes over several reads: joined once, or a long line would be copied at each.
    let begun: Buffer[] = [];
    let at = from;
    while (at < segment.length) {
      const buffer = Buffer.allocUnsafe(Math.min(READ_BYTES, segment.length - at));
      const { bytesRead } = await file.read(buffer, 0, buffer.length, at);
      if (bytesRead === 0) return;
      at += bytesRead;
      let data = buffer.subarray(0, bytesRead);
      for (let cut = data.indexOf(10); cut >= 0; cut = data.indexOf(10)) {
        const bytes =
          begun.length > 0 ? Buffer.concat([...begun, data.subarray(0, cut)]) : data.subarray(0, cut);
        begun = [];
        yield { line: bytes.toString('utf8'), end: at - (data.length - cut - 1) };
        data = data.subarray(cut + 1);
      }
      if (data.length > 0) begun.push(data);
    }
  } finally {
    await file.close();
  }
}

/** The head of a line as `record` writes it. */
const LINE_HEAD = /^\{"epoch":"[^"]{0,64}","seq":(\d{1,16})[,}]/;
const LINE_HEAD_BYTES = 128;

/** The first line that begins behind an offset: where, and its sequence number. Undefined where there is none. */
const lineBehind = async (
  file: FileHandle,
  offset: number,
  end: number,
): Promise<{ at: number; seq: number } | undefined> => {
  const buffer = Buffer.allocUnsafe(READ_BYTES);
  for (let from = offset; from < end; from += READ_BYTES) {
    const { bytesRead } = await file.read(buffer, 0, Math.min(READ_BYTES, end - from), from);
    const cut = buffer.subarray(0, bytesRead).indexOf(10);
    if (bytesRead > 0 && cut < 0) continue;
    const at = from + cut + 1;
    const head = await file.read(buffer, 0, Math.min(LINE_HEAD_BYTES, end - at), at);
    const seq = LINE_HEAD.exec(buffer.toString('latin1', 0, head.bytesRead))?.[1];
    return cut < 0 || seq === undefined ? undefined : { at, seq: Number(seq) };
  }
  return undefined;
};

/** A line's beginning at or shortly before the first item after `afterSeq`: by halves, for a segment is long. */
const seek = async (dir: string, segment: Segment, afterSeq: number): Promise<number> => {
  const file = await open(fileOf(dir, segment.n), 'r');
  try {
    let low = 0;
    let high = segment.length;
    while (high - low > READ_BYTES) {
      const middle = Math.floor((low + high) / 2);
      const line = await lineBehind(file, middle, high);
      if (line && line.seq <= afterSeq) low = line.at;
      else high = middle;
    }
    return low;
  } finally {
    await file.close();
  }
};

/** Where a reader stands: cheap to keep, one per watcher, so that a stalled one costs nothing to anybody. */
export type Position = { n: number; offset: number };

/**
 * The items after `afterSeq`, up to what is committed now; `position` lets the next call go on without a scan. `last`
 * is the end of the last segment, which need not be read from its file.
 */
export async function* readItems(
  dir: string,
  segments: readonly Segment[],
  afterSeq: number,
  position: Position,
  last?: Piece,
): AsyncGenerator<Item> {
  for (const [i, segment] of segments.entries()) {
    if (segment.n < position.n) continue;
    const next = segments[i + 1];
    if (next && next.firstSeq <= afterSeq + 1) continue;
    const fresh = segment.n !== position.n && afterSeq >= segment.firstSeq;
    const from = fresh ? await seek(dir, segment, afterSeq) : segment.n === position.n ? position.offset : 0;
    position.n = segment.n;
    position.offset = from;
    const isHere = last?.n === segment.n && from >= last.offset;
    for await (const { line, end } of isHere ? linesIn(last, from) : linesOf(dir, segment, from)) {
      position.offset = end;
      const item = parseItem(line);
      if (item && item.seq > afterSeq) yield item;
    }
  }
}

/** We wrote the line and it was committed: only its shape's head is looked at, which keeps a replay cheap. */
const parseItem = (line: string): Item | undefined => {
  try {
    const item = JSON.parse(line) as Item;
    return typeof item.seq === 'number' ? item : undefined;
  } catch {
    return undefined;
  }
};
