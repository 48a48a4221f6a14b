import { createHash } from 'node:crypto';
import { constants, type Stats } from 'node:fs';
import { lstat, openRead, readlink } from './near-disk.ts';

/** What git would call the bytes at a path: its mode and the id of its blob, without asking git. */

/** `mode` as in a tree: 100644, 100755, 120000. */
export type BlobFacts = { mode: string; oid: string; stat: Stats };

/** Something that no tree holds as a blob: a folder, a socket, a device. */
export type NoBlob = 'folder' | 'other';

const ALGORITHM = new Map([
  [40, 'sha1'],
  [64, 'sha256'],
]);
/** Files that change while they are read are read anew, so often. */
const ATTEMPTS = 3;
const READ_BYTES = 256 * 1024;

const newHash = (idLength: number, bytes: number) =>
  createHash(ALGORITHM.get(idLength) ?? 'sha1').update(`blob ${bytes}\0`);

const fileId = async (path: Buffer, idLength: number): Promise<{ oid: string; stat: Stats } | undefined> => {
  const handle = await openRead(path, constants.O_NOFOLLOW);
  try {
    const stat = await handle.stat();
    if (!stat.isFile()) return undefined;
    const hash = newHash(idLength, stat.size);
    const buffer = Buffer.allocUnsafe(Math.min(READ_BYTES, stat.size + 1));
    let read = 0;
    for (;;) {
      const { bytesRead } = await handle.read(buffer, 0, buffer.length, read);
      if (bytesRead === 0) break;
      hash.update(buffer.subarray(0, bytesRead));
      read += bytesRead;
    }
    return read === stat.size ? { oid: hash.digest('hex'), stat } : undefined;
  } finally {
    await handle.close();
  }
};

const lookAt = async (path: Buffer, idLength: number): Promise<BlobFacts | NoBlob | undefined> => {
  let stat: Stats;
  try {
    stat = await lstat(path);
  } catch (thrown) {
    const { code } = thrown as NodeJS.ErrnoException;
    if (code === 'ENOENT' || code === 'ENOTDIR') return undefined;
    throw thrown;
  }
  if (stat.isDirectory()) return 'folder';
  if (stat.isSymbolicLink()) {
    const target = await readlink(path);
    return { mode: '120000', oid: newHash(idLength, target.length).update(target).digest('hex'), stat };
  }
  if (!stat.isFile()) return 'other';
  for (let attempt = 0; attempt < ATTEMPTS; attempt += 1) {
    const found = await fileId(path, idLength);
    if (found) return { mode: found.stat.mode & 0o100 ? '100755' : '100644', ...found };
  }
  return { mode: '100644', oid: '', stat };
};

/** What open and readlink say of a file that is gone, or is another kind of thing by now. */
const MOVED: ReadonlySet<string> = new Set(['ENOENT', 'ENOTDIR', 'ELOOP', 'EINVAL', 'ENXIO']);

/**
 * The facts of what lies at a path, symbolic links not followed; undefined where nothing is. `idLength`: 40 for sha1
 * repositories, 64 for sha256. A file that keeps growing while it is read gets an id that nothing equals.
 */
export const blobAt = async (path: Buffer, idLength: number): Promise<BlobFacts | NoBlob | undefined> => {
  for (let attempt = 1; ; attempt += 1) {
    try {
      return await lookAt(path, idLength);
    } catch (thrown) {
      // It was renamed or replaced between two looks, as an editor does when it saves.
      const isMoved = MOVED.has((thrown as NodeJS.ErrnoException).code ?? '');
      if (!isMoved || attempt === ATTEMPTS) throw thrown;
    }
  }
};
