import {
  closeSync,
  constants,
  existsSync,
  fstatSync,
  lstatSync,
  openSync,
  readFileSync,
  readlinkSync,
  type Stats,
  statSync,
} from 'node:fs';
import { basename, dirname, join, resolve } from 'node:path';

/**
 * The files of a git directory as git itself reads them: no process is started here. All is synchronous on purpose:
 * these are a dozen looks at files that lie in the kernel's cache, a few µs each, and every dispatch waits for them,
 * while each visit to the thread pool costs two wake-ups (measured: 2 ms for all of them instead of 0.1 ms).
 */

export type GitFolder = {
  /** The working directory's top, as a real path. */
  root: string;
  gitDir: string;
  /** Shared by all worktrees of a repository; equals gitDir in the main one. */
  commonDir: string;
};

/** What a cwd is, where it is not inside a worktree. */
export type NoWorktree = { none: 'outside' | 'bare' | 'broken'; at: string };

/** HEAD, `.git` and `commondir` files are one short line; more than this is not git's. */
const MAX_LINE_BYTES = 64 * 1024;
const MAX_PACKED_REFS_BYTES = 64 * 1024 * 1024;

/** What a failing system call answers where every failure means the same. */
const orNone = <T>(look: () => T): T | undefined => {
  try {
    return look();
  } catch {
    return undefined;
  }
};

const statOf = (path: string): Stats | undefined => orNone(() => statSync(path, { throwIfNoEntry: false }));

const readOpened = (file: number): string | undefined => {
  const facts = fstatSync(file);
  if (!facts.isFile() || facts.size > MAX_LINE_BYTES) return undefined;
  return readFileSync(file, 'utf8').replace(/[\r\n]+$/u, '');
};

/** The first bytes of a small file of git, or undefined where it is absent, no file, or too large. */
const readLine = (path: string): string | undefined => {
  // Most of these files are absent, and an error that is thrown costs more than a look.
  if (!existsSync(path)) return undefined;
  // A fifo named HEAD would block an ordinary open for ever.
  const file = orNone(() => openSync(path, constants.O_RDONLY | constants.O_NONBLOCK));
  if (file === undefined) return undefined;
  try {
    return orNone(() => readOpened(file));
  } finally {
    closeSync(file);
  }
};

/** Where a symbolic link leads; undefined for anything else. */
const linkOf = (path: string): string | undefined =>
  orNone(() =>
    lstatSync(path, { throwIfNoEntry: false })?.isSymbolicLink() ? readlinkSync(path) : undefined,
  );

export type Head = { branch: string } | { commit: string };

/** What HEAD names: a branch (born or not), another ref by its name, or a commit. Undefined where it is not git's. */
export const readHead = (gitDir: string): Head | undefined => {
  const path = join(gitDir, 'HEAD');
  // An old repository's HEAD may be a link to the branch's own file, which is not there while the branch is unborn.
  const link = linkOf(path);
  const text = readLine(path);
  const ref = /^ref:[ \t]*(refs\/.+)$/su.exec(link === undefined ? (text ?? '') : `ref: ${link}`)?.[1];
  if (ref !== undefined) return { branch: ref.replace(/^refs\/(heads\/)?/u, '') };
  const commit = /^(?:[0-9a-f]{40}|[0-9a-f]{64})$/u.exec(text ?? '')?.[0];
  return commit === undefined ? undefined : { commit };
};

/** Where git writes down which branch it took HEAD from for a while, and what brings that back. */
const PAUSES: readonly { file: string; what: string; end: string }[] = [
  { file: 'rebase-merge/head-name', what: 'rebase', end: 'git rebase --continue or --abort' },
  { file: 'rebase-apply/head-name', what: 'rebase', end: 'git rebase --continue or --abort' },
  { file: 'BISECT_START', what: 'bisect', end: 'git bisect reset' },
];

