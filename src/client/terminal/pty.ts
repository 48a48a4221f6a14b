import type { IPty } from 'node-pty';
import type { Size } from './here.ts';

/**
 * A local program at a terminal of ours, so that its keys can be filtered. The one place that knows node-pty, which is
 * optional: where it is missing or does not load, the server makes the terminal.
 */

export type Pty = {
  /** What it draws, until it ended. */
  output: AsyncIterable<Uint8Array>;
  write(bytes: Uint8Array): void;
  resize(size: Size): void;
  /** Hangs up, as a closed window does. */
  hangUp(): void;
};

export type PtySpec = { argv: readonly string[]; env: Record<string, string>; size: Size };
export type SpawnPty = (spec: PtySpec) => Pty;

/** Bytes that may wait to be drawn; beyond it the program waits. */
const WAITING_MAX_BYTES = 256 * 1024;

/** The program's output at the reader's pace. */
const readOut = async function* (program: IPty): AsyncGenerator<Uint8Array> {
  const waiting: Buffer[] = [];
  let waitingBytes = 0;
  let over = false;
  let wake = (): void => {};
  // Without an encoding the pieces are bytes, whatever the types say.
  program.onData((data) => {
    const piece = data as unknown as Buffer;
    waiting.push(piece);
    waitingBytes += piece.length;
    if (waitingBytes > WAITING_MAX_BYTES) program.pause();
    wake();
  });
  program.onExit(() => {
    over = true;
    wake();
  });
  for (;;) {
    const piece = waiting.shift();
    if (piece) {
      waitingBytes -= piece.length;
      if (waitingBytes === 0) program.resume();
      yield piece;
    } else if (over) return;
    else {
      await new Promise<void>((resolve) => {
        wake = resolve;
      });
    }
  }
};

/** Undefined where node-pty is not installed, or has no binary for this machine. */
export const loadPty = async (): Promise<SpawnPty | undefined> => {
  const nodePty = await import('node-pty').catch(() => undefined);
  if (!nodePty) return undefined;
  return ({ argv: [program = '', ...args], env, size }) => {
    const made = nodePty.spawn(program, args, {
      ...{ env, cwd: '/', cols: size.columns, rows: size.rows },
      ...{ name: env.TERM ?? 'xterm', encoding: null },
    });
    const quietly = (work: () => void): void => {
      try {
        work();
      } catch {
        // It ended in between.
      }
    };
    return {
      output: readOut(made),
      write: (bytes) => quietly(() => made.write(Buffer.from(bytes))),
      resize: ({ columns, rows }) => quietly(() => made.resize(columns, rows)),
      hangUp: () => quietly(() => made.kill()),
    };
  };
};
