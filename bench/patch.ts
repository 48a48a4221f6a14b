import { execFileSync, spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout } from 'node:timers/promises';
import { farOf } from '../src/client/patches/far.ts';
import { sync } from '../src/client/patches/steps.ts';
import { clientEnv, createSshd } from '../test/fixtures/sshd.ts';
import {
  CHOICE,
  type Contender,
  copyTree,
  edit,
  expectThere,
  type Ground,
  git,
  makeTree,
  openPeer,
  openZone,
  run,
} from './patch-ground.ts';
import { watchedKhlone, watchedRows } from './patch-watched.ts';
import { against, median, type Row } from './row.ts';

/**
 * One edited line, from the save on one side to the file on the other: khlone over its held link, and rsync, unison and
 * git push over a held connection of OpenSSH to the same sshd.
 */

const SIZES = [1_000, 10_000, 50_000];
/** Rounds end when a size took this long, but three are taken: a loaded machine makes a shorter table, not a longer run. */
const SIZE_LIMIT_MS = 40_000;
/** What changed within two seconds is looked at closer: trees that people work in are older. */
const AGE_MS = 2_500;
const MOST_ROUNDS = 11;
const LEAST_ROUNDS = 3;
const ZONE = 'z-0123456789abcdef';
const REACH: Readonly<Record<string, number>> = { rsync: 0.5, unison: 0.5, 'git push': 0.4 };

const khlone = async (ground: Ground, files: number): Promise<Contender> => {
  const { peer, close } = await openPeer(ground);
  const { place, near, far } = await openZone(
    peer,
    ground,
    join(ground.near, 'khlone'),
    ZONE,
    `khlone-${files}`,
  );
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

const has = (program: string): boolean => {
  const isHere = spawnSync('sh', ['-c', `command -v ${program}`]).status === 0;
  if (!isHere) console.error(`no figures beside ${program}, which is not installed`);
  return isHere;
};

const layTrees = (near: string, files: number): void => {
  makeTree(join(near, 'khlone'), files);
  for (const name of ['watched', 'rsync', 'unison', 'push']) copyTree(join(near, 'khlone'), join(near, name));
  for (const name of ['khlone', 'watched', 'push']) {
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
    for (const { name, once, settle } of contenders) {
      const begun = performance.now();
      await once(round);
      if (round > 0) times.get(name)?.push(performance.now() - begun);
      await settle?.();
    }
  }
  return times;
};

const measure = async (ground: Ground, files: number): Promise<Row[]> => {
  layTrees(ground.near, files);
  const contenders = [
    await watchedKhlone(ground, files),
    await khlone(ground, files),
    ...(has('rsync') ? [rsync(ground, files)] : []),
    ...(has('unison') ? [unison(ground, files)] : []),
    gitPush(ground, files),
  ];
  await setTimeout(AGE_MS);
  const times = await race(contenders);
  for (const { end } of contenders) await end?.();
  const medians = new Map([...times].map(([name, values]) => [name, median(values)]));
  const own = medians.get('khlone') ?? 0;
  const plain = [...medians].filter(([name]) => name in REACH).map(([name, value]) => ({ name, value }));
  const full = plain.map((anchor) => {
    const what = `one edited file of ${files.toLocaleString('en-US')}, full scan`;
    const { ok, ...row } = against(what, own, 'ms', anchor, REACH[anchor.name] ?? 1);
    return files === SIZES[0] ? { ...row, target: '–' } : { ...row, ...(ok !== undefined && { ok }) };
  });
  return [...full, ...watchedRows(files, medians.get('watched') ?? 0, own, plain)];
};

/** Sizes begin only so long: the whole run has a bound. */
const BEGIN_LIMIT_MS = 150_000;

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
