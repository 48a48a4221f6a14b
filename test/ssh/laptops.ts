import { execFileSync } from 'node:child_process';
import { lstatSync, readdirSync, readFileSync, readlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { changedPaths, contentsOf, momentOf, nearSide } from '../client/patches/invariants.ts';
import { editAtRandom, filesIn, kindsOfEdits, type Random } from '../client/patches/random-edits.ts';
import { type Ran, until } from '../fixtures/khlone.ts';
import { kill9 } from '../fixtures/server.ts';
import { gitIn } from '../patch/ground.ts';
import { createFarWorld, type FarWorld } from './far-world.ts';
import { hubsOf, type Troubles, troublesOn } from './laptop-troubles.ts';

/**
 * Two laptops on one zone, by the real command line over a real sshd, each with a home of its own. Each write holds a
 * word that is nowhere else; what became of it is known until a person decides a conflict that holds it.
 */

export type Laptop = { name: string; root: string; env: Record<string, string> };
type Conflict = { paths: string[]; stages: Staged; contents: Staged };
type Staged = [path: string, stage: Record<string, { oid: string }>][];

const WORD = /token-\d+-\w+/gu;
const COMMAND_MS = 60_000;
const OUTBOX_MS = 40_000;
/** How the end by a signal is told. */
const KILLED = 143;
/** What one side ignores and the other may not: it need not be the same on both. */
const OFTEN_IGNORED = /^gen-\d$/u;

const textAt = (path: string): string =>
  lstatSync(path).isSymbolicLink() ? readlinkSync(path) : readFileSync(path, 'utf8');

const wordsIn = (root: string): Map<string, string[]> => {
  const found = new Map<string, string[]>();
  for (const path of filesIn(root))
    for (const word of textAt(join(root, path)).match(WORD) ?? [])
      found.set(word, [...(found.get(word) ?? []), path]);
  return found;
};

/** What became of every word that somebody wrote. */
const bookOfWords = () => {
  const known = new Set<string>();
  const removed = new Map<string, string>();
  const free = new Set<string>();
  return {
    /** Where these end is a person's decision from here on. */
    decide: (words: Iterable<string>): void => {
      for (const word of words) free.add(word);
    },
    /** Notes what an edit of a worktree wrote, and took away. */
    noting: (root: string, edit: () => string): string => {
      const before = wordsIn(root);
      const what = edit();
      const after = wordsIn(root);
      for (const word of before.keys()) if (!after.has(word)) removed.set(word, what);
      for (const [word, paths] of after) {
        // Written twice, brought back by git, or in a file that may not travel.
        if (paths.length > 1 || paths.some((path) => OFTEN_IGNORED.test(path))) free.add(word);
        if (before.has(word)) continue;
        if (known.has(word)) free.add(word);
        removed.delete(word);
        known.add(word);
      }
      return what;
    },
    problems: (zone: string): string[] => {
      const there = wordsIn(zone);
      return [...known]
        .filter((word) => !free.has(word))
        .flatMap((word) => {
          const paths = there.get(word) ?? [];
          const gone = removed.get(word);
          if (!gone && paths.length === 0) return [`lost ${word}`];
          if (gone && paths.length > 0) return [`${word} is back in ${paths}, removed by: ${gone}`];
          return paths.length > 1 ? [`doubled ${word} in ${paths}`] : [];
        });
    },
  };
};

const files = (): Record<string, string> => {
  const text = (name: string): string =>
    Array.from({ length: 14 }, (_, n) => `${name} begins with line ${n}, ${(n * 7919) % 1009}\n`).join('');
  const names = ['a.txt', 'b.txt', 'd/a.txt', 'd/b.txt', 'd/e/c.txt', 'x', 'm/n.bin', 'é'];
  return Object.fromEntries(names.map((name) => [name, text(name)]));
};

const addLaptop = async (far: FarWorld, name: string): Promise<Laptop> => {
  const root = join(far.base, name);
  far.git(['clone', '-q', far.repo, root]);
  far.git(['remote', 'set-url', 'origin', 'git@nowhere.invalid:org/app.git'], root);
  for (const [key, value] of [
    ['user.name', 'a'],
    ['user.email', 'a@example.org'],
  ] as const)
    far.git(['config', key, value], root);
  const wish = { cwd: root, env: { KHLONE_HOME: join(far.base, `home-${name}`) } };
  for (const args of [['trust', '--yes'], ['init'], ['pull']]) await far.ok(args, wish);
  return { name, root, env: wish.env };
};

/** An editor that keeps all that it is shown, and ones that do not do their work. */
const editors = (far: FarWorld): string[] => {
  const all = join(far.base, 'bin/keep-all');
  const line = `exec sed -i -E '/^(<{7,}|={7,}|>{7,}|[|]{7,})/d' "$1"`;
  writeFileSync(all, `#!/bin/sh\n${line}\n`, { mode: 0o755 });
  return [all, 'true', 'false', 'rm'];
};

const conflictsOf = ({ root }: Laptop): Conflict[] => {
  const { zones } = JSON.parse(readFileSync(join(root, '.git/khlone/state.json'), 'utf8')) as {
    zones: Record<string, { conflicts: Conflict[] }>;
  };
  return Object.values(zones).flatMap(({ conflicts }) => conflicts);
};

const spelled = (path: string): string => Buffer.from(path, 'latin1').toString('utf8');

/** The words in all that a conflict is about, as the three sides had it when it was found. */
const wordsOf = ({ root }: Laptop, { stages, contents }: Conflict): string[] =>
  [...stages, ...contents].flatMap(([, stage]) =>
    Object.values(stage).flatMap(({ oid }) => {
      const git = [`--git-dir=${join(root, '.git/khlone/shadow.git')}`, 'cat-file', 'blob', oid];
      return execFileSync('git', git, { encoding: 'utf8' }).match(WORD) ?? [];
    }),
  );

export const makeLaptops = async (random: Random, share: number) => {
  const far = await createFarWorld({ files: files() });
  try {
    const troubles = share > 0 ? await troublesOn(far, random) : undefined;
    const laptops = [await addLaptop(far, 'one'), await addLaptop(far, 'two')];
    return laptopsOn(far, laptops, random, troubles && { ...troubles, share });
  } catch (thrown) {
    await far.dispose();
    throw thrown;
  }
};

type Share = Troubles & { share: number };

const laptopsOn = (far: FarWorld, laptops: Laptop[], random: Random, troubles: Share | undefined) => {
  const zone: Laptop = { name: 'zone', root: far.zone, env: {} };
  const places = [...laptops, zone];
  const book = bookOfWords();
  const log: string[] = [];
  const kinds = kindsOfEdits(random);
  const editorsHere = editors(far);
  let online = true;
  let isCalm = false;
  let share = troubles?.share ?? 0;
  let auto: Laptop | undefined;

  /** Where patches travel by themselves, nothing moves while an edit is noted. */
  const still = (work: () => string): string => {
    const moving = auto
      ? [...hubsOf(auto.env.KHLONE_HOME), far.farServerPid() ?? 0].filter((pid) => pid > 0)
      : [];
    signal(moving, 'SIGSTOP');
    try {
      return work();
    } finally {
      signal(moving, 'SIGCONT');
    }
  };

  const edit = (place: Laptop): void => {
    const what = still(() =>
      book.noting(place.root, () => {
        const name = editAtRandom(place.root, random, place === zone, kinds);
        // Where files were in the way of the way back, only the name of the branch is taken back.
        gitIn(place.root, 'symbolic-ref', 'HEAD', 'refs/heads/main');
        return name;
      }),
    );
    log.push(`${place.name}: ${what}`);
  };

  /** All that was under way has ended, so that what an edit finds is what it changes. */
  const calm = async (): Promise<void> => {
    isCalm = true;
    for (const laptop of laptops) await run(laptop, ['reconnect'], [0, 3]);
    for (const { name, env } of laptops) {
      const waiting = () => readdirSync(join(env.KHLONE_HOME ?? '', 'outbox')).filter(isQueued).length;
      await until(`all that ${name} queued is sent`, () => waiting() === 0, OUTBOX_MS);
    }
    for (let before = ''; ; await delay(300)) {
      const now = JSON.stringify(places.map(({ root }) => [...contentsOf(root)]));
      if (before === now) break;
      before = now;
    }
    isCalm = false;
  };

  /** Runs a command in a laptop; `codes` are those that it may end with. */
  const run = async (laptop: Laptop, args: string[], codes: number[], editor?: string): Promise<Ran> => {
    const env = { ...laptop.env, ...(editor && { EDITOR: editor }) };
    const wish = { cwd: laptop.root, env, limitMs: COMMAND_MS, ...(editor && { tty: true as const }) };
    const running = far.start(args, wish);
    const isHit = troubles && online && !isCalm && random.chance(share);
    const what = isHit ? await troubles.befall(running, laptop.env.KHLONE_HOME) : undefined;
    const ran = await running.ended;
    if (what) {
      log.push(`${laptop.name}$ ${JSON.stringify(args)} ${ran.code} (${what})\n${ran.stdout}${ran.stderr}`);
      if (![...codes, 4, KILLED].includes(ran.code))
        throw new Error(`${args.join(' ')} ended with ${ran.code}`);
      await calm();
      return ran;
    }
    log.push(`${laptop.name}$ ${JSON.stringify(args)} ${ran.code}\n${ran.stdout}${ran.stderr}`);
    // With patches that travel by themselves a conflict may be over by now.
    const isOver = auto === laptop && ran.stderr.includes('no conflict in ');
    if (!codes.includes(ran.code) && !isOver)
      throw new Error(`${args.join(' ')} ended with ${ran.code}: ${ran.stderr}`);
    return ran;
  };

  /** What is in a conflict is decided by a person: by a command, or by what they edit before that. */
  const letDecide = (laptop: Laptop, conflicts: readonly Conflict[]): void => {
    const names = conflicts.flatMap(({ paths }) => paths.map(spelled));
    for (const conflict of conflicts) book.decide(wordsOf(laptop, conflict));
    for (const { root } of places)
      for (const [word, paths] of wordsIn(root))
        if (paths.some((path) => names.includes(path))) book.decide([word]);
  };

  /** One exchange; nothing moves but what it may. */
  const exchange = async (
    laptop: Laptop,
    what: 'pull' | 'sync',
    yes = random.chance(0.7),
  ): Promise<number> => {
    const moments = places.map((place) => momentOf(nearSide(place.root)));
    const commits = what === 'pull' && random.chance(0.1) ? ['--commits'] : [];
    await run(laptop, [what, ...(yes ? ['--yes'] : []), ...commits], online ? [0, 3] : [0, 3, 4]);
    letDecide(laptop, conflictsOf(laptop));
    let moved = 0;
    for (const [n, place] of places.entries()) {
      const before = moments[n];
      const changed = before ? changedPaths(before, momentOf(nearSide(place.root))) : [];
      moved += changed.length;
      // What was cut before is finished by whatever comes next.
      const may = troubles
        ? place === laptop || place === auto || place === zone
        : place === (what === 'pull' ? laptop : zone);
      if (!may && changed.length > 0) throw new Error(`${what} of ${laptop.name} changed ${place.name}`);
    }
    return moved;
  };

  const resolve = async (laptop: Laptop, only?: 'keep'): Promise<void> => {
    const conflicts = conflictsOf(laptop);
    if (conflicts.length === 0) return;
    const conflict = random.of(conflicts);
    letDecide(laptop, [conflict]);
    const file = ['--', random.of(conflict.paths.map(spelled))];
    if (only || random.chance(0.5))
      await run(laptop, ['resolve', '--keep', random.of(['local', 'remote']), ...file], [0, 3]);
    else await run(laptop, ['resolve', '--merge', ...file], [0, 1, 3], random.of(editorsHere));
  };

  const goOffline = async (): Promise<void> => {
    log.push('--- off line');
    online = false;
    await far.sshd.close();
  };

  const goOnline = async (): Promise<void> => {
    if (online) return;
    log.push('--- on line');
    await far.sshd.open();
    online = true;
    await calm();
    for (const laptop of laptops) letDecide(laptop, conflictsOf(laptop));
  };

  const killHub = (laptop: Laptop): void => {
    log.push(`${laptop.name}: the hub is killed`);
    kill9(hubsOf(laptop.env.KHLONE_HOME));
  };

  const travelByItself = async (laptop: Laptop): Promise<void> => {
    await run(laptop, ['sync', '--auto'], [0, 3]);
    auto = laptop;
  };

  const endTroubles = async (): Promise<void> => {
    share = 0;
    if (auto) await run(auto, ['sync', '--auto', 'off'], [0]);
    auto = undefined;
    if (troubles) await calm();
  };

  return {
    ...{
      far,
      laptops,
      zone,
      log,
      edit,
      exchange,
      resolve,
      goOffline,
      goOnline,
      killHub,
      travelByItself,
      endTroubles,
    },
    conflictsOf,
    isOnline: () => online,
    problems: () => book.problems(zone.root),
  };
};

const signal = (pids: readonly number[], name: NodeJS.Signals): void => {
  for (const pid of pids) {
    try {
      process.kill(pid, name);
    } catch {
      // It ended by itself in between.
    }
  }
};

const isQueued = (name: string): boolean => /^\d+\.json$/u.test(name);

export type Laptops = Awaited<ReturnType<typeof makeLaptops>>;
