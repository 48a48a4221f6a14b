import { createHash, randomBytes } from 'node:crypto';
import { rm, utimes } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { promisify } from 'node:util';
import { deflate, deflateSync, inflate, inflateSync } from 'node:zlib';
import { type Path, toBytes } from './listing.ts';
import { exists, makeFolder, readFile, rename, stat, syncPath, writeSmall } from './near-disk.ts';
import type { Shadow } from './shadow.ts';

/**
 * A few small objects, read and written without a git: a process costs more than all of them. What is read is proved
 * by its id. Whatever is not at hand is a question for git, which every caller can ask instead.
 */

export type Kind = 'blob' | 'tree';

/** A file of more bytes is git's work: it reads and writes it in pieces. */
export const MAX_SMALL_BYTES = 1024 * 1024;
/** What is held of small files at once. */
const MAX_HELD_BYTES = 4 * MAX_SMALL_BYTES;
/** Paths of one piece of work that is done by hand; above it a git costs less than it saves. */
export const FEW_PATHS = 32;
/** What git may answer at once. */
const MAX_ANSWER_BYTES = 16 * 1024 * 1024;
/** Of a tree most bytes are ids, which do not get shorter: to try takes four times as long. */
const LEVELS: Readonly<Record<Kind, number>> = { blob: 1, tree: 0 };
const AT_ONCE_BYTES = 32 * 1024;

/** What git would call these bytes. */
export const idOf = (kind: Kind, bytes: Buffer, idLength: number): string =>
  createHash(idLength === 64 ? 'sha256' : 'sha1')
    .update(`${kind} ${bytes.length}\0`)
    .update(bytes)
    .digest('hex');

const fileOf = (store: string, oid: string): string => join(store, oid.slice(0, 2), oid.slice(2));

/** Trees never change. The latest used come last. */
const trees = new Map<string, Buffer>();
const MAX_TREES_BYTES = 4 * 1024 * 1024;
let treesBytes = 0;

const remember = (oid: string, bytes: Buffer): void => {
  if (trees.delete(oid)) treesBytes -= bytes.length;
  trees.set(oid, bytes);
  treesBytes += bytes.length;
  for (const [old, { length }] of trees) {
    if (treesBytes <= MAX_TREES_BYTES) return;
    trees.delete(old);
    treesBytes -= length;
  }
};

const INFLATED = { maxOutputLength: MAX_SMALL_BYTES + 64 };

const inflated = (packed: Buffer): Buffer | Promise<Buffer> =>
  packed.length <= AT_ONCE_BYTES ? inflateSync(packed, INFLATED) : promisify(inflate)(packed, INFLATED);

/** An object that lies in a file of its own; undefined where it does not, is large, or is not what its name says. */
const readLoose = async (
  { stores, zeroId }: Shadow,
  kind: Kind,
  oid: string,
): Promise<Buffer | undefined> => {
  for (const store of stores) {
    const path = fileOf(store, oid);
    const facts = await stat(path, store).catch(() => undefined);
    if (!facts?.isFile() || facts.size > MAX_SMALL_BYTES) continue;
    const whole = await readFile(path)
      .then(inflated)
      .catch(() => undefined);
    if (!whole) continue;
    const bytes = whole.subarray(whole.indexOf(0) + 1);
    if (idOf(kind, bytes, zeroId.length) === oid) return bytes;
  }
  return undefined;
};

/** A tree that is at hand; undefined where only a git could read it. */
export const treeAtHand = async (shadow: Shadow, oid: string): Promise<Buffer | undefined> => {
  const bytes = trees.get(oid) ?? (await readLoose(shadow, 'tree', oid));
  if (bytes) remember(oid, bytes);
  return bytes;
};

/** "<id> <kind> <size>\n<bytes>\n" for each name; what is missing has one line. */
const readAnswers = (said: Buffer, idLength: number): { kind: string; oid: string; bytes: Buffer }[] => {
  const found = [];
  for (let at = 0; at < said.length; ) {
    const end = said.indexOf(10, at);
    if (end < 0) break;
    const [oid = '', kind = '', size = ''] = said.subarray(at, end).toString('latin1').split(' ');
    at = end + 1;
    if (oid.length !== idLength || !/^\d+$/u.test(size)) continue;
    found.push({ kind, oid, bytes: said.subarray(at, at + Number(size)) });
    at += Number(size) + 1;
  }
  return found;
};

/** Reads what one git can tell of these names: "<id>", or "<tree>:<path>". Wrong bytes are no answer. */
const ask = async (shadow: Shadow, kind: Kind, names: readonly string[]): Promise<Map<string, Buffer>> => {
  if (names.length === 0 || names.some((name) => /[\n\r]/u.test(name))) return new Map();
  const input = toBytes(`${names.join('\n')}\n`);
  const options = { input, maxBytes: MAX_ANSWER_BYTES };
  const said = await shadow.run(['cat-file', '--batch', '--buffer'], options).catch(() => undefined);
  const answers = said ? readAnswers(said.stdout, shadow.zeroId.length) : [];
  const sound = answers.filter(
    (one) => one.kind === kind && idOf(kind, one.bytes, shadow.zeroId.length) === one.oid,
  );
  return new Map(sound.map(({ oid, bytes }) => [oid, bytes]));
};

