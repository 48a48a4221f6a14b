import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  askedNonce,
  createMagicScanner,
  type MagicScan,
  magicLine,
  NOISE_MAX_BYTES,
  newNonce,
} from '../../src/protocol/magic.ts';

/** Feeds `bytes` cut at the given places and gives the verdict with all bytes after it. */
const scanIn = (
  bytes: Buffer,
  cuts: readonly number[],
  nonce: string,
): (MagicScan & { rest?: Buffer }) | undefined => {
  const scanner = createMagicScanner(nonce);
  const places = [...new Set([0, ...cuts.map((cut) => cut % (bytes.length + 1)), bytes.length])].sort(
    (a, b) => a - b,
  );
  for (const [at, place] of places.entries()) {
    const end = places[at + 1];
    if (end === undefined) break;
    const verdict = scanner.push(bytes.subarray(place, end));
    if (verdict?.kind === 'found')
      return { ...verdict, rest: Buffer.concat([verdict.rest, bytes.subarray(end)]) };
    if (verdict) return verdict;
  }
  return undefined;
};

describe('the magic line', () => {
  const nonce = newNonce();

  it('is found behind any noise, however the bytes are cut, and gives back every byte after it', () => {
    fc.assert(
      fc.property(
        fc.uint8Array({ maxLength: 2000, size: 'max' }),
        fc.uint8Array({ maxLength: 2000, size: 'max' }),
        fc.array(fc.nat(), { maxLength: 20 }),
        fc.constantFrom('', 'absent'),
        (noise, after, cuts, word) => {
          const bytes = Buffer.concat([noise, Buffer.from(magicLine(nonce, word)), after]);
          const verdict = scanIn(bytes, cuts, nonce);
          expect(verdict?.kind).toBe('found');
          if (verdict?.kind !== 'found') return;
          expect(verdict.word).toBe(word);
          expect(Buffer.compare(verdict.noise, noise)).toBe(0);
          expect(Buffer.compare(verdict.rest, after)).toBe(0);
        },
      ),
    );
  });

  it('is not found in noise that only looks like it', () => {
    const fakes = [
      magicLine(undefined),
      magicLine(newNonce()),
      `khlone-wire/1 ${nonce}0\n`,
      `khlone-wire/1 ${nonce} ABSENT\n`,
    ];
    const found = scanIn(Buffer.from(`${fakes.join('')}${magicLine(nonce)}x`), [], nonce);
    expect(found).toMatchObject({ kind: 'found', noise: Buffer.from(fakes.join('')) });
    expect(scanIn(Buffer.from(fakes.join('')), [], nonce)).toBeUndefined();
  });

  it('may begin at the last byte of the bound and no later', () => {
    fc.assert(
      fc.property(fc.array(fc.nat(), { maxLength: 5 }), (cuts) => {
        const last = Buffer.concat([Buffer.alloc(NOISE_MAX_BYTES, 'n'), Buffer.from(magicLine(nonce))]);
        expect(scanIn(last, cuts, nonce)?.kind).toBe('found');
        const late = Buffer.concat([Buffer.alloc(NOISE_MAX_BYTES + 1, 'n'), Buffer.from(magicLine(nonce))]);
        expect(scanIn(late, cuts, nonce)?.kind).not.toBe('found');
        expect(scanIn(Buffer.concat([late, Buffer.alloc(200)]), cuts, nonce)?.kind).toBe('too-noisy');
      }),
    );
  });

  it('carries the nonce of the arguments, or of the command that a forced one replaced', () => {
    expect(askedNonce(['relay', nonce], undefined)).toBe(nonce);
    expect(askedNonce(['relay'], `exec sh -c 'exec "$d/node" relay ${nonce}; fi'`)).toBe(nonce);
    expect(askedNonce(['relay', 'not hex'], undefined)).toBeUndefined();
    expect(askedNonce(['serve', nonce], undefined)).toBeUndefined();
    expect(magicLine(askedNonce(['relay'], 'scp -t x'))).toBe('khlone-wire/1 -\n');
  });
});
