import { execFileSync, spawnSync } from 'node:child_process';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { openSshWire } from '../src/client/link/ssh2.ts';
import { seedState } from '../src/client/patches/seed.ts';
import type { StepPlace } from '../src/client/patches/steps.ts';
import { packWorktree } from '../src/patch/carry.ts';
import { MAX_FILE_BYTES } from '../src/patch/left-out.ts';
import { PROTOCOL } from '../src/protocol/limits.ts';
import { createPeer, type Peer } from '../src/protocol/peer.ts';
import type { Sshd } from '../test/fixtures/sshd.ts';

/** The trees that patches are measured with, and a zone that has one of them. */

export const COMMAND_LIMIT_MS = 120_000;
const FILES_PER_FOLDER = 50;
const BUNDLE = resolve(import.meta.dirname, '../dist/khlone-server.mjs');
export const CHOICE = { maxFileBytes: MAX_FILE_BYTES, include: [], exclude: [] };

const textOf = (n: number, round = -1): string =>
  `${Array.from({ length: 20 }, (_, i) => `line ${i} of file ${n}`).join('\n')}\nround ${round}\n`;

const fileOf = (n: number): string => join(`d${Math.floor(n / FILES_PER_FOLDER)}`, `f${n}.txt`);

export const makeTree = (root: string, files: number): void => {
  for (let n = 0; n < files; n += 1) {
    if (n % FILES_PER_FOLDER === 0) mkdirSync(join(root, `d${n / FILES_PER_FOLDER}`), { recursive: true });
    writeFileSync(join(root, fileOf(n)), textOf(n));
  }
};

export type Contender = {
  name: string;
  once(round: number): Promise<void> | void;
  /** What goes on after the file is there, and is no part of the figure. */
  settle?(): Promise<void>;
  end?(): Promise<void>;
};
export type Ground = { sshd: Sshd; env: Record<string, string>; control: string; near: string; root: string };

export const git = (cwd: string, ...words: string[]): string =>
  execFileSync('git', ['-c', 'user.name=b', '-c', 'user.email=b@localhost', '-c', 'gc.auto=0', ...words], {
    cwd,
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'ignore'],
  });

export const edit = (root: string, round: number): string => {
  const file = fileOf(round * 7);
  writeFileSync(join(root, file), textOf(round * 7, round));
  return file;
};

/** The edit has to be on the other side, or the figure means nothing. */
export const expectThere = (far: string, file: string, round: number, who: string): void => {
  if (!readFileSync(join(far, file), 'utf8').includes(`round ${round}\n`))
    throw new Error(`${who} did not bring it`);
};

export const run = (env: Record<string, string>, argv: string[], cwd: string): void => {
  const options = { cwd, env, encoding: 'utf8', timeout: COMMAND_LIMIT_MS } as const;
  const { status, stderr } = spawnSync(argv[0] ?? '', argv.slice(1), options);
  if (status !== 0) throw new Error(`${argv.slice(0, 3).join(' ')}: ${status} ${stderr.slice(0, 500)}`);
};

export const openPeer = async ({ sshd, env, root }: Ground): Promise<{ peer: Peer; close(): void }> => {
  const deps = { serverBundle: BUNDLE, version: 'bench', signal: new AbortController().signal };
  const wire = await openSshWire({ host: sshd.host, home: root, env }, undefined, deps);
  const peer = createPeer(wire.duplex, {});
  await peer.call('hello', { proto: [PROTOCOL.min, PROTOCOL.max], build: 'bench' });
  return { peer, close: wire.close };
};

/** The anchors begin in step, as khlone does: what their first run takes is nobody's figure. */
export const copyTree = (from: string, to: string): void => void execFileSync('cp', ['-a', from, to]);

/** The zone's worktree, and the one of this machine that belongs to it; both have the same files. */
export type BenchZone = { place: StepPlace; near: string; far: string };

export const openZone = async (
  peer: Peer,
  { sshd }: Ground,
  near: string,
  id: string,
  name: string,
): Promise<BenchZone> => {
  const far = join(sshd.remoteHome, name);
  const gitDir = join(near, '.git');
  const place: StepPlace = {
    repository: { worktree: near, gitDir, commonDir: gitDir },
    zone: id,
    choice: CHOICE,
  };
  const policy = {
    ...{ heroRole: 'mechanic', brains: {}, roles: { mechanic: '' }, maxClones: 8, maxQueue: 100 },
    ...{ sandbox: 'zone', trusted: true },
  };
  const zone = { id, address: `b/${name}@main`, branch: 'main', mode: 'ssh', path: far };
  await peer.call('zone.open', { zone, policy });
  const { manifest, body } = await packWorktree({
    ...place.repository,
    ...{ history: 'branch', maxFileBytes: MAX_FILE_BYTES, include: [], exclude: [] },
  });
  await peer.call('code.put', { zone: id, manifest }, { body, klass: 'bulk', timeoutMs: COMMAND_LIMIT_MS });
  await seedState(place.repository, id, CHOICE, manifest.tree);
  return { place, near, far };
};
