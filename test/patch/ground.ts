import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  chmodSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  realpathSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { type PackWish, packWorktree } from '../../src/patch/carry.ts';
import type { Manifest } from '../../src/patch/manifest.ts';
import type { SnapshotWish } from '../../src/patch/snapshot.ts';
import { unpackWorktree } from '../../src/patch/unpack.ts';

/** Real repositories for tests, each in a temporary folder of its own. */

export const ZONE = 'z-0123456789abcdef';

const GIT_ENV = {
  PATH: process.env.PATH ?? '',
  HOME: '/nonexistent',
  GIT_CONFIG_NOSYSTEM: '1',
  GIT_AUTHOR_NAME: 'a',
  GIT_AUTHOR_EMAIL: 'a@example.org',
  GIT_COMMITTER_NAME: 'c',
  GIT_COMMITTER_EMAIL: 'c@example.org',
};

export const makeGround = () => {
  const dir = realpathSync(mkdtempSync(join(tmpdir(), 'khlone-patch-')));
  return { dir, remove: () => rmSync(dir, { recursive: true, force: true }) };
};

export const gitIn = (cwd: string, ...args: string[]): string =>
  execFileSync('git', args, { cwd, env: GIT_ENV, encoding: 'latin1', stdio: ['ignore', 'pipe', 'ignore'] });

export const put = (root: string, path: string, content: string | Buffer, mode = 0o644): void => {
  const full = join(root, path);
  mkdirSync(dirname(full), { recursive: true });
  rmSync(full, { force: true });
  writeFileSync(full, content);
  chmodSync(full, mode);
};

export const commitAll = (root: string, message: string): string => {
  gitIn(root, 'add', '-A');
  gitIn(root, 'commit', '-q', '--allow-empty', '-m', message);
  return gitIn(root, 'rev-parse', 'HEAD').trim();
};

/** A repository with one commit of a few files. */
export const makeRepo = (dir: string, name = 'near', options: string[] = []): string => {
  const root = join(dir, name);
  mkdirSync(root);
  gitIn(root, 'init', '-q', '-b', 'main', ...options);
  put(root, 'kept.txt', 'kept\n');
  put(root, 'edited.txt', 'one\ntwo\nthree\n');
  put(root, 'staged.txt', 'before\n');
  put(root, 'deleted.txt', 'gone soon\n');
  put(root, 'run.sh', '#!/bin/sh\n');
  put(root, 'folder/inner.txt', 'inner\n');
  put(root, 'turns.txt', 'a file, later a folder\n');
  put(root, '.gitignore', 'ignored*\n');
  commitAll(root, 'first');
  return root;
};

/** Every kind of uncommitted change at once. */
export const makeDirty = (root: string): void => {
  put(root, 'edited.txt', 'one\nTWO\nthree\n');
  put(root, 'staged.txt', 'after\n');
  gitIn(root, 'add', 'staged.txt');
  rmSync(join(root, 'deleted.txt'));
  chmodSync(join(root, 'run.sh'), 0o755);
  rmSync(join(root, 'turns.txt'));
  put(root, 'turns.txt/now.txt', 'a folder\n');
  rmSync(join(root, 'folder'), { recursive: true });
  mkdirSync(join(root, 'elsewhere'));
  put(root, 'elsewhere/inner.txt', 'seen through the link\n');
  symlinkSync('elsewhere', join(root, 'folder'));
  put(root, 'binary.bin', Buffer.from(Array.from({ length: 5000 }, (_, i) => (i * 7) % 256)));
  for (const name of ['with space', 'quo"te', "it's", 'new\nline', 'tab\there', 'é漢字', '-dash', '*']) {
    put(root, `names/${name}`, `${name}\n`);
  }
  writeFileSync(Buffer.concat([Buffer.from(`${root}/names/`), Buffer.from([0xff, 0xfe])]), 'not utf-8\n');
  put(root, 'tool', '#!/bin/sh\necho hi\n', 0o755);
  put(root, 'crlf.txt', 'a\r\nb\r\n');
  put(root, 'ignored.log', 'never\n');
};

