import { execFile } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { lstat, mkdir, readdir, rename, rm, writeFile } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { promisify } from 'node:util';
import { KhloneError } from '../protocol/error.ts';
import { tellFull } from './full-disk.ts';
import { type GitOptions, git, gitFailed } from './git.ts';
import { keepLineage } from './lineage.ts';
import { type MadeBy, readMadeBy, writeMadeBy } from './made-by.ts';
import type { Manifest } from './manifest.ts';
import { RAW_ATTRIBUTES, type Repository, SAFE_NAMES } from './shadow.ts';
import { type Snapshot, snapshotTree } from './snapshot.ts';
import { STRICT } from './strictness.ts';

/**
 * Makes a worktree out of a carried pack. It is built beside its place and moved in whole, so a process that dies in
 * the middle leaves nothing that a later attempt could take for finished.
 */

export type UnpackWish = {
  /** Parsed by its schema. */
  manifest: Manifest;
  body: AsyncIterable<Uint8Array>;
  /** Absolute: absent, an empty folder, or what an earlier call made. */
  path: string;
  zone: string;
  /** The zone's shadow repository, where its clones cannot write. */
  shadowDir: string;
};

/** `tree`: the state right after it was made, by this call or an earlier one. */
export type Unpacked = { head: string; files: number; tree: string };

/** The pack arrives at the pace of the link. */
const RECEIVE_DEADLINE_MS = 12 * 60 * 60_000;
const GIT_DEADLINE_MS = 15 * 60_000;
const SYNC_DEADLINE_MS = 60_000;
const MAX_ANSWER_BYTES = 512 * 1024 * 1024;
const MAX_PACK_BYTES = 64 * 2 ** 30;

type Ground = { dir: string; run(args: readonly string[], more?: Partial<GitOptions>): Promise<string> };

const groundAt = (dir: string): Ground => ({
  dir,
  run: async (args, more = {}) => {
    const answer = await git([...SAFE_NAMES, ...args], {
      cwd: dir,
      deadlineMs: GIT_DEADLINE_MS,
      maxBytes: MAX_ANSWER_BYTES,
      ...more,
      env: { GIT_DIR: join(dir, '.git'), GIT_WORK_TREE: dir, ...more.env },
    });
    if (answer.code !== 0) throw gitFailed(`git ${args[0]} refused the carried code`, answer.stderr);
    return answer.stdout.toString('utf8').trim();
  },
});

/** The mark of what an earlier call finished, or undefined where the place is free. Anything else is left alone. */
const inspect = async (path: string, zone: string): Promise<MadeBy | undefined> => {
  const facts = await lstat(path).catch(() => undefined);
  if (!facts || (facts.isDirectory() && (await readdir(path)).length === 0)) return undefined;
  const mark = await readMadeBy(path);
  if (mark?.zone === zone) return mark;
  // Its work is somebody's: nobody is told to move it away.
  if (mark)
    throw new KhloneError(
      'conflict',
      `${path} is another zone's, for one of the same host by another name`,
      'give the host its other name in khlone.yml to share that zone, or name another zone.path',
    );
  throw new KhloneError(
    'conflict',
    `${path} is not empty and not khlone's`,
    'move it away, or name another zone.path in khlone.yml',
  );
};

/** Packs under way in this process: what a sweep leaves alone. */
const underway = new Set<string>();
const isAlive = (pid: number): boolean => {
  try {
    process.kill(pid, 0);
    return true;
  } catch (thrown) {
    return (thrown as NodeJS.ErrnoException).code !== 'ESRCH';
  }
};

/** Removes what interrupted attempts for this path left beside it. */
const sweep = async (path: string): Promise<void> => {
  const pattern = /^(\d+)-[0-9a-f]{12}$/u;
  const prefix = `${basename(path)}.khlone-`;
  for (const name of await readdir(dirname(path)).catch(() => [])) {
    if (!name.startsWith(prefix)) continue;
    const pid = pattern.exec(name.slice(prefix.length))?.[1];
    const full = join(dirname(path), name);
    const stale =
      pid !== undefined && (Number(pid) === process.pid ? !underway.has(full) : !isAlive(Number(pid)));
    if (stale) await rm(full, { recursive: true, force: true });
  }
};

const initialise = async ({ dir, run }: Ground, { format, shallow }: Manifest): Promise<void> => {
  await run(['init', '--quiet', '--template=', `--object-format=${format}`]);
  await mkdir(join(dir, '.git', 'info'), { recursive: true, mode: 0o700 });
  await writeFile(join(dir, '.git', 'info', 'exclude'), '/.khlone/\n');
  // Before the pack: the check of its links must know where history ends.
  if (shallow.length > 0) await writeFile(join(dir, '.git', 'shallow'), `${shallow.join('\n')}\n`);
};

const receive = async (ground: Ground, { manifest, body }: UnpackWish): Promise<void> => {
  const { head, tree } = manifest;
  // Kept: what was carried outlives every gc in the zone, so that work can always be told from it.
  await ground.run(['index-pack', '--stdin', '--keep=khlone', STRICT, `--max-input-size=${MAX_PACK_BYTES}`], {
    input: body,
    deadlineMs: RECEIVE_DEADLINE_MS,
  });
  if (head) await ground.run(['cat-file', '-e', `${head}^{commit}`]);
  await ground.run(['cat-file', '-e', `${tree}^{tree}`]);
  await ground.run(['rev-list', '--objects', '--quiet', ...(head ? [head] : []), tree, '--']);
};

