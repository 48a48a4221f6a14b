import { once } from 'node:events';
import type { Duplex } from 'node:stream';
import { KhloneError } from '../../protocol/error.ts';
import { COMMAND_MAX_BYTES, shCommand } from '../../provision/remote-shell.ts';

/** A terminal that the host's sshd makes, on a channel of the connection that is there: where the host has no script(1). */

export type PtySpec = {
  argv: readonly string[];
  /** All that the program sees. */
  env: Readonly<Record<string, string>>;
  size: { columns: number; rows: number };
};

export type PtyChannel = {
  /** What is drawn, until the program ended; throws `unreachable` where the connection did. */
  drawn: AsyncIterable<Uint8Array>;
  /** Types bytes, once something was drawn: see the server's own terminals. Resolves when more may be typed. */
  type(bytes: Uint8Array): Promise<void>;
  resize(size: PtySpec['size']): void;
  close(): void;
};

export type OpenPty = (spec: PtySpec) => Promise<PtyChannel>;

/** Of ssh2's channel what is used here. */
export type PtyStream = Duplex & {
  setWindow(rows: number, columns: number, height: number, width: number): void;
};

/** Words that stand in double quotes in every login shell as they are. A home with other letters in its path has none. */
const PLAIN = /^[\w@%+=:,./ ~;-]*$/;

const quoted = (word: string): string => {
  if (PLAIN.test(word)) return `"${word}"`;
  throw new KhloneError(
    'no-pty',
    'the path of tmux on the host has letters that not every login shell reads alike',
  );
};

/** The line for the host's login shell; `before` is said to sh first. Throws `no-pty` where a word cannot be said in all of them. */
export const ptyCommand = ({ argv, env }: Pick<PtySpec, 'argv' | 'env'>, before = ''): string => {
  const named = Object.entries(env).map(([name, value]) => quoted(`${name}=${value}`));
  const script = `${before}exec env -i ${[...named, ...argv.map(quoted)].join(' ')}`;
  if (script.length <= COMMAND_MAX_BYTES) return shCommand(script);
  throw new KhloneError('no-pty', 'the words and paths for a terminal are too long for every login shell');
};

/** Its reader sets the pace: ssh's own window holds what is not read yet. */
export const asPty = (stream: PtyStream): PtyChannel => {
  let ended = false;
  const begun = Promise.withResolvers<void>();
  const closed = once(stream, 'close');
  closed.catch(() => {});
  stream.on('error', () => {});
  stream.once('exit', () => {
    ended = true;
  });
  const drawn = async function* (): AsyncGenerator<Uint8Array> {
    try {
      for await (const piece of stream) {
        begun.resolve();
        yield piece as Buffer;
      }
      await closed;
    } catch {
      // Cut off in the middle: told below.
    }
    if (!ended) throw new KhloneError('unreachable', 'the connection ended', 'khlone reconnect');
  };
  return {
    drawn: drawn(),
    type: async (bytes) => {
      await Promise.race([begun.promise, closed]).catch(() => {});
      if (!stream.writable || stream.write(bytes)) return;
      await Promise.race([once(stream, 'drain'), closed]).catch(() => {});
    },
    resize: ({ columns, rows }) => stream.setWindow(rows, columns, 0, 0),
    close: () => void stream.destroy(),
  };
};
