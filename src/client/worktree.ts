import { type BigIntStats, realpathSync, statSync } from 'node:fs';
import { homedir } from 'node:os';
import { join, resolve } from 'node:path';
import { isOwnershipRefusal, type RunGit, git as runGit } from '../patch/git.ts';
import { KhloneError } from '../protocol/error.ts';
import { oneLine } from '../protocol/sanitize.ts';
import {
  findGitFolder,
  type GitFolder,
  type NoWorktree,
  readHead,
  readTip,
  repositoryFolder,
} from './git-folder.ts';
import { addressBranch, addressPart, formatAddress, type Origin, parseOrigin } from './origin.ts';

/** One git worktree of this machine. Every name in it was chosen by a stranger: sanitize before printing. */
export type Worktree = GitFolder & {
  /** The branch as git names it; the first 7 digits of the commit where HEAD is detached. */
  branch: string;
  detached: boolean;
  org: string;
  repo: string;
  /** `org/repo@branch`, in letters that the address grammar takes. */
  address: string;
  /** The commit that is checked out; absent while the branch is unborn. */
  head?: string;
};

/** What git alone can say about a repository: its configuration with all includes. */
type Settings = { origin: Origin | undefined; bare: boolean; top: string | undefined };

const CONFIG_DEADLINE_MS = 5_000;
const MAX_CONFIG_BYTES = 1024 * 1024;
const MAX_REMEMBERED = 256;
const WANTED = '^(remote\\.origin\\.url|core\\.bare|core\\.worktree|url\\..*\\.insteadof)$';

/** Settings by common directory, each valid for one state of the repository's config file. */
const remembered = new Map<string, { key: string; settings: Settings }>();

/** The person's own configuration, where insteadOf rules and includes stand. */
const PERSONAL = [
  join(homedir(), '.gitconfig'),
  join(process.env.XDG_CONFIG_HOME || join(homedir(), '.config'), 'git', 'config'),
];

/** Identifies one state of the config files; git writes them by rename, so inode, time and size change together. */
const configKey = (folder: GitFolder): string => {
  const files = [join(folder.commonDir, 'config'), join(folder.gitDir, 'config.worktree'), ...PERSONAL];
  return files
    .map(factsOf)
    .map((f) => (f ? `${f.mtimeNs}.${f.ctimeNs}.${f.size}.${f.ino}` : '-'))
    .join(' ');
};

const factsOf = (path: string): BigIntStats | undefined => {
  try {
    return statSync(path, { bigint: true, throwIfNoEntry: false });
  } catch {
    return undefined;
  }
};

const realPathOf = (path: string): string | undefined => {
  try {
    return realpathSync.native(path);
  } catch {
    return undefined;
  }
};

/** Git answers nothing about a repository of another user, and its config command does not even say so. */
const refuseStrangers = async (folder: GitFolder, git: RunGit): Promise<void> => {
  const facts = [folder.root, folder.gitDir].map((path) => statSync(path));
  if (facts.every((one) => one.uid === process.geteuid?.())) return;
  const options = { cwd: folder.root, deadlineMs: CONFIG_DEADLINE_MS, maxBytes: MAX_CONFIG_BYTES };
  const { stderr } = await git(['rev-parse', '--git-dir'], options);
  if (!isOwnershipRefusal(stderr)) return;
  throw new KhloneError(
    'denied',
    `git does not trust ${oneLine(folder.root, 200)}: it belongs to another user`,
    `git config --global --add safe.directory '${oneLine(folder.root, 200)}'`,
  );
};

/** The url with the longest matching insteadOf applied, as git does it. */
const rewritten = (url: string, rules: readonly { base: string; prefix: string }[]): string => {
  const [best] = rules
    .filter(({ prefix }) => url.startsWith(prefix))
    .sort((a, b) => b.prefix.length - a.prefix.length);
  return best ? best.base + url.slice(best.prefix.length) : url;
};

/** Settings out of `git config --null`: entries of "key\nvalue\0", section names in lower case. */
const parseSettings = (output: string): Settings => {
  const entries = output
    .split('\0')
    .filter(Boolean)
    .map((entry) => {
      const at = entry.indexOf('\n');
      return at < 0 ? { key: entry, value: 'true' } : { key: entry.slice(0, at), value: entry.slice(at + 1) };
    });
  const last = (key: string) => entries.findLast((entry) => entry.key === key)?.value;
  const rules = entries
    .filter(({ key, value }) => key.startsWith('url.') && value !== '')
    .map(({ key, value }) => ({ base: key.slice('url.'.length, -'.insteadof'.length), prefix: value }));
  // The first url is the one that git fetches from.
  const url = entries.find(({ key, value }) => key === 'remote.origin.url' && value !== '')?.value;
  return {
    origin: url === undefined ? undefined : parseOrigin(rewritten(url, rules)),
    bare: /^(true|yes|on|[1-9]\d*)$/iu.test(last('core.bare') ?? 'false'),
    top: last('core.worktree'),
  };
};

