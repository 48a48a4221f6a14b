import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import {
  type Contents,
  changedPaths,
  contentsOf,
  expectNothingLost,
  nearSide,
  type Side,
} from '../client/patches/invariants.ts';
import { editAtRandom, filesIn, kindsOfEdits, type Random } from '../client/patches/random-edits.ts';
import { type Ran, until } from '../fixtures/khlone.ts';
import { kill9 } from '../fixtures/server.ts';
import { gitIn } from '../patch/ground.ts';
import { createFarWorld, type FarWorld } from './far-world.ts';
import { hubsOf, type Troubles, troublesOn } from './laptop-troubles.ts';
import { type Conflict, conflictsOf, type Laptop, pathsOf, verdictsOn, wordsOf } from './laptop-verdicts.ts';
import { bookOfWords, WORD, wordsIn } from './laptop-words.ts';

/**
 * Two laptops on one zone, by the real command line over a real sshd, each with a home of its own. Each write holds a
 * word that is nowhere else; what became of it is known until a person decides a conflict that holds it.
 */

const COMMAND_MS = 60_000;
const OUTBOX_MS = 40_000;
/** How the end by a signal is told. */
const KILLED = 143;

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

export type { Laptop };

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
/** What an act told of the zone's words is in `saw`; its laptop sent these first. */
type Act = { saw: string; words: string[] };
export type Step = 'pull' | 'sync' | 'act';

