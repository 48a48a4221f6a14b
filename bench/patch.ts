import { execFileSync, spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { openSshWire } from '../src/client/link/ssh2.ts';
import { farOf } from '../src/client/patches/far.ts';
import { seedState } from '../src/client/patches/seed.ts';
import { type StepPlace, sync } from '../src/client/patches/steps.ts';
import { packWorktree } from '../src/patch/carry.ts';
import { MAX_FILE_BYTES } from '../src/patch/left-out.ts';
import { PROTOCOL } from '../src/protocol/limits.ts';
import { createPeer, type Peer } from '../src/protocol/peer.ts';
import { clientEnv, createSshd, type Sshd } from '../test/fixtures/sshd.ts';
import { against, median, type Row } from './row.ts';

/**
 * One edited line, from the save on one side to the file on the other: khlone over its held link, and rsync, unison and
 * git push over a held connection of OpenSSH to the same sshd.
 */

const SIZES = [1_000, 10_000, 50_000];
/** Rounds end when a size took this long, but three are taken: a loaded machine makes a shorter table, not a longer run. */
const SIZE_LIMIT_MS = 40_000;
const MOST_ROUNDS = 7;
const LEAST_ROUNDS = 3;
const COMMAND_LIMIT_MS = 120_000;
const FILES_PER_FOLDER = 50;
const ZONE = 'z-0123456789abcdef';
const BUNDLE = resolve(import.meta.dirname, '../dist/khlone-server.mjs');
const REACH: Readonly<Record<string, number>> = { rsync: 0.5, unison: 0.5, 'git push': 0.4 };
const CHOICE = { maxFileBytes: MAX_FILE_BYTES, include: [], exclude: [] };

const textOf = (n: number, round = -1): string =>
  `${Array.from({ length: 20 }, (_, i) => `line ${i} of file ${n}`).join('\n')}\nround ${round}\n`;

const fileOf = (n: number): string => join(`d${Math.floor(n / FILES_PER_FOLDER)}`, `f${n}.txt`);

const makeTree = (root: string, files: number): void => {
  for (let n = 0; n < files; n += 1) {
    if (n % FILES_PER_FOLDER === 0) mkdirSync(join(root, `d${n / FILES_PER_FOLDER}`), { recursive: true });
    writeFileSync(join(root, fileOf(n)), textOf(n));
  }
};

type Contender = { name: string; once(round: number): Promise<void> | void; end?(): Promise<void> };
type Ground = { sshd: Sshd; env: Record<string, string>; control: string; near: string; root: string };

const git = (cwd: string, ...words: string[]): string =>
  execFileSync('git', ['-c', 'user.name=b', '-c', 'user.email=b@localhost', '-c', 'gc.auto=0', ...words], {
    cwd,
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'ignore'],
  });

const edit = (root: string, round: number): string => {
  const file = fileOf(round * 7);
  writeFileSync(join(root, file), textOf(round * 7, round));
  return file;
};

/** The edit has to be on the other side, or the figure means nothing. */
const expectThere = (far: string, file: string, round: number, who: string): void => {
  if (!readFileSync(join(far, file), 'utf8').includes(`round ${round}\n`))
    throw new Error(`${who} did not bring it`);
};

const run = (env: Record<string, string>, argv: string[], cwd: string): void => {
  const options = { cwd, env, encoding: 'utf8', timeout: COMMAND_LIMIT_MS } as const;
  const { status, stderr } = spawnSync(argv[0] ?? '', argv.slice(1), options);
  if (status !== 0) throw new Error(`${argv.slice(0, 3).join(' ')}: ${status} ${stderr.slice(0, 500)}`);
};

const openPeer = async ({ sshd, env, root }: Ground): Promise<{ peer: Peer; close(): void }> => {
  const deps = { serverBundle: BUNDLE, version: 'bench', signal: new AbortController().signal };
  const wire = await openSshWire({ host: sshd.host, home: root, env }, undefined, deps);
  const peer = createPeer(wire.duplex, {});
  await peer.call('hello', { proto: [PROTOCOL.min, PROTOCOL.max], build: 'bench' });
  return { peer, close: wire.close };
};

const khlone = async (ground: Ground, files: number): Promise<Contender> => {
  const { peer, close } = await openPeer(ground);
  const near = join(ground.near, 'khlone');
  const far = join(ground.sshd.remoteHome, `khlone-${files}`);
  const gitDir = join(near, '.git');
  const place: StepPlace = {
    repository: { worktree: near, gitDir, commonDir: gitDir },
    zone: ZONE,
    choice: CHOICE,
  };
  const policy = {
    ...{ heroRole: 'mechanic', brains: {}, roles: { mechanic: '' }, maxClones: 8, maxQueue: 100 },
    ...{ sandbox: 'zone', trusted: true },
  };
  const zone = { id: ZONE, address: 'b/b@main', branch: 'main', mode: 'ssh', path: far };
  await peer.call('zone.open', { zone, policy });
  const { manifest, body } = await packWorktree({
    ...place.repository,
    ...{ history: 'branch', maxFileBytes: MAX_FILE_BYTES, include: [], exclude: [] },
  });
  await peer.call('code.put', { zone: ZONE, manifest }, { body, klass: 'bulk', timeoutMs: COMMAND_LIMIT_MS });
  await seedState(place.repository, ZONE, CHOICE, manifest.tree);
  return {
    name: 'khlone',
    once: async (round) => {
      const file = edit(near, round);
      await sync(place, farOf(peer, ZONE, CHOICE), { yes: true, branch: 'main' });
      expectThere(far, file, round, 'khlone');
    },
    end: async () => {
      await peer.call('stop', { keep: false }).catch(() => {});
      await peer.closed;
      close();
    },
  };
};

