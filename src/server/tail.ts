import { type FSWatcher, watch } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import { join } from 'node:path';

/** Reads a growing file by complete lines from a byte offset; what is behind the last line break waits. */

const READ_BYTES = 256 * 1024;
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

  const readAt = async (at: number, most: number): Promise<Buffer> => {
    const buffer = Buffer.allocUnsafe(most);
    const { bytesRead } = await file.read(buffer, 0, most, at);
    return buffer.subarray(0, bytesRead);
  };

  const read = async (): Promise<Lines | undefined> => {
    let size = READ_BYTES;
    for (;;) {
      const data = await readAt(offset, size);
      const last = data.lastIndexOf(10);
      if (last >= 0) {
        const lines = data.toString('utf8', 0, last).split('\n');
        offset += last + 1;
        return { lines, end: offset };
      }
      if (data.length < size) return undefined;
      if (size >= OUT_LINE_MAX_BYTES) {
        offset += data.length;
        return { lines: [''], end: offset };
      }
      size *= 4;
    }
  };

  const rest = async (): Promise<Lines | undefined> => {
    const data = await readAt(offset, READ_BYTES);
    if (data.length === 0) return undefined;
    offset += data.length;
    return { lines: [data.toString('utf8')], end: offset };
  };

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