/** Trees that lie below a tree, by their paths: afterwards all that could be read are at hand. */
export const askForTrees = async (shadow: Shadow, tree: string, folders: readonly Path[]): Promise<void> => {
  const names = folders.map((folder) => `${tree}:${folder}`);
  // Copies, since one of them would hold the whole answer.
  for (const [oid, bytes] of await ask(shadow, 'tree', names)) remember(oid, Buffer.from(bytes));
};

const readLooseBlobs = async (shadow: Shadow, oids: readonly string[]): Promise<Map<string, Buffer>> => {
  const found = new Map<string, Buffer>();
  let bytes = 0;
  for (const oid of new Set(oids)) {
    const blob = bytes > MAX_HELD_BYTES ? undefined : await readLoose(shadow, 'blob', oid);
    if (blob) found.set(oid, blob);
    bytes += blob?.length ?? 0;
  }
  return found;
};

/** Small files by their ids, where each lies in a file of its own; undefined where one does not. */
export const blobsAtHand = async (
  shadow: Shadow,
  oids: readonly string[],
): Promise<Map<string, Buffer> | undefined> => {
  const found = await readLooseBlobs(shadow, oids);
  return oids.every((oid) => found.has(oid)) ? found : undefined;
};

/** The same, and a git is asked for the others. */
export const smallBlobs = async (
  shadow: Shadow,
  oids: readonly string[],
): Promise<Map<string, Buffer> | undefined> => {
  const found = await readLooseBlobs(shadow, oids);
  const others = [...new Set(oids)].filter((oid) => !found.has(oid));
  for (const [oid, bytes] of await ask(shadow, 'blob', others)) found.set(oid, bytes);
  return oids.every((oid) => found.has(oid)) ? found : undefined;
};

/** Under a name that git sweeps where we die; then moved in place, so that whoever sees it sees it whole. */
const putInStore = async (store: string, path: string, packed: Buffer): Promise<void> => {
  const temp = join(store, `tmp_obj_${randomBytes(6).toString('hex')}`);
  try {
    await writeSmall(temp, packed, { mode: 0o444, isNew: true });
    await rename(temp, path, store).catch(async (thrown: NodeJS.ErrnoException) => {
      if (thrown.code !== 'ENOENT') throw thrown;
      // Another one may be about to store an object there.
      await makeFolder(dirname(path), 0o777).catch(() => undefined);
      await rename(temp, path, store);
    });
  } catch (thrown) {
    await rm(temp, { force: true });
    throw thrown;
  }
};

/**
 * Whether the shadow's own store has an object in a file. It counts as new again then, as git does it, so that nobody
 * throws it away as old.
 */
export const renewObject = async ({ dir }: Shadow, oid: string): Promise<boolean> => {
  const now = new Date();
  return utimes(fileOf(join(dir, 'objects'), oid), now, now).then(
    () => true,
    () => false,
  );
};

/** Stores an object in the shadow and answers its id. It is on the disk only after `syncObjects`. */
export const writeObject = async (shadow: Shadow, kind: Kind, bytes: Buffer): Promise<string> => {
  const oid = idOf(kind, bytes, shadow.zeroId.length);
  const store = join(shadow.dir, 'objects');
  const path = fileOf(store, oid);
  if (kind === 'tree') remember(oid, bytes);
  if ((await exists(path, store)) && (await renewObject(shadow, oid))) return oid;
  const whole = Buffer.concat([Buffer.from(`${kind} ${bytes.length}\0`), bytes]);
  // A thread would take longer than this.
  const packed =
    whole.length <= AT_ONCE_BYTES
      ? deflateSync(whole, { level: LEVELS[kind] })
      : await promisify(deflate)(whole, { level: LEVELS[kind] });
  await putInStore(store, path, packed);
  return oid;
};

/** Whether each of these lies in a file of the shadow's own store. */
export const areOwn = async ({ dir }: Shadow, oids: readonly string[]): Promise<boolean> => {
  const store = join(dir, 'objects');
  const found = await Promise.all(oids.map((oid) => exists(fileOf(store, oid), store)));
  return found.every(Boolean);
};

/**
 * Brings objects of the shadow's own store onto the disk. Their names come with them: file systems that keep a journal
 * write a file's last renaming down with the file.
 */
export const syncObjects = async ({ dir }: Shadow, oids: readonly string[]): Promise<void> => {
  const store = join(dir, 'objects');
  await Promise.all(oids.map((oid) => syncPath(fileOf(store, oid))));
};
