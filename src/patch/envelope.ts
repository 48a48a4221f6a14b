import { createHash } from 'node:crypto';
import { open, rm } from 'node:fs/promises';
import { promisify } from 'node:util';
import { deflate, deflateSync, inflate, inflateSync } from 'node:zlib';
import { KhloneError } from '../protocol/error.ts';
import type { Envelope } from '../protocol/patch.ts';
import { git, gitFailed, gitStream } from './git.ts';
import { copySnapshotIndex } from './last-snapshot.ts';
import { applyByHand, patchByHand } from './patch-by-hand.ts';
import {
  broken,
  inOnePiece,
  MAX_PATCH_BYTES,
  MAX_PAYLOAD_BYTES,
  readOnce,
  receiveBundle,
  receivePatch,
} from './payload.ts';
import type { Shadow } from './shadow.ts';
import { commitOf } from './synthetic-commit.ts';
import { RENAME_LIMIT } from './tree.ts';

/**
 * What leads from one tree to another, made to travel: a git patch where that is small, else a git bundle with a thin
 * pack. The receiver has the base, rebuilds the result and compares its id before anything moves.
 */

const GIT_DEADLINE_MS = 15 * 60_000;
/** Below this no bundle is made to compare with: its three processes cost more than the bytes that it could save. */
const SMALL_PATCH_BYTES = 2048;
/** The threads, which may be at work on the disk, would take longer than this. */
const AT_ONCE_BYTES = 32 * 1024;
/** What a small payload may inflate to. */
const MAX_INFLATED_BYTES = 64 * 1024 * 1024;
const MAX_ANSWER_BYTES = 64 * 1024;
const MAX_HEADER_BYTES = 64 * 1024;

const PATCH = [
  ...['diff-tree', '--patch-with-raw', '--binary', `-l${RENAME_LIMIT}`, '--no-ext-diff', '--no-textconv'],
];
/** A rename of a symbolic link: a patch does not tell of what kind it is, so git applies nothing below its old name. */
const MOVED_LINK = /^:120000 \S+ \S+ \S+ R/mu;

const packed = (text: Buffer): Buffer | Promise<Buffer> =>
  text.length <= AT_ONCE_BYTES ? deflateSync(text, { level: 9 }) : promisify(deflate)(text, { level: 9 });

const INFLATED = { maxOutputLength: MAX_INFLATED_BYTES };

const unpacked = async (patch: Buffer): Promise<Buffer> => {
  try {
    // A small one may still inflate to much: that takes a thread.
    if (patch.length <= AT_ONCE_BYTES / 16) return inflateSync(patch, { maxOutputLength: AT_ONCE_BYTES });
  } catch {}
  return promisify(inflate)(patch, INFLATED).catch(() => {
    throw broken('it does not inflate');
  });
};

/** A rename is two lines (`-M`). Ids are told in full only where git needs them, which is at binary files. */
const patchByGit = async (
  shadow: Shadow,
  base: string,
  result: string,
  renames: '-M' | '--no-renames' = '-M',
): Promise<Buffer | undefined> => {
  try {
    const { code, stdout, stderr } = await shadow.run([...PATCH, renames, base, result, '--'], {
      maxBytes: MAX_PATCH_BYTES,
    });
    if (code !== 0) throw gitFailed('git could not make a patch', stderr);
    // Before the patch stands a line for each path, odd names in quotes.
    const patchAt = stdout.indexOf('\n\n') + 2;
    if (renames === '-M' && MOVED_LINK.test(stdout.subarray(0, patchAt).toString('latin1')))
      return await patchByGit(shadow, base, result, '--no-renames');
    return await packed(stdout.subarray(patchAt));
  } catch (thrown) {
    if (thrown instanceof KhloneError && thrown.code === 'too-large') return undefined;
    throw thrown;
  }
};

const patchBetween = async (shadow: Shadow, base: string, result: string): Promise<Buffer | undefined> => {
  const text = await patchByHand(shadow, base, result).catch(() => undefined);
  return text ? packed(text) : patchByGit(shadow, base, result);
};

/** A patch that is likely to be asked for: made while something else is waited for. */
export type PatchAhead = { base: string; result: string; patch: Promise<Buffer | undefined> };

