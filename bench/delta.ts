import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { deflateSync } from 'node:zlib';
import { sealEnvelope } from '../src/patch/envelope.ts';
import { openShadow, shadowDirOf } from '../src/patch/shadow.ts';
import { snapshotTree } from '../src/patch/snapshot.ts';
import { against, type Row } from './row.ts';

/** The bytes of a patch beside `git diff --binary` through zlib, for what people and clones do to a worktree. */

const GIT_DEADLINE_MS = 60_000;
const MAX_DIFF_BYTES = 256 * 1024 * 1024;
const SOURCES = 120;
const TEXT_REACH = 1;
const LARGE_REACH = 0.7;

/** Bytes that compress badly and are the same in each run. */
const noise = (seed: string, bytes: number): Buffer => {
  const pieces: Buffer[] = [];
  for (let n = 0; n * 32 < bytes; n += 1) pieces.push(createHash('sha256').update(`${seed}${n}`).digest());
  return Buffer.concat(pieces).subarray(0, bytes);
};

const WORDS =
  'const return await queue clone zone value import string number if else for of map filter'.split(' ');

const source = (n: number): string =>
  Array.from({ length: 150 }, (_, i) => {
    const word = (k: number): string =>
      WORDS[(n * 31 + i * 17 + k * k * 7 + (i % 5) * n) % WORDS.length] ?? '';
    return `  ${word(1)} ${word(2)}${i} = ${word(3)}(${word(4)}, ${(n * 7919 + i * 104729) % 9973});`;
  }).join('\n');

type Scene = { name: string; reach: number; change(at: (name: string) => string): void };

const rewrite = (file: string, by: (text: string) => string): void =>
  writeFileSync(file, by(readFileSync(file, 'utf8')));

const sourceName = (n: number): string => `src/s${n}.ts`;

const SCENES: readonly Scene[] = [
  {
    ...{ name: 'one line', reach: TEXT_REACH },
    change: (at) =>
      rewrite(at(sourceName(3)), (text) => text.replace(/70 = .*/, '70 = another(clone, 1234);')),
  },
  {
    ...{ name: 'edits in 12 files, 3 new ones', reach: TEXT_REACH },
    change: (at) => {
      for (let n = 0; n < 12; n += 1)
        rewrite(at(sourceName(n)), (text) => text.replaceAll(/^.*(?:30|31|90) = .*$/gm, `  // step ${n}`));
      for (let n = 0; n < 3; n += 1) writeFileSync(at(`src/new${n}.ts`), source(500 + n));
    },
  },
  {
    ...{ name: 'a name changed in 120 files', reach: TEXT_REACH },
    change: (at) => {
      for (let n = 0; n < SOURCES; n += 1)
        rewrite(at(sourceName(n)), (text) => text.replaceAll('filter(', 'select('));
    },
  },
  {
    ...{ name: 'an image of 1 MB, changed in places', reach: LARGE_REACH },
    change: (at) => {
      const bytes = readFileSync(at('image.bin'));
      for (let n = 0; n < 20; n += 1) noise(`patch${n}`, 500).copy(bytes, n * 50_000);
      writeFileSync(at('image.bin'), bytes);
    },
  },
  {
    ...{ name: 'a large generated file, one part moved', reach: LARGE_REACH },
    change: (at) =>
      rewrite(at('large.json'), (text) => {
        const half = text.length / 2;
        return `${text.slice(half)}${text.slice(0, half)}`;
      }),
  },
  {
    ...{ name: 'a folder of 40 files renamed, a line edited in each', reach: TEXT_REACH },
    change: (at) => {
      mkdirSync(at('lib'));
      for (let n = 0; n < 40; n += 1) {
        writeFileSync(
          at(`lib/s${n}.ts`),
          readFileSync(at(sourceName(n)), 'utf8').replace(/60 = .*/, `60 = moved(${n});`),
        );
        rmSync(at(sourceName(n)));
      }
    },
  },
];

const git = (cwd: string, ...words: string[]): Buffer =>
  execFileSync('git', ['-c', 'user.name=b', '-c', 'user.email=b@localhost', ...words], {
    ...{ cwd, maxBuffer: MAX_DIFF_BYTES, stdio: ['ignore', 'pipe', 'ignore'] },
  });

const layOut = (worktree: string): void => {
  mkdirSync(join(worktree, 'src'), { recursive: true });
  for (let n = 0; n < SOURCES; n += 1) writeFileSync(join(worktree, sourceName(n)), source(n));
  writeFileSync(join(worktree, 'image.bin'), noise('image', 1_000_000));
  const rows = Array.from({ length: 40_000 }, (_, i) => ({
    id: i,
    hash: noise(`row${i}`, 16).toString('hex'),
  }));
  writeFileSync(join(worktree, 'large.json'), rows.map((row) => JSON.stringify(row)).join('\n'));
  git(worktree, 'init', '-q', '-b', 'main');
  git(worktree, 'add', '-A');
  git(worktree, 'commit', '-q', '-m', 'first');
};

const measure = async (root: string, { name, reach, change }: Scene): Promise<Row> => {
  const worktree = mkdtempSync(join(root, 'scene-'));
  layOut(worktree);
  const gitDir = join(worktree, '.git');
  const repository = { worktree, gitDir, commonDir: gitDir };
  const shadowDir = shadowDirOf(gitDir);
  const wish = { ...repository, shadowDir, deadlineMs: GIT_DEADLINE_MS };
  const before = await snapshotTree(wish);
  change((file) => join(worktree, file));
  const after = await snapshotTree(wish);
  const shadow = await openShadow(repository, shadowDir, GIT_DEADLINE_MS);
  const { envelope } = await sealEnvelope(
    shadow,
    { base: before.tree, result: after.tree },
    join(root, 'payload'),
  );
  git(worktree, 'add', '-A');
  const diff = deflateSync(git(worktree, 'diff', '--binary', '--cached', 'HEAD'));
  const anchor = { name: 'git diff --binary, zlib', value: diff.length };
  return against(`patch: ${name}`, envelope.bytes, 'bytes', anchor, reach);
};

export const benchDelta = async (): Promise<Row[]> => {
  const root = mkdtempSync(join(tmpdir(), 'khlone-bench-'));
  try {
    const rows: Row[] = [];
    for (const scene of SCENES) rows.push(await measure(root, scene));
    return rows;
  } finally {
    rmSync(root, { recursive: true, force: true });
  }
};
