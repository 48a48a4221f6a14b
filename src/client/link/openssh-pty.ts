import { KhloneError } from '../../protocol/error.ts';
import { type OpenPty, type PtyChannel, type PtySpec, ptyCommand } from './ssh-pty.ts';
import type { RemoteProcess, Spawn } from './ssh-relay.ts';

/**
 * A terminal that the host's sshd makes, over an `ssh -tt` of its own. That ssh has no terminal here whose size it could
 * pass on, so the size is set on the host before the program starts, and another one is had by opening again.
 */

/** What the command ends with where sshd gave no terminal. */
const NO_TERMINAL = 97;
/** A window that is being dragged has many sizes; the last one is opened with. */
const CALM_MS = 300;

const commandOf = ({ argv, env, size }: PtySpec): string => {
  const { columns, rows } = size;
  const before = `[ -t 0 ] || exit ${NO_TERMINAL}; stty rows ${rows} cols ${columns} 2>/dev/null; `;
  return ptyCommand({ argv, env }, before);
};

const anew = (): KhloneError =>
  new KhloneError('unreachable', 'the terminal has another size', 'khlone reconnect');

async function* drawnBy(
  process: RemoteProcess,
  onDrawn: () => void,
  isStale: () => boolean,
): AsyncGenerator<Uint8Array> {
  try {
    for await (const piece of process.stdout) {
      onDrawn();
      yield piece as Buffer;
    }
  } catch {
    // Cut off in the middle: how it ended is told below.
  }
  if (isStale()) throw anew();
  const { code, lost } = await process.ended;
  if (code === NO_TERMINAL) throw new KhloneError('no-pty', 'sshd makes no terminal for this account');
  if (lost) throw new KhloneError('unreachable', 'the connection ended', 'khlone reconnect');
}

/** A process of ssh's as a terminal; one that has no size of its own ends for another one. */
const asChannel = (process: RemoteProcess): PtyChannel => {
  let isStale = false;
  const begun = Promise.withResolvers<void>();
  let timer: NodeJS.Timeout | undefined;
  process.stderr.resume();
  const ended = process.ended.then(() => clearTimeout(timer));
  return {
    drawn: drawnBy(process, begun.resolve, () => isStale),
    type: async (bytes) => {
      const { stdin } = process;
      await Promise.race([begun.promise, ended]);
      if (!stdin.writable || stdin.write(bytes)) return;
      await Promise.race([new Promise((resolve) => stdin.once('drain', resolve)), ended]);
    },
    resize: () => {
      clearTimeout(timer);
      timer = setTimeout(() => {
        isStale = true;
        process.kill();
      }, CALM_MS);
    },
    close: () => {
      clearTimeout(timer);
      process.kill();
    },
  };
};

/** `spawn` runs a command with a terminal, over a login of its own. */
export const ptyOver =
  (spawn: Spawn): OpenPty =>
  async (spec) => {
    const process = await spawn(commandOf(spec));
    if (process) return asChannel(process);
    throw new KhloneError('unreachable', 'the host opens no channel', 'khlone reconnect');
  };
