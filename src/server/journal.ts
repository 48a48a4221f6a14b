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
import { join } from 'node:path';

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

export type Segment = { n: number; firstSeq: number; length: number };

/** A segment's file. */
export const fileOf = (dir: string, n: number): string => join(dir, `${String(n).padStart(6, '0')}.jsonl`);

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
