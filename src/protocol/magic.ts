import { randomBytes } from 'node:crypto';

/**
 * The magic line: what a remote prints before the framed protocol starts. Login shells print noise of their own
 * (motd, rc files), so everything before the line that carries our random nonce is skipped.
 *
 *     khlone-wire/1 <nonce>\n            the relay is connected, frames follow
 *     khlone-wire/1 <nonce> absent\n     this version is not installed here
 *     khlone-wire/1 -\n                  a relay that was given no nonce; no client accepts it
 */
export const WIRE_MAGIC = 'khlone-wire/1';

/** How many bytes of noise may come before the magic line. */
export const NOISE_MAX_BYTES = 65_536;

const WORD_MAX_BYTES = 32;

/** A fresh nonce: 128 random bits in hex, so noise cannot contain it by chance or by replay. */
export const newNonce = (): string => randomBytes(16).toString('hex');

/** The line a relay writes first. `word` is empty for "frames follow". */
export const magicLine = (nonce: string | undefined, word = ''): string =>
  `${WIRE_MAGIC} ${nonce ?? '-'}${word === '' ? '' : ` ${word}`}\n`;

/**
 * The nonce a relay was asked for: the word after `relay` in its arguments, or, when sshd replaced the command by a
 * forced one, in the command the client had asked for (SSH_ORIGINAL_COMMAND).
 */
export const askedNonce = (
  argv: readonly string[],
  originalCommand: string | undefined,
): string | undefined => {
  const word = argv[argv.indexOf('relay') + 1];
  if (argv.includes('relay') && word !== undefined && /^[0-9a-f]{32}$/.test(word)) return word;
  return originalCommand?.match(/\brelay ([0-9a-f]{32})\b/)?.[1];
};

export type MagicScan =
  | { readonly kind: 'found'; readonly word: string; readonly noise: Buffer; readonly rest: Buffer }
  | { readonly kind: 'too-noisy'; readonly noise: Buffer };

export type MagicScanner = {
  /** The verdict once there is one; undefined while more bytes are needed. Not called again after a verdict. */
  push(chunk: Uint8Array): MagicScan | undefined;
  /** What came so far without a magic line. */
  noise(): Buffer;
};

/** Looks for the magic line with exactly `nonce` in a byte stream cut into chunks of any size. Never throws. */
export const createMagicScanner = (nonce: string): MagicScanner => {
  const token = Buffer.from(`${WIRE_MAGIC} ${nonce}`);
  let held: Buffer = Buffer.alloc(0);

  const verdict = (): MagicScan | undefined => {
    for (let at = held.indexOf(token); at !== -1; at = held.indexOf(token, at + 1)) {
      if (at > NOISE_MAX_BYTES) break;
      const from = at + token.length;
      const end = held.indexOf(10, from);
      if (end === -1 && held.length - from <= WORD_MAX_BYTES) return undefined;
      const tail = end === -1 ? '?' : held.toString('latin1', from, end);
      if (!/^(?: [a-z-]{1,31})?$/.test(tail)) continue;
      return {
        kind: 'found',
        word: tail.slice(1),
        noise: held.subarray(0, at),
        rest: held.subarray(end + 1),
      };
    }
    // A token that starts inside the bound may still be incomplete, so its whole line is waited for.
    const full = held.length > NOISE_MAX_BYTES + token.length + WORD_MAX_BYTES;
    return full ? { kind: 'too-noisy', noise: held.subarray(0, NOISE_MAX_BYTES) } : undefined;
  };

  return {
    push: (chunk) => {
      held = Buffer.concat([held, chunk]);
      return verdict();
    },
    noise: () => held,
  };
};
