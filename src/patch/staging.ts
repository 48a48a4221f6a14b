import { createHash } from 'node:crypto';
import { type FileHandle, open, symlink } from 'node:fs/promises';
import { allOf } from '../protocol/all-of.ts';
import { KhloneError } from '../protocol/error.ts';
import { gitStream } from './git.ts';
import { writeDurable } from './near-disk.ts';
import { blobsAtHand, FEW_PATHS } from './objects.ts';
import type { Shadow } from './shadow.ts';
import type { Entry } from './tree.ts';

/** Blobs of a shadow written out as files, each proved by its id before anybody sees it. */

/** What is to be written where. */
export type Staged = { entry: Entry; path: string };

/** Bytes of a symbolic link's target: what Linux takes. */
const MAX_LINK_BYTES = 4_096;
const HEADER = /^[0-9a-f]+ blob (\d+)$/u;
const MAX_HEADER_BYTES = 256;

/** Reads lines and counted bytes from a stream of pieces. */
const createReader = (source: AsyncIterable<Uint8Array>) => {
  const pieces = source[Symbol.asyncIterator]();
  let rest: Buffer = Buffer.alloc(0);
  const more = async (): Promise<void> => {
    const { value, done } = await pieces.next();
    if (done) throw new KhloneError('internal', 'git ended in the middle of a file');
    rest = rest.length === 0 ? Buffer.from(value) : Buffer.concat([rest, value]);
  };
  return {
    line: async (): Promise<string> => {
      for (let at = rest.indexOf(10); ; at = rest.indexOf(10)) {
        if (at >= 0) {
          const line = rest.subarray(0, at).toString('latin1');
          rest = rest.subarray(at + 1);
          return line;
        }
        if (rest.length > MAX_HEADER_BYTES) throw new KhloneError('internal', 'git named a file strangely');
        await more();
      }
    },
    bytes: async function* (count: number): AsyncGenerator<Buffer> {
      for (let left = count; left > 0; ) {
        if (rest.length === 0) await more();
        const piece = rest.subarray(0, left);
        rest = rest.subarray(piece.length);
        left -= piece.length;
        yield piece;
      }
    },
    end: () => pieces.return?.(),
  };
};

type Write = (piece: Buffer) => Promise<unknown>;
/** Copies one blob, and proves that it is the one that was asked for. */
type Copy = (oid: string, write: Write) => Promise<void>;

const copyFromGit = async (
  reader: ReturnType<typeof createReader>,
  oid: string,
  write: Write,
): Promise<void> => {
  const size = Number(HEADER.exec(await reader.line())?.[1] ?? Number.NaN);
  if (Number.isNaN(size)) throw new KhloneError('internal', `the shadow repository has no file ${oid}`);
  const hash = createHash(oid.length === 64 ? 'sha256' : 'sha1').update(`blob ${size}\0`);
  for await (const piece of reader.bytes(size)) {
    hash.update(piece);
    await write(piece);
  }
  await reader.line();
  if (hash.digest('hex') !== oid) throw new KhloneError('internal', `the file ${oid} is broken`);
};

const writeLink = async (copy: Copy, { entry, path }: Staged): Promise<void> => {
  const pieces: Buffer[] = [];
  let size = 0;
  await copy(entry.oid, async (piece) => {
    size += piece.length;
    if (size <= MAX_LINK_BYTES) pieces.push(Buffer.from(piece));
  });
  if (size === 0 || size > MAX_LINK_BYTES)
    throw new KhloneError('internal', `the link ${entry.oid} leads nowhere`);
  await symlink(Buffer.concat(pieces), path);
};

const permissionsOf = ({ mode }: Entry, modeMask: number): number =>
  (mode === '100755' ? 0o755 : 0o644) & modeMask;

const writeFile = async (
  copy: Copy,
  { entry, path }: Staged,
  modeMask: number,
  sync: boolean,
): Promise<void> => {
  const file: FileHandle = await open(path, 'wx', 0o600);
  try {
    await copy(entry.oid, (piece) => file.appendFile(piece));
    await file.chmod(permissionsOf(entry, modeMask));
    if (sync) await file.sync();
  } finally {
    await file.close();
  }
};

type Staging = { cwd: string; modeMask: number; sync: boolean; deadlineMs: number };

const stageEach = async (
  copy: Copy,
  staged: readonly Staged[],
  { modeMask, sync }: Staging,
): Promise<void> => {
  for (const one of staged) {
    if (one.entry.mode === '120000') await writeLink(copy, one);
    else await writeFile(copy, one, modeMask, sync);
  }
};

/** A few small ones, which are there as a whole. */
const stageAtHand = (
  blobs: ReadonlyMap<string, Buffer>,
  staged: readonly Staged[],
  { modeMask }: Staging,
): Promise<void> => {
  const copy: Copy = async (oid, write) => void (await write(blobs.get(oid) ?? Buffer.alloc(0)));
  const stage = ({ entry, path }: Staged): Promise<void> =>
    entry.mode === '120000'
      ? writeLink(copy, { entry, path })
      : writeDurable(path, blobs.get(entry.oid) ?? Buffer.alloc(0), {
          ...{ mode: 0o600, isNew: true, permissions: permissionsOf(entry, modeMask) },
        });
  return allOf(...staged.map(stage));
};

/**
 * Writes each blob to its path, which must be free. Regular files get 0644 or 0755, less what `modeMask` takes away.
 * `sync`: each file is on the disk when this returns. Throws `internal` where an object is missing or broken.
 */
export const stageBlobs = async (
  shadow: Shadow,
  staged: readonly Staged[],
  options: Staging,
): Promise<void> => {
  if (staged.length === 0) return;
  const oids = staged.map(({ entry }) => entry.oid);
  const atHand = oids.length <= FEW_PATHS ? await blobsAtHand(shadow, oids) : undefined;
  if (atHand) return stageAtHand(atHand, staged, options);
  const { cwd, deadlineMs } = options;
  const args = [...shadow.config, 'cat-file', '--batch', '--buffer'];
  const input = oids.map((oid) => `${oid}\n`).join('');
  const reader = createReader(gitStream(args, { cwd, env: shadow.env(), input, deadlineMs }));
  try {
    await stageEach((oid, write) => copyFromGit(reader, oid, write), staged, options);
  } finally {
    await reader.end();
  }
};
