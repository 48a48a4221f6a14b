import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { open, rm } from 'node:fs/promises';
import { KhloneError } from '../protocol/error.ts';
import type { Envelope } from '../protocol/patch.ts';

/** What is in an envelope, on its way: a patch in memory, a bundle in a file. */

/** A patch above this is never the smaller form. */
export const MAX_PATCH_BYTES = 4 * 1024 * 1024;
/** What a zone sends in one piece: more travels as first code does. */
export const MAX_PAYLOAD_BYTES = 8 * 2 ** 30;

export async function* readOnce(file: string): AsyncGenerator<Uint8Array> {
  try {
    yield* createReadStream(file);
  } finally {
    await rm(file, { force: true });
  }
}

export async function* inOnePiece(bytes: Buffer): AsyncGenerator<Uint8Array> {
  yield bytes;
}

/** The same, which ends only then: until it does, whoever receives it changes nothing. */
export async function* untilReady(
  ready: Promise<unknown>,
  payload: AsyncIterable<Uint8Array>,
): AsyncGenerator<Uint8Array> {
  yield* payload;
  await ready;
}

export const broken = (why: string): KhloneError =>
  new KhloneError('conflict', `a patch that came over the link is broken: ${why}`, 'try again');

type Reader = {
  take(piece: Uint8Array): unknown;
  /** All of it is here. The sender may not have ended it yet. */
  whole?(): Promise<void>;
};

/** Hands on what arrives piece by piece; it must be exactly what the envelope says. */
const receive = async (
  { bytes, sha256 }: Envelope,
  body: AsyncIterable<Uint8Array>,
  { take, whole }: Reader,
): Promise<void> => {
  const hash = createHash('sha256');
  let seen = 0;
  let isProved = false;
  const prove = async (): Promise<void> => {
    if (isProved) return;
    isProved = true;
    if (hash.digest('hex') !== sha256) throw broken('its bytes are not the ones that were sent');
    await whole?.();
  };
  for await (const piece of body) {
    seen += piece.length;
    if (seen > bytes) throw broken('it is longer than announced');
    if (isProved) continue;
    hash.update(piece);
    await take(piece);
    if (seen === bytes) await prove();
  }
  if (seen !== bytes) throw broken('it is shorter than announced');
  await prove();
};

/** Hands on a patch as soon as all of it is here, and ends with its sender. */
export const receivePatch = (
  envelope: Envelope,
  body: AsyncIterable<Uint8Array>,
  use: (patch: Buffer) => Promise<void>,
): Promise<void> => {
  if (envelope.bytes > MAX_PATCH_BYTES) return Promise.reject(broken('it is too large'));
  const pieces: Uint8Array[] = [];
  return receive(envelope, body, {
    take: (piece) => pieces.push(Uint8Array.from(piece)),
    whole: () => use(Buffer.concat(pieces)),
  });
};

export const receiveBundle = async (
  envelope: Envelope,
  body: AsyncIterable<Uint8Array>,
  file: string,
): Promise<void> => {
  if (envelope.bytes > MAX_PAYLOAD_BYTES) throw broken('it is too large');
  const out = await open(file, 'w', 0o600);
  try {
    await receive(envelope, body, { take: (piece) => out.appendFile(piece) });
  } finally {
    await out.close();
  }
};
