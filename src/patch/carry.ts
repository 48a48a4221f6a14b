import { KhloneError } from '../protocol/error.ts';
import { git, gitStream } from './git.ts';
import { branchOf } from './head.ts';
import { depthOf, type History, lineageOf, shallowOf } from './history.ts';
import { forgetIndex } from './last-snapshot.ts';
import type { LeftOut } from './left-out.ts';
import { Manifest, publicUrl } from './manifest.ts';
import { openShadow, type Repository, type Shadow, shadowDirOf } from './shadow.ts';
import { type Snapshot, snapshotTree } from './snapshot.ts';

/**
 * A worktree made ready to travel: the branch's commits and the files as they are now, in one self-contained pack, so
 * that the other side needs no access to origin.
 */

export type PackWish = Repository & {
  history: History;
  maxFileBytes: number;
  include: readonly string[];
  exclude: readonly string[];
};

export type Packed = {
  manifest: Manifest;
  /** The pack; made while it is read. Nothing runs when it never is. */
  body: AsyncIterable<Uint8Array>;
  leftOut: LeftOut[];
};

/** The first snapshot reads every file; a slow disk with a large worktree needs minutes. */
const SNAPSHOT_DEADLINE_MS = 15 * 60_000;
/** A pack is made at the pace of the link. */
const PACK_DEADLINE_MS = 12 * 60 * 60_000;
const QUESTION_DEADLINE_MS = 30_000;
const MAX_ANSWER_BYTES = 1024 * 1024;

/** Old and new ways in which git marks a partial clone. */
const PARTIAL = '^(extensions\\.partialclone|remote\\..*\\.promisor)$';

const ask = async (worktree: string, args: readonly string[]): Promise<string | undefined> => {
  const options = { cwd: worktree, deadlineMs: QUESTION_DEADLINE_MS, maxBytes: MAX_ANSWER_BYTES };
  const { code, stdout } = await git(args, options);
  return code === 0 ? stdout.toString('utf8').replace(/\n$/u, '') : undefined;
};

type Settings = Pick<Manifest, 'autocrlf' | 'eol' | 'origin' | 'author'>;

const settingsOf = async (worktree: string): Promise<Settings> => {
  const [url, autocrlf, eol, name, email] = await Promise.all([
    ask(worktree, ['config', '--get', 'remote.origin.url']),
    ask(worktree, ['config', '--get', 'core.autocrlf']),
    ask(worktree, ['config', '--get', 'core.eol']),
    ask(worktree, ['config', '--get', 'user.name']),
    ask(worktree, ['config', '--get', 'user.email']),
  ]);
  const origin = url === undefined ? undefined : publicUrl(url);
  const crlf = Manifest.shape.autocrlf.safeParse(autocrlf?.toLowerCase()).data;
  const ends = Manifest.shape.eol.safeParse(eol?.toLowerCase()).data;
  const author = Manifest.shape.author.safeParse({ name, email }).data;
  return {
    ...(origin && { origin }),
    ...(crlf && { autocrlf: crlf }),
    ...(ends && { eol: ends }),
    ...(author && { author }),
  };
};

/** Whether every object of the tree can be read: the user's git may have pruned one that the shadow counted on. */
const isComplete = async (shadow: Shadow, { tree, head }: Snapshot): Promise<boolean> => {
  const known = head === undefined ? [] : [`^${head}^{tree}`];
  return (await shadow.run(['rev-list', '--objects', '--quiet', tree, ...known, '--'])).code === 0;
};

const snapshotFor = async (wish: PackWish, shadowDir: string): Promise<Snapshot> =>
  snapshotTree({
    worktree: wish.worktree,
    gitDir: wish.gitDir,
    commonDir: wish.commonDir,
    shadowDir,
    deadlineMs: SNAPSHOT_DEADLINE_MS,
    maxFileBytes: wish.maxFileBytes,
    choice: { include: wish.include, exclude: wish.exclude },
    filtered: 'head',
  });

const packOf = (
  shadow: Shadow,
  wish: PackWish,
  { tree, head }: Snapshot,
  shallow: readonly string[],
): AsyncIterable<Uint8Array> => {
  const lines = [...shallow.map((commit) => `--shallow ${commit}`), ...(head ? [head] : []), tree];
  return gitStream(
    [...shadow.config, 'pack-objects', '--revs', '--stdout', '--quiet', '--delta-base-offset'],
    { cwd: wish.worktree, env: shadow.env(), input: `${lines.join('\n')}\n`, deadlineMs: PACK_DEADLINE_MS },
  );
};

/**
 * Packs a worktree for a host that has nothing of it. The user's index, refs, objects and configuration are only
 * read; no hook and no filter runs. Throws what snapshotTree throws, and `conflict` when HEAD moves meanwhile.
 */
export const packWorktree = async (wish: PackWish): Promise<Packed> => {
  const shadowDir = shadowDirOf(wish.gitDir);
  const shadow = await openShadow(wish, shadowDir, SNAPSHOT_DEADLINE_MS);
  const branch = await branchOf(wish);
  let snapshot = await snapshotFor(wish, shadowDir);
  if (!(await isComplete(shadow, snapshot))) {
    await forgetIndex(shadowDir);
    snapshot = await snapshotFor(wish, shadowDir);
  }
  const { tree, head, leftOut } = snapshot;
  if ((await branchOf(wish)) !== branch) {
    throw new KhloneError('conflict', 'the branch was switched while the worktree was read', 'try again');
  }
  // A partial clone has the files of what is checked out, and of its history only what was looked at.
  const isPartial = (await ask(wish.worktree, ['config', '--get-regexp', PARTIAL])) !== undefined;
  const depth = isPartial ? 1 : depthOf(wish.history);
  const shallow = head ? await shallowOf(wish, head, depth, SNAPSHOT_DEADLINE_MS) : [];
  // What is carried whole speaks for itself.
  const lineage = head && shallow.length > 0 ? await lineageOf(wish, head, SNAPSHOT_DEADLINE_MS) : undefined;
  const manifest = Manifest.parse({
    version: 1,
    format: tree.length === 40 ? 'sha1' : 'sha256',
    ...(head && { head }),
    ...(branch && { branch }),
    tree,
    shallow,
    ...(lineage && { lineage }),
    ...(await settingsOf(wish.worktree)),
  });
  return { manifest, body: packOf(shadow, wish, snapshot, shallow), leftOut };
};