/** Runs git once per state of the config file; afterwards a few stats answer. */
const settingsOf = async (folder: GitFolder, git: RunGit): Promise<Settings> => {
  const key = configKey(folder);
  const known = remembered.get(folder.gitDir);
  if (known?.key === key) return known.settings;
  await refuseStrangers(folder, git);
  const { code, stdout, stderr } = await git(['config', '--null', '--get-regexp', WANTED], {
    cwd: folder.root,
    deadlineMs: CONFIG_DEADLINE_MS,
    maxBytes: MAX_CONFIG_BYTES,
  });
  // 1 says that nothing matched; anything above says that the file is wrong.
  if (code > 1) {
    throw new KhloneError('no-repository', `git cannot read its configuration: ${oneLine(stderr, 200)}`);
  }
  const settings = parseSettings(stdout.toString('utf8'));
  if (remembered.size >= MAX_REMEMBERED) remembered.clear();
  remembered.set(folder.gitDir, { key, settings });
  return settings;
};

/** Whether git takes this folder for the top of a worktree: not bare, and not pointed at files somewhere else. */
const isTop = (folder: GitFolder, { bare, top }: Settings): boolean => {
  if (top !== undefined && folder.commonDir === folder.gitDir) {
    return realPathOf(resolve(folder.gitDir, top)) === folder.root;
  }
  // A linked worktree of a bare repository is a worktree all the same.
  return !bare || folder.commonDir !== folder.gitDir;
};

/** Reftable repositories keep HEAD elsewhere and leave a stub, so there git has to be asked. */
const headOf = async (folder: GitFolder, git: RunGit) => {
  const head = readHead(folder.gitDir);
  if (!head || !('branch' in head) || head.branch !== '.invalid') return head;
  const options = { cwd: folder.root, deadlineMs: CONFIG_DEADLINE_MS, maxBytes: MAX_CONFIG_BYTES };
  const named = await git(['symbolic-ref', '--quiet', 'HEAD'], options);
  if (named.code === 0)
    return {
      branch: named.stdout
        .toString('utf8')
        .trim()
        .replace(/^refs\/(heads\/)?/u, ''),
    };
  const commit = await git(['rev-parse', '--verify', 'HEAD'], options);
  return commit.code === 0 ? { commit: commit.stdout.toString('utf8').trim() } : undefined;
};

const describe = async (
  folder: GitFolder,
  settings: Settings,
  git: RunGit,
): Promise<Worktree | undefined> => {
  const head = await headOf(folder, git);
  if (!head) return undefined;
  const detached = 'commit' in head;
  const branch = detached ? head.commit.slice(0, 7) : head.branch;
  const tip = detached ? head.commit : readTip(folder.commonDir, head.branch);
  const origin = settings.origin ?? { org: 'local', repo: addressPart(repositoryFolder(folder)) };
  return {
    ...folder,
    branch,
    detached,
    ...origin,
    address: formatAddress(origin, addressBranch(branch)),
    ...(tip === undefined ? {} : { head: tip }),
  };
};

const locate = async (cwd: string, git: RunGit): Promise<Worktree | NoWorktree> => {
  const outside: NoWorktree = { none: 'outside', at: cwd };
  const from = realPathOf(cwd);
  if (from === undefined) return outside;
  const found = findGitFolder(from);
  if ('none' in found) return found;
  const gitDir = realpathSync.native(found.gitDir);
  const commonDir = found.commonDir === found.gitDir ? gitDir : realpathSync.native(found.commonDir);
  const folder: GitFolder = { root: found.root, gitDir, commonDir };
  const settings = await settingsOf(folder, git);
  if (!isTop(folder, settings)) return { none: 'bare', at: folder.gitDir };
  return (await describe(folder, settings, git)) ?? outside;
};

/**
 * The git worktree around a folder, or undefined outside of one (bare repositories included). Starts git only when
 * the repository's configuration changed since it was last asked in this process. Throws `denied` where git refuses
 * a repository of another user (safe.directory), `no-repository` where its configuration cannot be read.
 */
export const findWorktree = async (cwd: string, git: RunGit = runGit): Promise<Worktree | undefined> => {
  const found = await locate(cwd, git);
  return 'none' in found ? undefined : found;
};

const REASONS: Readonly<Record<NoWorktree['none'], readonly [string, string]>> = {
  outside: ['not inside a git repository', 'cd into one, or name a zone with --zone'],
  bare: ['a bare repository has no files to work on', 'git worktree add, then work there'],
  broken: ['this .git file leads to no git directory', 'git worktree repair, from the main worktree'],
};

/** Like findWorktree, for commands that cannot go on without one: throws `no-repository` and says why. */
export const requireWorktree = async (cwd: string, git: RunGit = runGit): Promise<Worktree> => {
  const found = await locate(cwd, git);
  if (!('none' in found)) return found;
  const [what, hint] = REASONS[found.none];
  throw new KhloneError('no-repository', `${what}: ${oneLine(found.at, 200)}`, hint);
};