const rsync = ({ sshd, env, control, near }: Ground, files: number): Contender => {
  const [from, far] = [join(near, 'rsync'), join(sshd.remoteHome, `rsync-${files}`)];
  copyTree(from, far);
  const argv = ['rsync', '-az', '--delete', '-e', `ssh -S ${control}`, `${from}/`, `${sshd.host}:${far}/`];
  run(env, argv, from);
  return {
    name: 'rsync',
    once: (round) => {
      const file = edit(from, round);
      run(env, argv, from);
      expectThere(far, file, round, 'rsync');
    },
  };
};

const unison = ({ sshd, env, control, near }: Ground, files: number): Contender => {
  const [from, far] = [join(near, 'unison'), join(sshd.remoteHome, `unison-${files}`)];
  copyTree(from, far);
  const words = ['-batch', '-silent', '-auto', '-sshargs', `-S ${control}`];
  const argv = ['unison', from, `ssh://${sshd.host}/${far}`, ...words];
  run(env, argv, from);
  return {
    name: 'unison',
    once: (round) => {
      const file = edit(from, round);
      run(env, argv, from);
      expectThere(far, file, round, 'unison');
    },
  };
};

const gitPush = ({ sshd, env, control, near }: Ground, files: number): Contender => {
  const [from, far] = [join(near, 'push'), join(sshd.remoteHome, `push-${files}`)];
  copyTree(from, far);
  git(far, 'config', 'receive.denyCurrentBranch', 'updateInstead');
  const own = { ...env, GIT_SSH_COMMAND: `ssh -S ${control}` };
  const push = ['git', '-c', 'gc.auto=0', 'push', '-q', `${sshd.host}:${far}`, 'main'];
  run(own, push, from);
  return {
    name: 'git push',
    once: (round) => {
      const file = edit(from, round);
      git(from, 'add', '-A');
      git(from, 'commit', '-q', '-m', `round ${round}`);
      run(own, push, from);
      expectThere(far, file, round, 'git push');
    },
  };
};

/** The anchors begin in step, as khlone does: what their first run takes is nobody's figure. */
const copyTree = (from: string, to: string): void => void execFileSync('cp', ['-a', from, to]);

const has = (program: string): boolean => {
  const isHere = spawnSync('sh', ['-c', `command -v ${program}`]).status === 0;
  if (!isHere) console.error(`no figures beside ${program}, which is not installed`);
  return isHere;
};

const layTrees = (near: string, files: number): void => {
  makeTree(join(near, 'khlone'), files);
  for (const name of ['rsync', 'unison', 'push']) copyTree(join(near, 'khlone'), join(near, name));
  for (const name of ['khlone', 'push']) {
    git(join(near, name), 'init', '-q', '-b', 'main');
    git(join(near, name), 'add', '-A');
    git(join(near, name), 'commit', '-q', '-m', 'first');
  }
};

/** In turns, so that what else the machine does falls on all of them. The first round warms the caches of all. */
const race = async (contenders: readonly Contender[]): Promise<Map<string, number[]>> => {
  const times = new Map<string, number[]>(contenders.map(({ name }) => [name, []]));
  const end = performance.now() + SIZE_LIMIT_MS;
  for (let round = 0; round <= MOST_ROUNDS; round += 1) {
    if (round > LEAST_ROUNDS && performance.now() > end) break;
    for (const { name, once } of contenders) {
      const begun = performance.now();
      await once(round);
      if (round > 0) times.get(name)?.push(performance.now() - begun);
    }
  }
  return times;
};

const measure = async (ground: Ground, files: number): Promise<Row[]> => {
  layTrees(ground.near, files);
  const contenders = [
    await khlone(ground, files),
    ...(has('rsync') ? [rsync(ground, files)] : []),
    ...(has('unison') ? [unison(ground, files)] : []),
    gitPush(ground, files),
  ];
  const times = await race(contenders);
  for (const { end } of contenders) await end?.();
  const own = median(times.get('khlone') ?? []);
  return contenders
    .filter(({ name }) => name !== 'khlone')
    .map(({ name }) => {
      const anchor = { name, value: median(times.get(name) ?? []) };
      const what = `one edited file of ${files.toLocaleString('en-US')}, full scan`;
      const { ok, ...row } = against(what, own, 'ms', anchor, REACH[name] ?? 1);
      return files === SIZES[0] ? { ...row, target: '–' } : { ...row, ...(ok !== undefined && { ok }) };
    });
};

/** Sizes begin only so long: the whole run has a bound. */
const BEGIN_LIMIT_MS = 60_000;

export const benchPatch = async (): Promise<Row[]> => {
  const rows: Row[] = [];
  const begun = performance.now();
  for (const files of SIZES) {
    if (performance.now() - begun > BEGIN_LIMIT_MS) {
      console.error(`no figures at ${files} files: the smaller trees took too long here`);
      break;
    }
    const sshd = await createSshd();
    const root = mkdtempSync(join(tmpdir(), 'khlone-bench-'));
    const env = { ...clientEnv(sshd), LANG: 'C.UTF-8' };
    const control = join(root, 'ctl');
    const words = ['-S', control, sshd.host];
    try {
      execFileSync('ssh', ['-M', '-N', '-f', '-o', 'ControlPersist=yes', ...words], { env, stdio: 'ignore' });
      rows.push(...(await measure({ sshd, env, control, near: join(root, 'near'), root }, files)));
    } finally {
      spawnSync('ssh', ['-O', 'exit', ...words], { env, stdio: 'ignore' });
      await sshd.stop();
      rmSync(root, { recursive: true, force: true });
    }
  }
  return rows;
};