/** What keeps HEAD from a branch until it is finished; undefined where nothing does. */
export const readPause = (gitDir: string, branch: string): { what: string; end: string } | undefined =>
  PAUSES.find(({ file }) => {
    const name = readLine(join(gitDir, file));
    return name === branch || name === `refs/heads/${branch}`;
  });

/**
 * The common directory of a git directory, by git's own test: a valid HEAD there, and objects and refs in what all
 * worktrees share. Undefined for any other folder.
 */
const commonOf = (gitDir: string): string | undefined => {
  if (!readHead(gitDir)) return undefined;
  const named = readLine(join(gitDir, 'commondir'));
  const common = named ? resolve(gitDir, named) : gitDir;
  return existsSync(join(common, 'objects')) && existsSync(join(common, 'refs')) ? common : undefined;
};

/** Known here: `.git` in this folder is a file, as in linked worktrees and submodules. */
const byFile = (folder: string): GitFolder | NoWorktree => {
  const dotGit = join(folder, '.git');
  const target = /^gitdir: (.+)$/su.exec(readLine(dotGit) ?? '')?.[1];
  const gitDir = target === undefined ? undefined : resolve(folder, target);
  const commonDir = gitDir === undefined ? undefined : commonOf(gitDir);
  if (gitDir === undefined || commonDir === undefined) return { none: 'broken', at: dotGit };
  return { root: folder, gitDir, commonDir };
};

/** What one folder is: a worktree's top, a bare repository, a `.git` file that leads nowhere, or nothing. */
const look = (folder: string): GitFolder | NoWorktree | undefined => {
  const dotGit = statOf(join(folder, '.git'));
  if (dotGit?.isFile()) return byFile(folder);
  if (dotGit?.isDirectory()) {
    const gitDir = join(folder, '.git');
    const commonDir = commonOf(gitDir);
    if (commonDir !== undefined) return { root: folder, gitDir, commonDir };
  }
  const bare: NoWorktree = { none: 'bare', at: folder };
  return commonOf(folder) === undefined ? undefined : bare;
};

/**
 * Walks from a real path up to the git worktree around it, as git does: an invalid `.git` folder is passed by, a
 * `.git` file that leads nowhere ends the search, and so does the border of a file system.
 */
export const findGitFolder = (from: string): GitFolder | NoWorktree => {
  const outside: NoWorktree = { none: 'outside', at: from };
  let device: number | undefined;
  for (let folder = from; ; folder = dirname(folder)) {
    const self = statOf(folder);
    device ??= self?.dev;
    if (self?.dev !== device) return outside;
    const found = look(folder);
    if (found) return found;
    if (dirname(folder) === folder) return outside;
  }
};

/** The commit at the tip of a branch, or undefined while the branch is unborn. */
export const readTip = (commonDir: string, branch: string): string | undefined => {
  const name = `refs/heads/${branch}`;
  // A branch cannot be named "..": a HEAD that says so is hostile.
  if (name.split('/').includes('..')) return undefined;
  const loose = readLine(join(commonDir, name));
  if (loose !== undefined && /^[0-9a-f]{40,64}$/u.test(loose)) return loose;
  const packed = join(commonDir, 'packed-refs');
  const facts = statOf(packed);
  if (!facts?.isFile() || facts.size > MAX_PACKED_REFS_BYTES) return undefined;
  const text = `\n${orNone(() => readFileSync(packed, 'utf8')) ?? ''}`;
  const at = text.indexOf(` ${name}\n`);
  return at < 0 ? undefined : text.slice(text.lastIndexOf('\n', at) + 1, at);
};

/** The folder that a person would call this repository by, shared by all its worktrees. */
export const repositoryFolder = (folder: GitFolder): string => {
  const name = basename(folder.commonDir);
  if (name.startsWith('.')) return basename(dirname(folder.commonDir)) || basename(folder.root);
  return name.replace(/\.git$/u, '') || basename(folder.root);
};
