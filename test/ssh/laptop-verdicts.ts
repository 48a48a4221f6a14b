import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { contentsOf } from '../client/patches/invariants.ts';
import { WORD, wordsIn } from './laptop-words.ts';

/** What must hold of the conflicts of a laptop after each exchange, whatever a person does about them later. */

export type Laptop = { name: string; root: string; env: Record<string, string> };
type Entry = { mode: string; oid: string };
type Staged = [path: string, stage: Record<string, Entry>][];
export type Conflict = { paths: string[]; stages: Staged; contents: Staged };

export const conflictsOf = ({ root }: Laptop): Conflict[] => {
  const { zones } = JSON.parse(readFileSync(join(root, '.git/khlone/state.json'), 'utf8')) as {
    zones: Record<string, { conflicts: Conflict[] }>;
  };
  return Object.values(zones).flatMap(({ conflicts }) => conflicts);
};

const spelled = (path: string): string => Buffer.from(path, 'latin1').toString('utf8');
export const pathsOf = (conflicts: readonly Conflict[]): string[] =>
  conflicts.flatMap(({ paths }) => paths.map(spelled));

/** By the id of what holds them. */
const wordsById = new Map<string, string[]>();
const wordsInBlob = (root: string, oid: string): string[] => {
  const known = wordsById.get(oid);
  if (known) return known;
  const git = [`--git-dir=${join(root, '.git/khlone/shadow.git')}`, 'cat-file', 'blob', oid];
  const words: string[] = execFileSync('git', git, { encoding: 'utf8' }).match(WORD) ?? [];
  wordsById.set(oid, words);
  return words;
};

/** The words in what a conflict is about, as its sides had it when it was found. */
export const wordsOf = (
  { root }: Laptop,
  { stages, contents }: Conflict,
  sides = ['base', 'local', 'remote'],
): string[] =>
  [...stages, ...contents].flatMap(([, stage]) =>
    sides.flatMap((side) => {
      const oid = stage[side]?.oid;
      return oid === undefined ? [] : wordsInBlob(root, oid);
    }),
  );

const KINDS: Record<string, string> = { '100644': 'file', '100755': 'run', '120000': 'link' };
const contentOf = (entry: Entry | undefined): string | undefined =>
  entry && `${KINDS[entry.mode]} ${entry.oid}`;

export const verdictsOn = (zone: Laptop, laptops: readonly Laptop[]) => {
  /** Names that somebody else changed in the zone and a laptop has not pulled, and the words that were in them. */
  const foreign = new Map(laptops.map((laptop) => [laptop, new Set<string>()]));

  /** Conflicts at whose paths both sides are as they were found. */
  const unmoved = (laptop: Laptop): Conflict[] => {
    const [here, there] = [contentsOf(laptop.root), contentsOf(zone.root)];
    return conflictsOf(laptop).filter(({ stages }) =>
      stages.every(
        ([path, { local, remote }]) =>
          here.get(spelled(path)) === contentOf(local) && there.get(spelled(path)) === contentOf(remote),
      ),
    );
  };

  return {
    unmoved,
    /** Notes paths of the zone that changed; who changed them knows them. */
    changed: (paths: readonly string[], by?: Laptop): void => {
      const words = [...wordsIn(zone.root)].filter(([, names]) => names.some((name) => paths.includes(name)));
      for (const [laptop, known] of foreign)
        for (const one of laptop === by ? [] : [...paths, ...words.map(([word]) => word)]) known.add(one);
    },
    /** Notes that a laptop has what the zone has. */
    pulled: (laptop: Laptop): void => {
      const [here, there] = [contentsOf(laptop.root), contentsOf(zone.root)];
      const known = foreign.get(laptop) ?? new Set();
      const words = wordsIn(laptop.root);
      const has = (one: string): boolean =>
        one.match(WORD) ? words.has(one) : here.get(one) === there.get(one);
      for (const one of known) if (has(one)) known.delete(one);
    },
    /** Notes that a person saw what the zone had, and decided. */
    decided: (laptop: Laptop, conflict: Conflict): void => {
      const there = contentsOf(zone.root);
      if (conflictsOf(laptop).some(({ paths }) => paths.join() === conflict.paths.join())) return;
      const isSeen = conflict.stages.every(
        ([path, { remote }]) => there.get(spelled(path)) === contentOf(remote),
      );
      const seen = isSeen ? [...pathsOf([conflict]), ...wordsOf(laptop, conflict, ['remote'])] : [];
      for (const one of seen) foreign.get(laptop)?.delete(one);
    },
    /** Nobody is in conflict with himself. */
    expectTwo: (laptop: Laptop, before: readonly Conflict[]): void => {
      const known = new Set([...(foreign.get(laptop) ?? []), ...pathsOf(before)]);
      for (const conflict of conflictsOf(laptop)) {
        const paths = pathsOf([conflict]);
        if (![...paths, ...wordsOf(laptop, conflict, ['remote'])].some((one) => known.has(one)))
          throw new Error(`${laptop.name} has a conflict with itself in ${paths}`);
      }
    },
    /** While a conflict waits, each side has what it had; `waited`: what waited before, and nobody touched since. */
    expectBoth: (laptop: Laptop, waited: readonly Conflict[]): void => {
      const still = unmoved(laptop).map(({ paths }) => paths);
      for (const { paths } of waited)
        if (!still.some((now) => now.some((path) => paths.includes(path))))
          throw new Error(`${laptop.name}: nobody decided the conflict in ${paths}`);
      const there = new Set([...wordsIn(laptop.root).keys(), ...wordsIn(zone.root).keys()]);
      for (const conflict of conflictsOf(laptop))
        for (const word of wordsOf(laptop, conflict, ['local', 'remote']))
          if (!there.has(word)) throw new Error(`${word} waits in a conflict, and neither side has it`);
    },
  };
};
