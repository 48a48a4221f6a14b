import { randomBytes } from 'node:crypto';
import { mkdir, rename, rm, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { type GitOptions, type GitResult, git, gitFailed } from './git.ts';
import { exists, makeFolder, readText } from './near-disk.ts';

/**
 * A git directory of our own beside the user's: snapshots are made in it, so the user's index, HEAD, refs, hooks,
 * filters and objects stay as they are. It reads the user's objects and writes only its own.
 */

/** Where a worktree lies and what git calls its directories. */
export type Repository = { worktree: string; gitDir: string; commonDir: string };

export type Shadow = {
  dir: string;
  worktree: string;
  /** Reads objects of the user and of the shadow. `index` is the index file to work on. */
  run(args: readonly string[], more?: ShadowRun): Promise<GitResult>;
  /** What `run` sets, for whoever streams. */
  env(index?: string): Record<string, string>;
  /** Configuration that holds for every git in the shadow. */
  config: readonly string[];
  /** The id of nothing, as long as this repository's ids are. */
  zeroId: string;
  /** Where objects lie: the shadow's own store, and the user's. */
  stores: readonly string[];
  /** Whether files keep their modes and links here, as git found when it made the shadow. */
  keepsModes: boolean;
};

export type ShadowRun = { index?: string; input?: GitOptions['input']; maxBytes?: number };

/** Listings of a worktree of a million files fit; more is refused. */
export const MAX_LISTING_BYTES = 512 * 1024 * 1024;

/** Bytes are taken as they are: no filter, no line ends, no keywords; the highest word in git's order of attributes. */
export const RAW_ATTRIBUTES = '* -text -eol -filter -ident -working-tree-encoding !merge\n';

/** Names that another file system would read as `.git` are refused everywhere, since a snapshot travels. */
export const SAFE_NAMES = ['-c', 'core.protectHFS=true', '-c', 'core.protectNTFS=true'];

const CONFIG = [
  ...SAFE_NAMES,
  ...[
    'core.autocrlf=false',
    'core.safecrlf=false',
    'core.splitIndex=false',
    'core.untrackedCache=false',
  ].flatMap((one) => ['-c', one]),
];

/** One entry of GIT_ALTERNATE_OBJECT_DIRECTORIES: quoted, since a folder may have any name. */
export const quotedFolder = (path: string): string =>
  `"${path.replace(/[\\"]/gu, '\\$&').replaceAll('\n', '\\n')}"`;

/** The folders of a store, which git makes one by one: a small change would wait for three of them. */
const makeObjectFolders = async (store: string): Promise<void> => {
  for (let n = 0; n < 256; n += 1) await makeFolder(join(store, n.toString(16).padStart(2, '0')), 0o700);
};

/** Made under another name and moved in place: whoever sees it, sees it whole. */
const makeShadow = async (dir: string, format: string, deadlineMs: number): Promise<void> => {
  const temp = `${dir}.${randomBytes(6).toString('hex')}`;
  await mkdir(dirname(dir), { recursive: true, mode: 0o700 });
  await mkdir(temp, { mode: 0o700 });
  try {
    const args = ['init', '-q', '--bare', '--template=', `--object-format=${format}`, temp];
    const made = await git(args, { cwd: temp, deadlineMs, maxBytes: 64 * 1024, env: PRIVATE_CONFIG });
    if (made.code !== 0) throw gitFailed('khlone could not make its shadow repository', made.stderr);
    await mkdir(join(temp, 'info'), { recursive: true, mode: 0o700 });
    await writeFile(join(temp, 'info', 'attributes'), RAW_ATTRIBUTES, { mode: 0o600 });
    await makeObjectFolders(join(temp, 'objects'));
    await rename(temp, dir).catch(async (error: unknown) => {
      // Somebody else made it in the meantime, and theirs is as good.
      if (!(await exists(join(dir, 'HEAD')))) throw error;
    });
  } finally {
    await rm(temp, { recursive: true, force: true });
  }
};

/** The person's configuration could name filters, attributes and templates: none of it holds in here. */
const PRIVATE_CONFIG = { GIT_CONFIG_GLOBAL: '/dev/null', GIT_CONFIG_NOSYSTEM: '1' };

/** Where the shadow of a worktree lies. */
export const shadowDirOf = (gitDir: string): string => join(gitDir, 'khlone', 'shadow.git');

const objectFormat = async ({ worktree }: Repository, deadlineMs: number): Promise<string> => {
  const said = await git(['rev-parse', '--show-object-format'], {
    cwd: worktree,
    deadlineMs,
    maxBytes: 64 * 1024,
  });
  if (said.code !== 0) throw gitFailed('git does not know this worktree', said.stderr);
  return said.stdout.toString('utf8').trim();
};

/** What `git init --bare` writes, and nothing more. */
const KNOWN_CONFIG =
  /^(?:\[core\]|\[extensions\]|\s*(?:repositoryformatversion|filemode|bare|ignorecase|symlinks|precomposeunicode|objectformat|logallrefupdates) = \w+)$/u;

/**
 * The configuration of a shadow that is as khlone made it: a clone may write to a git directory, and a filter named in
 * here would run outside of its view.
 */
const ownConfig = async (dir: string): Promise<string | undefined> => {
  const read = (name: string): Promise<string> => readText(join(dir, name)).catch(() => '?');
  const [isElsewhere, attributes, config] = await Promise.all([
    exists(join(dir, 'commondir')),
    read('info/attributes'),
    read('config'),
  ]);
  if (isElsewhere || attributes !== RAW_ATTRIBUTES) return undefined;
  const lines = config.split('\n').filter((line) => line.trim() !== '');
  return lines.every((line) => KNOWN_CONFIG.test(line)) ? config : undefined;
};

const makeAnew = async (repository: Repository, dir: string, deadlineMs: number): Promise<string> => {
  await rm(dir, { recursive: true, force: true });
  await makeShadow(dir, await objectFormat(repository, deadlineMs), deadlineMs);
  return readText(join(dir, 'config'));
};

/** Opens the shadow of a worktree, made when there is none. `deadlineMs` bounds each git that runs in it. */
export const openShadow = async (
  repository: Repository,
  dir: string,
  deadlineMs: number,
): Promise<Shadow> => {
  const config = (await ownConfig(dir)) ?? (await makeAnew(repository, dir, deadlineMs));
  const sha256 = /objectformat\s*=\s*sha256/iu.test(config);
  const env = (index?: string): Record<string, string> => ({
    ...PRIVATE_CONFIG,
    GIT_DIR: dir,
    GIT_WORK_TREE: repository.worktree,
    GIT_INDEX_FILE: index ?? join(dir, 'index'),
    GIT_ALTERNATE_OBJECT_DIRECTORIES: quotedFolder(join(repository.commonDir, 'objects')),
    GIT_NO_REPLACE_OBJECTS: '1',
  });
  return {
    dir,
    worktree: repository.worktree,
    env,
    config: CONFIG,
    zeroId: '0'.repeat(sha256 ? 64 : 40),
    stores: [join(dir, 'objects'), join(repository.commonDir, 'objects')],
    keepsModes: !/(?:filemode|symlinks)\s*=\s*false/iu.test(config),
    run: (args, more = {}) =>
      git([...CONFIG, ...args], {
        cwd: repository.worktree,
        env: env(more.index),
        deadlineMs,
        maxBytes: more.maxBytes ?? MAX_LISTING_BYTES,
        ...(more.input !== undefined && { input: more.input }),
      }),
  };
};
