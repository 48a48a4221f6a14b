import { closeSync, openSync, readSync } from 'node:fs';

const NONCE_BYTES = 16;

/**
 * A name for one command that no other has: 32 hexadecimal digits from the kernel itself. To load node:crypto for them
 * takes an eighth of what Node takes to start.
 */
export const mintNonce = (): string => {
  const bytes = Buffer.alloc(NONCE_BYTES);
  const file = openSync('/dev/urandom', 'r');
  try {
    readSync(file, bytes);
  } finally {
    closeSync(file);
  }
  return bytes.toString('hex');
};
