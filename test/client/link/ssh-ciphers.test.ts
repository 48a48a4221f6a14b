import { createCipheriv, type createDecipheriv, randomBytes } from 'node:crypto';
import { setImmediate as turn } from 'node:timers/promises';
import { expect, test } from 'vitest';
import * as ahead from '../../../src/client/link/ssh-ciphers.ts';

const NAME = 'aes-128-gcm';

/** As ssh2 counts: in place, the last eight bytes. */
const count = (iv: Buffer): void => {
  for (let at = 11; at >= 4; at -= 1) {
    iv[at] = (iv[at] ?? 0) + 1;
    if (iv[at] !== 0) return;
  }
};

const seal = (make: typeof createCipheriv, key: Buffer, iv: Buffer, text: string): string => {
  const cipher = make(NAME, key, iv) as ReturnType<typeof createCipheriv> & { getAuthTag(): Buffer };
  return Buffer.concat([cipher.update(text), cipher.final(), cipher.getAuthTag()]).toString('hex');
};

const open = (key: Buffer, iv: Buffer, sealed: string): string => {
  const bytes = Buffer.from(sealed, 'hex');
  const decipher = ahead.createDecipheriv(NAME, key, iv) as ReturnType<typeof createDecipheriv> & {
    setAuthTag(tag: Buffer): void;
  };
  decipher.setAuthTag(bytes.subarray(-16));
  return Buffer.concat([decipher.update(bytes.subarray(0, -16)), decipher.final()]).toString();
};

test('each packet is sealed and opened as with an object made for it, after pauses and without', async () => {
  const [key, iv] = [randomBytes(16), randomBytes(12)];
  // The counter runs over within these packets.
  iv.fill(0xff, 5, 11);
  iv[11] = 0xf8;
  const theirs = Buffer.from(iv);
  for (let packet = 0; packet < 40; packet += 1) {
    const text = `packet ${packet}`;
    const sealed = seal(ahead.createCipheriv as typeof createCipheriv, key, iv, text);
    expect(sealed).toBe(seal(createCipheriv, key, iv, text));
    expect(open(key, theirs, sealed)).toBe(text);
    count(iv);
    count(theirs);
    for (let turns = packet % 4; turns > 0; turns -= 1) await turn();
  }
});

test('another counter or key than the one made ready for gets an object of its own', async () => {
  const [key, iv] = [randomBytes(16), randomBytes(12)];
  seal(ahead.createCipheriv as typeof createCipheriv, key, iv, 'first');
  for (let turns = 0; turns < 3; turns += 1) await turn();
  const far = randomBytes(12);
  for (const [k, v] of [
    [key, far],
    [key, iv],
    [Buffer.from(key), iv],
    [randomBytes(16), iv],
  ] as const)
    expect(seal(ahead.createCipheriv as typeof createCipheriv, k, v, 'text')).toBe(
      seal(createCipheriv, k, v, 'text'),
    );
});

test('random bytes fill their place and nothing else, and none comes twice', () => {
  const seen = new Set<string>();
  for (let n = 0; n < 2_000; n += 1) {
    const into = Buffer.alloc(40);
    ahead.randomFillSync(into, 12, 16);
    expect([...into.subarray(0, 12), ...into.subarray(28)].every((byte) => byte === 0)).toBe(true);
    seen.add(into.subarray(12, 28).toString('hex'));
  }
  expect(seen.size).toBe(2_000);
  const large = ahead.randomFillSync(Buffer.alloc(600), 100, 500);
  expect(large.subarray(0, 100).every((byte) => byte === 0)).toBe(true);
  expect(new Set(large.subarray(100)).size).toBeGreaterThan(100);
});