/** Begins a patch. Where it fails, whoever seals begins it anew. */
export const patchAhead = (shadow: Shadow, base: string, result: string): PatchAhead => ({
  ...{ base, result },
  patch: patchBetween(shadow, base, result).catch(() => undefined),
});

const bundleHeader = (shadow: Shadow, base: string | undefined, result: string): string =>
  [
    ...(shadow.zeroId.length === 64 ? ['# v3 git bundle', '@object-format=sha256'] : ['# v2 git bundle']),
    ...(base ? [`-${base} khlone`] : []),
    `${result} refs/khlone/result`,
    '\n',
  ].join('\n');

/** Writes the bundle to `file` and answers its length and digest. */
const writeBundle = async (
  shadow: Shadow,
  file: string,
  base: string | undefined,
  result: string,
): Promise<{ bytes: number; sha256: string }> => {
  const from = base && (await commitOf(shadow, base));
  const to = await commitOf(shadow, result, from ? [from] : []);
  const args = ['pack-objects', '--revs', '--thin', '--stdout', '--quiet', '--delta-base-offset'];
  const input = [to, ...(from ? [`^${from}`] : []), ''].join('\n');
  const pack = gitStream([...shadow.config, ...args], {
    ...{ cwd: shadow.dir, env: shadow.env(), input, deadlineMs: GIT_DEADLINE_MS },
  });
  const out = await open(file, 'w', 0o600);
  const hash = createHash('sha256');
  let bytes = 0;
  const write = async (piece: Uint8Array): Promise<void> => {
    bytes += piece.length;
    hash.update(piece);
    await out.appendFile(piece);
  };
  try {
    await write(Buffer.from(bundleHeader(shadow, from, to)));
    for await (const piece of pack) await write(piece);
  } finally {
    await out.close();
  }
  return { bytes, sha256: hash.digest('hex') };
};

/** An envelope and what goes in it, which is read once: a file that it lies in is gone afterwards. */
export type Sealed = { envelope: Envelope; payload: AsyncIterable<Uint8Array> };

/**
 * Makes the payload that leads from `base` (or from nothing) to `result`, in whichever form is smaller: a patch in
 * memory, or a bundle in `file`. A sender that dies seals anew: nothing waits for the disk. `ahead`: begun before, of
 * use where it is between the same trees. Both trees are in the shadow. Throws `internal` with git's words.
 */
export const sealEnvelope = async (
  shadow: Shadow,
  { base, result }: { base: string | undefined; result: string },
  file: string,
  ahead?: PatchAhead,
): Promise<Sealed> => {
  const trees = { version: 1 as const, ...(base && { base }), result };
  const isMade = ahead?.base === base && ahead?.result === result;
  const made = isMade ? await ahead?.patch : undefined;
  const patch = made ?? (base && (await patchBetween(shadow, base, result)));
  if (!patch || patch.length > SMALL_PATCH_BYTES) {
    const bundle = await writeBundle(shadow, file, base, result);
    if (!patch || patch.length >= bundle.bytes) {
      const envelope = { ...trees, kind: 'bundle' as const, ...bundle };
      return { envelope, payload: readOnce(file) };
    }
  }
  const sha256 = createHash('sha256').update(patch).digest('hex');
  return {
    envelope: { ...trees, kind: 'patch', bytes: patch.length, sha256 },
    payload: inOnePiece(patch),
  };
};

/** What git said of a patch that it could not take in: a full disk says nothing about the patch. */
const refused = (stderr: string, line: 0 | -1): KhloneError => {
  const failed = gitFailed('a patch could not be taken in', stderr);
  if (failed.code === 'disk-low') return failed;
  return broken(stderr.trim().split('\n').at(line)?.slice(0, 200) ?? '');
};

