import { constants, type Stats } from 'node:fs';
import { access, lstat, open, readFile, readlink, stat } from 'node:fs/promises';
import { basename, dirname, join, resolve } from 'node:path';

/** The files of a git directory as git itself reads them: no process is started here. */

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

/** The first bytes of a small file of git, or undefined where it is absent, no file, or too large. */
const readLine = async (path: string): Promise<string | undefined> => {
  // A fifo named HEAD would block an ordinary open for ever.
  const file = await open(path, constants.O_RDONLY | constants.O_NONBLOCK).catch(() => undefined);
  if (!file) return undefined;
  try {
    const facts = await file.stat();
    if (!facts.isFile() || facts.size > MAX_LINE_BYTES) return undefined;
    return (await file.readFile('utf8')).replace(/[\r\n]+$/u, '');
  } catch {
    return undefined;
  } finally {
    await file.close();
  }
};

const exists = async (path: string): Promise<boolean> =>
  access(path).then(
    () => true,
    () => false,
  );

export type Head = { branch: string } | { commit: string };

/** What HEAD names: a branch (born or not), another ref by its name, or a commit. Undefined where it is not git's. */
export const readHead = async (gitDir: string): Promise<Head | undefined> => {
  const path = join(gitDir, 'HEAD');
  // An old repository's HEAD may be a link to the branch's own file.
  const [text, link] = await Promise.all([readLine(path), readlink(path).catch(() => undefined)]);
  const ref = /^ref:[ \t]*(refs\/.+)$/su.exec(link === undefined ? (text ?? '') : `ref: ${link}`)?.[1];
  if (ref !== undefined) return { branch: ref.replace(/^refs\/(heads\/)?/u, '') };
  const commit = /^(?:[0-9a-f]{40}|[0-9a-f]{64})$/u.exec(text ?? '')?.[0];
  return commit === undefined ? undefined : { commit };
};

/**
 * The common directory of a git directory, by git's own test: a valid HEAD there, and objects and refs in what all
 * worktrees share. Undefined for any other folder.
 */
const commonOf = async (gitDir: string): Promise<string | undefined> => {
  const [head, named] = await Promise.all([readHead(gitDir), readLine(join(gitDir, 'commondir'))]);
  if (!head) return undefined;
  const common = named ? resolve(gitDir, named) : gitDir;
  const whole = await Promise.all([exists(join(common, 'objects')), exists(join(common, 'refs'))]);
  return whole.every(Boolean) ? common : undefined;
};

/** Known here: `.git` in this folder is a file, as in linked worktrees and submodules. */
const byFile = async (folder: string): Promise<GitFolder | NoWorktree> => {
  const dotGit = join(folder, '.git');
  const target = /^gitdir: (.+)$/su.exec((await readLine(dotGit)) ?? '')?.[1];
  const gitDir = target === undefined ? undefined : resolve(folder, target);
  const commonDir = gitDir === undefined ? undefined : await commonOf(gitDir);
  if (gitDir === undefined || commonDir === undefined) return { none: 'broken', at: dotGit };
  return { root: folder, gitDir, commonDir };
};

/** What one folder is: a worktree's top, a bare repository, a `.git` file that leads nowhere, or nothing. */
const look = async (folder: string, dotGit: Stats | undefined, head: Stats | undefined) => {
  if (dotGit?.isFile()) return byFile(folder);
  if (dotGit?.isDirectory()) {
    const gitDir = join(folder, '.git');
    const commonDir = await commonOf(gitDir);
    if (commonDir !== undefined) return { root: folder, gitDir, commonDir };
  }
  const bare: NoWorktree = { none: 'bare', at: folder };
  return head && (await commonOf(folder)) !== undefined ? bare : undefined;
};

/**
 * Walks from a real path up to the git worktree around it, as git does: an invalid `.git` folder is passed by, a
 * `.git` file that leads nowhere ends the search, and so does the border of a file system.
 */
export const findGitFolder = async (from: string): Promise<GitFolder | NoWorktree> => {
  const outside: NoWorktree = { none: 'outside', at: from };
  let device: number | undefined;
  for (let folder = from; ; folder = dirname(folder)) {
    const [self, dotGit, head] = await Promise.all([
      stat(folder).catch(() => undefined),
      stat(join(folder, '.git')).catch(() => undefined),
      lstat(join(folder, 'HEAD')).catch(() => undefined),
    ]);
    device ??= self?.dev;
    if (self?.dev !== device) return outside;
    const found = await look(folder, dotGit, head);
    if (found) return found;
    if (dirname(folder) === folder) return outside;
  }
};

/** The commit at the tip of a branch, or undefined while the branch is unborn. */
export const readTip = async (commonDir: string, branch: string): Promise<string | undefined> => {
  const name = `refs/heads/${branch}`;
  // A branch cannot be named "..": a HEAD that says so is hostile.
  if (name.split('/').includes('..')) return undefined;
  const loose = await readLine(join(commonDir, name));
  if (loose !== undefined && /^[0-9a-f]{40,64}$/u.test(loose)) return loose;
  const packed = join(commonDir, 'packed-refs');
  const facts = await stat(packed).catch(() => undefined);
  if (!facts?.isFile() || facts.size > MAX_PACKED_REFS_BYTES) return undefined;
  const text = `\n${await readFile(packed, 'utf8').catch(() => '')}`;
  const at = text.indexOf(` ${name}\n`);
  return at < 0 ? undefined : text.slice(text.lastIndexOf('\n', at) + 1, at);
};

/** The folder that a person would call this repository by, shared by all its worktrees. */
export const repositoryFolder = (folder: GitFolder): string => {
  const name = basename(folder.commonDir);
  if (name.startsWith('.')) return basename(dirname(folder.commonDir)) || basename(folder.root);
  return name.replace(/\.git$/u, '') || basename(folder.root);
};