const pointHead = async ({ run }: Ground, { head, branch }: Manifest): Promise<void> => {
  if (branch === undefined) {
    await run(['update-ref', '--no-deref', 'HEAD', head ?? '']);
    return;
  }
  const ref = `refs/heads/${branch}`;
  await run(['check-ref-format', ref]);
  if (head) await run(['update-ref', ref, head]);
  await run(['symbolic-ref', 'HEAD', ref]);
};

/** A clone's commit needs an author: the person's, where this machine has no own word on it. */
const nameAuthor = async ({ run }: Ground, author: Manifest['author']): Promise<void> => {
  const isNamed = await run(['config', '--get', 'user.email']).then(
    () => true,
    () => false,
  );
  if (!author || isNamed) return;
  await run(['config', 'user.name', author.name]);
  await run(['config', 'user.email', author.email]);
};

const configure = async (ground: Ground, manifest: Manifest): Promise<void> => {
  const { run } = ground;
  const { origin, autocrlf, eol, author } = manifest;
  await nameAuthor(ground, author);
  if (autocrlf) await run(['config', 'core.autocrlf', autocrlf]);
  if (eol) await run(['config', 'core.eol', eol]);
  if (!origin) return;
  await run(['config', 'remote.origin.url', origin]);
  await run(['config', 'remote.origin.fetch', '+refs/heads/*:refs/remotes/origin/*']);
};

/** Writes the files as raw bytes, then makes the index HEAD's: uncommitted work shows as uncommitted. */
const checkOut = async ({ dir, run }: Ground, { head, tree }: Manifest): Promise<void> => {
  const attributes = join(dir, '.git', 'info', 'attributes');
  await writeFile(attributes, RAW_ATTRIBUTES);
  const raw = ['-c', 'core.autocrlf=false'];
  await run([...raw, 'read-tree', tree]);
  await run([...raw, 'checkout-index', '--all', '--quiet', '--index']);
  await run(head ? [...raw, 'read-tree', '--reset', head] : ['read-tree', '--empty']);
  await rm(attributes);
};

/** A repository that khlone made: its git directory is its own. */
export const repositoryAt = (dir: string): Repository => {
  const gitDir = join(dir, '.git');
  return { worktree: dir, gitDir, commonDir: gitDir };
};

/** The state of a zone's worktree with nothing left out: what a removal compares and saves. */
export const wholeSnapshot = (dir: string, shadowDir: string): Promise<Snapshot> => {
  const wish = { ...repositoryAt(dir), shadowDir, deadlineMs: GIT_DEADLINE_MS, everything: true };
  return snapshotTree(wish);
};

const build = async (dir: string, wish: UnpackWish): Promise<Unpacked> => {
  const ground = groundAt(dir);
  const { manifest, zone } = wish;
  await initialise(ground, manifest);
  await receive(ground, wish);
  await pointHead(ground, manifest);
  await configure(ground, manifest);
  await checkOut(ground, manifest);
  // An earlier zone of this place may have left one with ids of another kind.
  await rm(wish.shadowDir, { recursive: true, force: true });
  const { tree } = await wholeSnapshot(dir, wish.shadowDir);
  const { head, lineage } = manifest;
  if (lineage) await keepLineage(wish.shadowDir, lineage);
  const names = await ground.run(['ls-tree', '-r', '-z', '--name-only', manifest.tree]);
  const files = names.split('\0').filter(Boolean).length;
  await writeMadeBy(dir, { version: 1, zone, ...(head && { head }), tree, files, madeMs: Date.now() });
  // The zone is called ready in a database that survives a power cut; its files should, too. Best effort.
  await promisify(execFile)('sync', ['-f', dir], { timeout: SYNC_DEADLINE_MS }).catch(() => undefined);
  return { head: head ?? '', files, tree };
};

/** What an earlier call made, as it is now. */
const recognised = async (path: string, { files, tree }: MadeBy): Promise<Unpacked> => {
  const head = await groundAt(path)
    .run(['rev-parse', '--verify', '--quiet', 'HEAD'])
    .catch(() => '');
  return { head, files, tree };
};

/**
 * Builds the worktree at `path`, or recognises the one that an earlier call for the zone finished and leaves it as it
 * is. Repeatable after any interruption. Throws `conflict` where the path holds something else, `disk-low`, what the
 * body throws, and `internal` with git's words for a pack that is incomplete, broken or hostile.
 */
export const unpackWorktree = async (wish: UnpackWish): Promise<Unpacked> => {
  const { path, zone } = wish;
  const before = await inspect(path, zone);
  if (before) return recognised(path, before);
  await mkdir(dirname(path), { recursive: true });
  await sweep(path);
  const temp = `${path}.khlone-${process.pid}-${randomBytes(6).toString('hex')}`;
  underway.add(temp);
  try {
    await mkdir(temp, { mode: 0o700 });
    const made = await build(temp, wish);
    const meanwhile = await inspect(path, zone);
    if (meanwhile) return await recognised(path, meanwhile);
    await rename(temp, path);
    return made;
  } catch (thrown) {
    throw tellFull(thrown, path);
  } finally {
    await rm(temp, { recursive: true, force: true });
    underway.delete(temp);
  }
};