const statusOf = (root: string): string[] =>
  gitIn(root, 'status', '--porcelain', '-z', '--untracked-files=all', '--no-renames')
    .split('\0')
    .filter(Boolean);

/** The status without the difference between staged and not: a code per path. */
export const looseStatus = (root: string): string[] =>
  statusOf(root)
    .map((line) => {
      const code = line.slice(0, 2).replace(/[ .]/gu, '');
      return `${code === 'A' || code === 'AM' ? '??' : (code.at(-1) ?? '')} ${line.slice(3)}`.replace(
        /^\?+/u,
        '?',
      );
    })
    .sort();

/** Every file below a folder with its content, so that "untouched" can be said byte for byte. Names may be any bytes. */
export const fingerprint = (root: string, skip: (path: string) => boolean = () => false): string[] => {
  const walk = (path: Buffer): string[] =>
    readdirSync(path, { encoding: 'buffer' }).flatMap((name) => {
      const full = Buffer.concat([path, Buffer.from('/'), name]);
      if (skip(full.toString())) return [];
      const facts = lstatSync(full);
      if (facts.isDirectory()) return walk(full);
      const content = facts.isSymbolicLink() ? readlinkSync(full) : readFileSync(full);
      return [`${full.toString('latin1')} ${createHash('sha256').update(content).digest('hex')}`];
    });
  return walk(Buffer.from(root)).sort();
};

const folderSaid = (root: string, ...args: string[]): string =>
  realpathSync(
    Buffer.from(gitIn(root, 'rev-parse', ...args), 'latin1')
      .toString('utf8')
      .replace(/\n$/u, ''),
  );

export const dirsOf = (root: string) => ({
  worktree: root,
  gitDir: folderSaid(root, '--absolute-git-dir'),
  commonDir: folderSaid(root, '--path-format=absolute', '--git-common-dir'),
});

export const snapshotWish = (root: string, more: Partial<SnapshotWish> = {}): SnapshotWish => {
  const dirs = dirsOf(root);
  return { ...dirs, shadowDir: join(dirs.gitDir, 'khlone', 'shadow.git'), deadlineMs: 30_000, ...more };
};

export const pack = (root: string, more: Partial<PackWish> = {}) =>
  packWorktree({
    ...dirsOf(root),
    history: 'branch',
    maxFileBytes: 10_000_000,
    include: [],
    exclude: [],
    ...more,
  });

/** Builds a worktree at a path as a server does, with the zone's shadow beside it. */
export const unpackAt = (path: string, manifest: Manifest, body: AsyncIterable<Uint8Array>, zone = ZONE) =>
  unpackWorktree({ manifest, body, path, zone, shadowDir: join(dirname(dirname(path)), 'shadows', zone) });

/** Packs one worktree and builds it at a path. */
export const carry = async (from: string, to: string, more: Partial<PackWish> = {}) => {
  const packed = await pack(from, more);
  const made = await unpackAt(to, packed.manifest, packed.body);
  return { ...packed, made };
};

export const bytesOf = async (body: AsyncIterable<Uint8Array>): Promise<Buffer> => {
  const pieces: Uint8Array[] = [];
  for await (const piece of body) pieces.push(piece);
  return Buffer.concat(pieces);
};

export async function* once(bytes: Uint8Array): AsyncGenerator<Uint8Array> {
  yield bytes;
}

/** Waits until the disk gives another time than to what was written before. `probe`: a file of nobody's. */
export const nextTick = (probe: string): void => {
  const timeNow = (): bigint => {
    writeFileSync(probe, '');
    return lstatSync(probe, { bigint: true }).ctimeNs;
  };
  for (const first = timeNow(); timeNow() === first; );
};
