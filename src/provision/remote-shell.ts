import type { Readable } from 'node:stream';
import { KhloneError } from '../protocol/error.ts';
import { WIRE_MAGIC } from '../protocol/magic.ts';

export type ExecResult = {
  /** Exit code; null when a signal ended it or the channel closed without a status. */
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
};

/**
 * Runs one POSIX sh script on the host and gives its output without the noise of rc files. Rejects with `unreachable`
 * when the connection ends, with `remote-setup` when the host does not run what it is asked.
 */
export type Exec = (script: string, stdin?: Readable | Buffer) => Promise<ExecResult>;

/** Where khlone keeps its server builds on a host, in sh. */
export const VERSIONS = '"$' + '{KHLONE_HOME:-$HOME/.khlone}"/server/versions';

/** The longest command line sent to a login shell, in bytes; old csh limits lie above it. */
export const COMMAND_MAX_BYTES = 3000;

/**
 * The command line for a login shell we do not know: one word in single quotes, which bash, zsh, dash, fish and tcsh
 * read alike as long as it has no quote, no backslash (fish), no `!` and no newline (tcsh), and is ASCII.
 */
export const shCommand = (script: string): string => {
  if (!/^[ -~]+$/.test(script) || /['!\\]/.test(script) || script.length > COMMAND_MAX_BYTES)
    throw new KhloneError('internal', 'a script for the host cannot be quoted for every login shell');
  return `exec sh -c '${script}'`;
};

// The magic word stands in quotes of its own, so that a shell that echoes its input cannot fake the line.
const sayMagic = (nonce: string, word: string) =>
  `echo "${WIRE_MAGIC}" ${nonce}${word === '' ? '' : ` ${word}`}`;

/** A script whose output begins behind a magic line of its own. */
export const markedCommand = (script: string, nonce: string): string =>
  shCommand(`${sayMagic(nonce, '')}; ${script}`);

/**
 * Starts the relay of one installed build: no probe before it, so a warm host costs one round trip. Where the build is
 * absent it says so and runs `otherwise`, so that a cold host needs no login more for the first look around.
 */
export const relayCommand = (build: string, nonce: string, otherwise = ''): string =>
  shCommand(
    `d=${VERSIONS}/${build}; if [ -x "$d/node" ] && [ -f "$d/khlone-server.mjs" ]; ` +
      `then r="$d/relay.cjs"; [ -f "$r" ] || r="$d/khlone-server.mjs"; exec "$d/node" "$r" relay ${nonce}; fi; ` +
      sayMagic(nonce, 'absent') +
      (otherwise === '' ? '' : `; ${otherwise}`),
  );

/** Text of a stranger as one harmless line: control characters neutralised, the last `maxChars` characters kept. */
export const oneLine = (text: string | Uint8Array, maxChars = 300): string => {
  const words = typeof text === 'string' ? text : Buffer.from(text).toString('utf8');
  const plain = words
    .replace(/\x1b\[[0-9;?]*[ -/]*[@-~]/g, '')
    .replace(/[\s\u2028\u2029]+/g, ' ')
    .replace(/[\u0000-\u001f\u007f-\u009f\u200e\u200f\u202a-\u202e\u2066-\u2069]/g, '?')
    .trim();
  return plain.length > maxChars ? `…${plain.slice(-maxChars)}` : plain;
};
