import { once } from 'node:events';
import { createAnswerFilter } from '../../protocol/answers.ts';
import { KhloneError } from '../../protocol/error.ts';
import {
  KEYS_MAX_BYTES,
  keysWord,
  sizeWord,
  TAKEN_STEP_BYTES,
  takenWord,
  WINDOW_BYTES,
} from '../../protocol/pty-proxy.ts';
import { type PtyChannel, ptyCommand } from './ssh-pty.ts';
import { awaitMagic, type RemoteProcess, type Spawn } from './ssh-relay.ts';

/**
 * A terminal that a program of the server's makes at the far end of a channel of its own: between a key and tmux stand
 * only sshd and that program, and no relay, server or script(1).
 */

export type ProxySpec = {
  argv: readonly string[];
  env: Readonly<Record<string, string>>;
  /** What the program says first. */
  nonce: string;
};

/**
 * How long the login shell and the program may take. Each terminal would wait for a slow rc file anew, where the
 * server's own terminals are there after a round trip.
 */
const BEGIN_WITHIN_MS = 2_000;

const lost = (): KhloneError => new KhloneError('unreachable', 'the connection ended', 'khlone reconnect');

/** More than this unread, whatever the host says that it keeps to, and nothing further is read. */
const MAX_UNREAD_BYTES = 2 * WINDOW_BYTES;

const asChannel = (process: RemoteProcess): PtyChannel => {
  const { stdin, stdout } = process;
  const begun = Promise.withResolvers<void>();
  const answers = createAnswerFilter();
  const unread: Buffer[] = [];
  let unreadBytes = 0;
  let hasBegun = false;
  let isOver = false;
  const closed = Promise.withResolvers<undefined>();
  let wake = (): void => {};
  const end = (): void => {
    isOver = true;
    wake();
  };
  stdin.on('error', () => {});
  for (const name of ['end', 'close', 'error']) stdout.on(name, end);
  stdout.on('data', (piece: Buffer) => {
    unread.push(piece);
    unreadBytes += piece.length;
    if (unreadBytes > MAX_UNREAD_BYTES) stdout.pause();
    wake();
  });
  stdout.resume();

  const send = (word: Buffer): boolean => !stdin.writable || stdin.write(word);
  /** Its reader sets the pace: the program draws no more than a window ahead of what was told as taken. */
  async function* drawn(): AsyncGenerator<Uint8Array> {
    let untoldBytes = 0;
    while (true) {
      const piece = unread.shift();
      if (piece) {
        hasBegun = true;
        begun.resolve();
        yield piece;
        unreadBytes -= piece.length;
        untoldBytes += piece.length;
        if (stdout.isPaused()) stdout.resume();
        if (untoldBytes < TAKEN_STEP_BYTES) continue;
        send(takenWord(untoldBytes));
        untoldBytes = 0;
      } else if (isOver) break;
      else
        await new Promise<void>((resolve) => {
          wake = resolve;
        });
    }
    // Only the end of the tmux client is an end; the program itself may have been told to go, or killed. A channel's own
    // end never comes over a dead line.
    const ended = await Promise.race([closed.promise, process.ended]);
    if (ended?.code !== 0) throw lost();
  }

  return {
    drawn: drawn(),
    type: async (bytes) => {
      if (!hasBegun) await Promise.race([begun.promise, process.ended]);
      for (let at = 0; at < bytes.byteLength; at += KEYS_MAX_BYTES) {
        const piece = bytes.subarray(at, at + KEYS_MAX_BYTES);
        if (send(keysWord(piece.byteLength, answers(piece)))) continue;
        await Promise.race([once(stdin, 'drain'), process.ended]).catch(() => {});
      }
    },
    resize: (size) => void send(sizeWord(size)),
    close: () => {
      closed.resolve(undefined);
      end();
      process.kill();
    },
  };
};

/** Throws `no-pty` where the host opens no further channel, or the program does not run there. */
export const openProxied = async (spawn: Spawn, { argv, env, nonce }: ProxySpec): Promise<PtyChannel> => {
  const process = await spawn(ptyCommand({ argv, env }));
  if (!process) throw new KhloneError('no-pty', 'the host opens no further channel');
  process.stderr.on('error', () => {}).resume();
  const opening = await awaitMagic(process, nonce, BEGIN_WITHIN_MS);
  if (opening.kind === 'found') return asChannel(process);
  process.kill();
  if (opening.kind === 'ended' && opening.lost) throw lost();
  throw new KhloneError('no-pty', 'the program that makes terminals does not run there');
};
