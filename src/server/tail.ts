import { type FSWatcher, watch } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import { join } from 'node:path';
import { createReadBuffers } from './read-buffers.ts';

/** Reads a growing file by complete lines from a byte offset; what is behind the last line break waits. */

const READ_BYTES = 256 * 1024;
/** Clones that print at the same time without a buffer made for each read. */
const IDLE_BUFFERS = 4;
const buffers = createReadBuffers(READ_BYTES, IDLE_BUFFERS);
/** A longer line is passed over as one unknown line: no brain writes such, and memory stays bounded. */
export const OUT_LINE_MAX_BYTES = 16 * 1024 * 1024;
/** A watcher is only a hint: some file systems lose its events, so the file is looked at this often while a turn runs. */
const POLL_MS = 1000;

export type Lines = { lines: string[]; end: number };

export type Tail = {
  /** The complete lines that are there now (at most ~256 KiB of them), or undefined. */
  read(): Promise<Lines | undefined>;
  /** What is left behind the last line break once the writer is gone. */
  rest(): Promise<Lines | undefined>;
  /** Resolves at the next change of the directory, after the poll interval, or when `signal` aborts. */
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

export const openTail = async (dir: string, name: string, from: number): Promise<Tail> => {
  const file: FileHandle = await open(join(dir, name), 'r');
  let offset = from;
  let wake: (() => void) | undefined;
  let dirty = true;
  const watcher = watchOrPoll(dir, () => {
    dirty = true;
    wake?.();
  });

  /** Reads on from the offset; what `use` is given does not hold behind it. */
  const readOn = async <T>(most: number, use: (data: Buffer) => T): Promise<T> => {
    const buffer = most === READ_BYTES ? buffers.borrow() : Buffer.allocUnsafeSlow(most);
    try {
      const { bytesRead } = await file.read(buffer, 0, most, offset);
      return use(buffer.subarray(0, bytesRead));
    } finally {
      buffers.giveBack(buffer);
    }
  };

  /** The lines in what was read, `more` where none ends in it, or undefined where none ends yet. */
  const linesIn = (data: Buffer, size: number): Lines | 'more' | undefined => {
    const last = data.lastIndexOf(10);
    if (last < 0 && data.length < size) return undefined;
    if (last < 0 && size < OUT_LINE_MAX_BYTES) return 'more';
    offset += last < 0 ? data.length : last + 1;
    return { lines: last < 0 ? [''] : data.toString('utf8', 0, last).split('\n'), end: offset };
  };

  const read = async (): Promise<Lines | undefined> => {
    for (let size = READ_BYTES; ; size *= 4) {
      const found = await readOn(size, (data) => linesIn(data, size));
      if (found !== 'more') return found;
    }
  };

  const rest = (): Promise<Lines | undefined> =>
    readOn(READ_BYTES, (data) => {
      if (data.length === 0) return undefined;
      offset += data.length;
      return { lines: [data.toString('utf8')], end: offset };
    });

  const changed = (signal: AbortSignal): Promise<void> => {
    if (dirty || signal.aborted) {
      dirty = false;
      return Promise.resolve();
    }
    return new Promise((resolve) => {
      const done = (): void => {
        clearTimeout(timer);
        signal.removeEventListener('abort', done);
        wake = undefined;
        dirty = false;
        resolve();
      };
      const timer = setTimeout(done, POLL_MS);
      signal.addEventListener('abort', done, { once: true });
      wake = done;
    });
  };

  return {
    read,
    rest,
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
