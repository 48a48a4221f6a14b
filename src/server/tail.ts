import { type FSWatcher, readSync, watch } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import { join } from 'node:path';
import { createBeat } from './beat.ts';
import { flooded } from './give-way.ts';
import { createReadBuffers } from './read-buffers.ts';
import { bytesPassed, LARGE_BYTES, largePassed } from './tidy.ts';

/** Reads a growing file by complete lines from a byte offset; what is behind the last line break waits. */

const READ_BYTES = 256 * 1024;
/** Clones that print at the same time without a buffer made for each read. */
const IDLE_BUFFERS = 4;
const buffers = createReadBuffers(READ_BYTES, IDLE_BUFFERS);
/**
 * Less than this is read at once: it was written a moment ago, so it lies in memory, and a thread that fetches it costs
 * ten times as much as it does.
 */
const glimpse = Buffer.allocUnsafeSlow(16 * 1024);
/** A longer line is passed over as one unknown line: no brain writes such, and memory stays bounded. */
export const OUT_LINE_MAX_BYTES = 16 * 1024 * 1024;
/** A watcher is only a hint: some file systems lose its events, so the file is looked at this often while a turn runs. */
const POLL_MS = 1000;

/**
 * Many clones that print at once are read in beats, all together. One that was silent for a while is read at once, and
 * so is what a few say now and then.
 */
const BEAT_MS = 40;
const FREE_READS = 8;
const SILENCE_MS = 500;
const beat = createBeat(FREE_READS, BEAT_MS);

const LF = 10;

export type Lines = { lines: string[]; end: number };

export type Tail = {
  /** The complete lines that are there now (at most ~256 KiB of them), or undefined. */
  read(): Promise<Lines | undefined>;
  /** What is left behind the last line break once the writer is gone. */
  rest(): Promise<Lines | undefined>;
  /** Resolves at the next change of the directory or the beat behind it, after the poll interval, or at an abort. */
  changed(signal: AbortSignal): Promise<void>;
  close(): Promise<void>;
};

/** A machine has only so many watches: without one the file is looked at by the clock alone. */
const watchOrPoll = (dir: string, onChange: () => void): FSWatcher | undefined => {
  try {
    return watch(dir, { persistent: false }, onChange).on('error', () => {});
  } catch {
    return undefined;
  }
};

/** Reads on from a byte offset, one read at a time. */
const createReads = (file: FileHandle, from: number): Pick<Tail, 'read' | 'rest'> => {
  let offset = from;
  let wasFull = false;

  /** Reads `most` bytes from a place; what `use` is given does not hold behind it. */
  const readAt = async <T>(at: number, most: number, use: (data: Buffer) => T): Promise<T> => {
    const buffer = most === READ_BYTES ? buffers.borrow() : Buffer.allocUnsafeSlow(most);
    try {
      const { bytesRead } = await file.read(buffer, 0, most, at);
      return use(buffer.subarray(0, bytesRead));
    } finally {
      buffers.giveBack(buffer);
    }
  };

  /** The lines of what was read at the offset up to its last line break, if there is one. */
  const take = (data: Buffer): Lines | undefined => {
    const last = data.lastIndexOf(LF);
    if (last < 0) return undefined;
    offset += last + 1;
    bytesPassed(last);
    return { lines: data.toString('utf8', 0, last).split('\n'), end: offset };
  };

  /** How many bytes a line has that is longer than one read; undefined while it has no end, or is over the bound. */
  const longLine = async (): Promise<{ bytes: number; isOver: boolean } | undefined> => {
    for (let bytes = READ_BYTES; bytes < OUT_LINE_MAX_BYTES; bytes += READ_BYTES) {
      const [cut, length] = await readAt(offset + bytes, READ_BYTES, (data) => [
        data.indexOf(LF),
        data.length,
      ]);
      if (cut >= 0) return { bytes: bytes + cut + 1, isOver: false };
      if (length < READ_BYTES) return undefined;
    }
    return { bytes: OUT_LINE_MAX_BYTES, isOver: true };
  };

  const readLong = async (): Promise<Lines | undefined> => {
    const line = await longLine();
    if (!line) return undefined;
    if (line.bytes >= LARGE_BYTES) largePassed();
    if (!line.isOver) return readAt(offset, line.bytes, take);
    offset += line.bytes;
    return { lines: [''], end: offset };
  };

  const read = async (): Promise<Lines | undefined> => {
    const seen = readSync(file.fd, glimpse, 0, glimpse.length, offset);
    if (seen < glimpse.length) {
      wasFull = false;
      return take(glimpse.subarray(0, seen));
    }
    const [lines, isFull] = await readAt(offset, READ_BYTES, (data) => [
      take(data),
      data.length === READ_BYTES,
    ]);
    if (isFull && wasFull && lines) flooded(READ_BYTES);
    wasFull = isFull;
    return lines ?? (isFull ? readLong() : undefined);
  };

  const rest = (): Promise<Lines | undefined> =>
    readAt(offset, READ_BYTES, (data) => {
      if (data.length === 0) return undefined;
      offset += data.length;
      return { lines: [data.toString('utf8')], end: offset };
    });
  return { read, rest };
};

/** Resolves when what `begin` was given is called, after `mostMs`, or when `signal` aborts. */
const waitFor = (signal: AbortSignal, mostMs: number, begin: (done: () => void) => void): Promise<void> =>
  new Promise((resolve) => {
    if (signal.aborted) return resolve();
    const done = (): void => {
      clearTimeout(timer);
      signal.removeEventListener('abort', done);
      resolve();
    };
    const timer = setTimeout(done, mostMs);
    signal.addEventListener('abort', done, { once: true });
    begin(done);
  });

export const openTail = async (dir: string, name: string, from: number): Promise<Tail> => {
  const file: FileHandle = await open(join(dir, name), 'r');
  let wake: (() => void) | undefined;
  let dirty = true;
  let readMs = Number.NEGATIVE_INFINITY;
  const watcher = watchOrPoll(dir, () => {
    dirty = true;
    wake?.();
  });

  const changed = async (signal: AbortSignal): Promise<void> => {
    if (!dirty)
      await waitFor(signal, POLL_MS, (done) => {
        wake = done;
      });
    wake = undefined;
    if (!dirty) return;
    const wasSilent = performance.now() - readMs > SILENCE_MS;
    const next = wasSilent ? undefined : beat.wait();
    if (next) await waitFor(signal, 2 * BEAT_MS, (done) => void next.then(done));
    readMs = performance.now();
    dirty = false;
  };

  return {
    ...createReads(file, from),
    changed,
    close: async () => {
      watcher?.close();
      await file.close();
    },
  };
};

/** Where the complete lines end that are there now. */
export const endOfLines = async (dir: string, name: string, from: number): Promise<number> => {
  const tail = await openTail(dir, name, from);
  let end = from;
  try {
    for (let chunk = await tail.read(); chunk; chunk = await tail.read()) end = chunk.end;
  } finally {
    await tail.close();
  }
  return end;
};