/** The tree that a patch makes of its base; where git makes it, in an index beside `file`. */
const applyPatch = async (
  shadow: Shadow,
  { base, result }: { base: string; result: string },
  patch: Buffer,
  file: string,
): Promise<string> => {
  const text = await unpacked(patch);
  // Whatever comes of it, the id of the result proves it.
  if ((await applyByHand(shadow, base, text).catch(() => undefined)) === result) return result;
  const index = `${file}.index`;
  const step = async (args: readonly string[], input?: Buffer): Promise<string> => {
    const said = await shadow.run(args, { index, ...(input && { input }) });
    if (said.code !== 0) throw refused(said.stderr, 0);
    return said.stdout.toString('utf8').trim();
  };
  const build = async (): Promise<string> => {
    if (text.length > 0) await step(['apply', '--cached', '--binary', '--whitespace=nowarn', '-'], text);
    return step(['write-tree']);
  };
  try {
    // The last snapshot's index holds the base more often than not, and a copy of it costs no git.
    if (await copySnapshotIndex(shadow.dir, base, index)) {
      const quick = await build().catch(() => undefined);
      if (quick === result) return quick;
      await rm(index, { force: true });
    }
    await step(['read-tree', base]);
    return await build();
  } finally {
    await rm(index, { force: true });
    await rm(`${index}.lock`, { force: true });
  }
};

async function* packOf(file: string, header: string): AsyncGenerator<Uint8Array> {
  const handle = await open(file, 'r');
  yield* handle.createReadStream({ start: Buffer.byteLength(header) });
}

/** The header of a bundle, ends included. Only the one that we would write is taken. */
const readHeader = async (file: string): Promise<{ header: string; commit: string }> => {
  const handle = await open(file, 'r');
  try {
    const { buffer, bytesRead } = await handle.read(Buffer.alloc(MAX_HEADER_BYTES), 0, MAX_HEADER_BYTES, 0);
    const text = buffer.subarray(0, bytesRead).toString('latin1');
    const end = text.indexOf('\n\n');
    const header = text.slice(0, end + 2);
    const commit = /^([0-9a-f]{40,64}) refs\/khlone\/result$/mu.exec(header)?.[1];
    if (end < 0 || commit === undefined) throw broken('it is no bundle');
    return { header, commit };
  } finally {
    await handle.close();
  }
};

const unpackBundle = async (shadow: Shadow, base: string | undefined, file: string): Promise<string> => {
  // The prerequisite: made here from the tree that both sides have.
  const known = base && (await commitOf(shadow, base));
  const { header, commit } = await readHeader(file);
  const args = ['index-pack', '--stdin', '--fix-thin', '--strict', `--max-input-size=${MAX_PAYLOAD_BYTES}`];
  const said = await git([...shadow.config, ...args], {
    ...{ cwd: shadow.dir, env: shadow.env(), input: packOf(file, header) },
    ...{ deadlineMs: GIT_DEADLINE_MS, maxBytes: MAX_ANSWER_BYTES },
  });
  if (said.code !== 0) throw refused(said.stderr, -1);
  const walk = ['rev-list', '--objects', '--quiet', commit, ...(known ? [`^${known}`] : []), '--'];
  if ((await shadow.run(walk)).code !== 0) throw broken('it lacks objects');
  const tree = await shadow.run(['rev-parse', '--verify', '--quiet', `${commit}^{tree}`]);
  return tree.stdout.toString('utf8').trim();
};

/**
 * Takes a payload in: afterwards its sender has ended it, and the shadow holds the result tree, complete, each name in
 * it one that git lets into a worktree. `file` is a free path for its bytes; it is removed. Throws `conflict` for a
 * payload that is not what its envelope says, or hostile: nothing but objects that nobody names is left of it then.
 */
export const openEnvelope = async (
  shadow: Shadow,
  envelope: Envelope,
  body: AsyncIterable<Uint8Array>,
  file: string,
): Promise<void> => {
  const { kind, base, result } = envelope;
  const prove = (tree: string): void => {
    if (tree !== result) throw broken('it makes another state than announced');
  };
  try {
    if (kind === 'patch' && base !== undefined)
      return await receivePatch(envelope, body, async (patch) =>
        prove(await applyPatch(shadow, { base, result }, patch, file)),
      );
    await receiveBundle(envelope, body, file);
    prove(await unpackBundle(shadow, base, file));
  } finally {
    if (kind === 'bundle') await rm(file, { force: true });
  }
};