const laptopsOn = (far: FarWorld, laptops: Laptop[], random: Random, troubles: Share | undefined) => {
  const zone: Laptop = { name: 'zone', root: far.zone, env: {} };
  const places = [...laptops, zone];
  const book = bookOfWords();
  const verdicts = verdictsOn(zone, laptops);
  const acts: Act[] = [];
  /** Decided off line: a state that was queued before that finds them once more. */
  let away: Conflict[] = [];
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

  const edit = (place: Laptop, kindsNow = kinds, among?: string[]): void => {
    const before = filesOf(place);
    const what = still(() =>
      book.noting(place.root, () => {
        const name = editAtRandom(place.root, random, place === zone, kindsNow, among);
        // Where files were in the way of the way back, only the name of the branch is taken back.
        gitIn(place.root, 'symbolic-ref', 'HEAD', 'refs/heads/main');
        return name;
      }),
    );
    log.push(`${place.name}: ${what}${among ? ` (${among})` : ''}`);
    if (place === zone) verdicts.changed(changedPaths(before, filesOf(zone)));
  };

  /** Files that the laptop and the zone both have. */
  const shared = (laptop: Laptop): string[] => {
    const there = new Set(filesIn(zone.root));
    return filesIn(laptop.root).filter((path) => there.has(path) && /^[a-z/]+\.txt$|^é$/u.test(path));
  };

  const fileOf = (laptop: Laptop): string | undefined => {
    const files = shared(laptop);
    return files.length > 0 ? random.of(files) : undefined;
  };

  /** Both sides change one file so that they often do not agree. */
  const meet = (laptop: Laptop): void => {
    const path = fileOf(laptop);
    if (path === undefined) return;
    for (const place of [laptop, zone]) edit(place, ['edit lines', 'edit lines', 'binary'], [path]);
  };

  /** Edits or moves a file; answers its name from then on. */
  const goOn = (laptop: Laptop, path: string): string => {
    const before = new Set(filesIn(laptop.root));
    if (before.has(path)) edit(laptop, [random.of(['rename', 'edit lines'])], [path]);
    return filesIn(laptop.root).find((name) => !before.has(name)) ?? path;
  };

  /** All that was under way has ended, so that what an edit finds is what it changes. */
  const calm = async (): Promise<void> => {
    isCalm = true;
    for (const laptop of laptops) await run(laptop, ['reconnect'], [0, 3]);
    for (const laptop of laptops)
      await until(`all that ${laptop.name} queued is sent`, () => waiting(laptop) === 0, OUTBOX_MS);
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
    const names = pathsOf(conflicts);
    for (const conflict of conflicts) book.decide(wordsOf(laptop, conflict));
    for (const { root } of places)
      for (const [word, paths] of wordsIn(root))
        if (paths.some((path) => names.includes(path))) book.decide([word]);
  };

  /** What an exchange is called by; an act tells which words are in the zone when it runs. */
  const wordsFor = (what: Step, yes: boolean): string[] => {
    if (what === 'act') return ['act', '--who', '@sh', '--sync', tellsWords(saw())];
    const commits = what === 'pull' && random.chance(0.1) ? ['--commits'] : [];
    return [what, ...(yes ? ['--yes'] : []), ...commits];
  };
  let told = 0;
  const saw = (): string => join(zone.root, '.git', `act-${told}`);

  /** What changed since; what was displaced for that is kept. */
  const keeping = (place: Laptop, before: Contents | undefined): string[] => {
    const now = filesOf(place);
    if (!before) return [];
    if (!troubles) expectNothingLost(place === zone ? zoneSide(far) : nearSide(place.root), before, now);
    return changedPaths(before, now);
  };

  /** One exchange; nothing moves but what it may. */
  const exchange = async (laptop: Laptop, what: Step, yes = random.chance(0.7)): Promise<number> => {
    const moments = places.map(filesOf);
    const [waited, before] = [verdicts.unmoved(laptop), conflictsOf(laptop)];
    const words = [...wordsIn(laptop.root).keys()];
    const { code } = await run(laptop, wordsFor(what, yes), online ? [0, 3] : [0, 3, 4]);
    if (what === 'act' && code === 0) acts.push({ saw: saw(), words });
    told += 1;
    letDecide(laptop, conflictsOf(laptop));
    let moved = 0;
    for (const [n, place] of places.entries()) {
      const changed = keeping(place, moments[n]);
      moved += changed.length;
      // What was cut before is finished by whatever comes next.
      const may = troubles
        ? place === laptop || place === auto || place === zone
        : place === (what === 'pull' ? laptop : zone);
      if (!may && changed.length > 0) throw new Error(`${what} of ${laptop.name} changed ${place.name}`);
      if (place === zone) verdicts.changed(changed, laptop);
    }
    if (online && !troubles) {
      verdicts.expectTwo(laptop, before);
      verdicts.expectBoth(laptop, waited);
      if (what === 'pull') verdicts.pulled(laptop);
    }
    return moved;
  };

  const resolve = async (laptop: Laptop, only?: 'keep'): Promise<void> => {
    const conflicts = conflictsOf(laptop);
    if (conflicts.length === 0) return;
    const conflict = random.of(conflicts);
    letDecide(laptop, [conflict]);
    const before = filesOf(laptop);
    const file = ['--', random.of(pathsOf([conflict]))];
    if (only || random.chance(0.5))
      await run(laptop, ['resolve', '--keep', random.of(['local', 'remote']), ...file], [0, 3]);
    else await run(laptop, ['resolve', '--merge', ...file], [0, 1, 3], random.of(editorsHere));
    keeping(laptop, before);
    if (!online) away.push(conflict);
    verdicts.decided(laptop, conflict);
  };

  const goOffline = async (): Promise<void> => {
    log.push('--- off line');
    online = false;
    await far.sshd.close();
  };

  const goOnline = async (): Promise<void> => {
    if (online) return;
    log.push('--- on line');
    const before = filesOf(zone);
    const known = laptops.map((laptop) => ({
      laptop,
      conflicts: conflictsOf(laptop),
      queued: waiting(laptop),
    }));
    await far.sshd.open();
    online = true;
    await calm();
    const changed = changedPaths(before, filesOf(zone));
    for (const { laptop, conflicts } of known) {
      const others = known.some((one) => one.laptop !== laptop && one.queued > 0);
      if (others) verdicts.changed(changed);
      if (!troubles) verdicts.expectTwo(laptop, [...conflicts, ...away]);
      letDecide(laptop, conflictsOf(laptop));
    }
    away = [];
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

  /** Each act ran once, and after what was sent before it. */
  const problemsOfActs = async (): Promise<string[]> => {
    const saidBy = ({ saw }: Act): string => (existsSync(saw) ? readFileSync(saw, 'utf8') : '');
    await until('every act ran', () => acts.every((act) => saidBy(act).endsWith(END)), OUTBOX_MS);
    return acts.flatMap((act, n) => {
      const seen = new Set(saidBy(act).match(WORD));
      const missing = act.words.filter((word) => book.stays(word) && !seen.has(word));
      const often = saidBy(act).split(END).length - 1;
      return [
        ...missing.map((word) => `act ${n} ran without ${word}`),
        ...(often === 1 ? [] : [`act ${n} ran ${often} times`]),
      ];
    });
  };

  return {
    ...{
      far,
      laptops,
      zone,
      log,
      edit,
      meet,
      goOn,
      fileOf,
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
    problems: async () => [...(await problemsOfActs()), ...book.problems(zone.root)],
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

/** The only zone of the host. */
const zoneSide = ({ zone, farHome }: FarWorld): Side => {
  const zones = join(farHome, 'server/zones');
  const [id = ''] = readdirSync(zones);
  return {
    root: zone,
    shadow: join(zones, id, 'shadow.git'),
    displaced: join(zones, id, 'patches/displaced'),
  };
};

const filesOf = ({ root }: Laptop): Contents => ({ contents: contentsOf(root) });

const END = 'that was all\n';

/** Looks twice: what another laptop moves just now may be at neither name. */
const tellsWords = (file: string): string =>
  `for n in 1 2; do grep -rhoaE 'token-[0-9]+-[a-z]+' --exclude-dir=.git .; find . -type l -printf '%l\\n'; done >> '${file}'; echo ${END.trim()} >> '${file}'`;

const waiting = ({ env }: Laptop): number =>
  readdirSync(join(env.KHLONE_HOME ?? '', 'outbox')).filter(isQueued).length;

const isQueued = (name: string): boolean => /^\d+\.json$/u.test(name);

export type Laptops = Awaited<ReturnType<typeof makeLaptops>>;
