import { gitFailed } from './git.ts';
import type { Region } from './ranges.ts';
import type { Shadow } from './shadow.ts';

/** Where two sides changed the same lines of a base, from git's own hunks: linear, whatever the files hold. */

/** Lines [from, from + count) became [newFrom, newFrom + newCount), counted from 0. */
export type Hunk = { from: number; count: number; newFrom: number; newCount: number };

const HEADER = /^@@ -(\d+)(?:,(\d+))? \+(\d+)(?:,(\d+))? @@/gmu;

/** Git names the line BEFORE an empty range, and the first line of any other. */
const startOf = (line: string | undefined, count: number): number => Number(line) - (count === 0 ? 0 : 1);

/** The hunks of `git diff -U0`; what stands between their headers is not looked at. */
export const parseHunks = (diff: string): Hunk[] =>
  [...diff.matchAll(HEADER)].map(([, from, some = '1', newFrom, newSome = '1']) => {
    const [count, newCount] = [Number(some), Number(newSome)];
    return { from: startOf(from, count), count, newFrom: startOf(newFrom, newCount), newCount };
  });

/** Hunks that overlap or touch, those of both sides together. */
const clusters = (local: readonly Hunk[], remote: readonly Hunk[]): { hunk: Hunk; isLocal: boolean }[][] => {
  const all = [
    ...local.map((hunk) => ({ hunk, isLocal: true })),
    ...remote.map((hunk) => ({ hunk, isLocal: false })),
  ].sort((one, other) => one.hunk.from - other.hunk.from);
  const found: (typeof all)[] = [];
  let end = -1;
  for (const one of all) {
    const last = found.at(-1);
    if (last && one.hunk.from <= end) last.push(one);
    else found.push([one]);
    end = Math.max(end, one.hunk.from + one.hunk.count);
  }
  return found;
};

/** The lines that one side has where the base has [from, to). `before` is how far its lines are ahead at `from`. */
const rangeOf = (hunks: readonly Hunk[], before: number, from: number, to: number): Region['local'] => {
  const grown = hunks.reduce((sum, { count, newCount }) => sum + newCount - count, 0);
  return { from: from + before + 1, to: to + before + grown };
};

/** The regions in which both sides changed the base, in each side's own lines. */
export const regionsOf = (local: readonly Hunk[], remote: readonly Hunk[]): Region[] => {
  const regions: Region[] = [];
  let [mineAhead, theirsAhead] = [0, 0];
  for (const cluster of clusters(local, remote)) {
    const mine = cluster.filter(({ isLocal }) => isLocal).map(({ hunk }) => hunk);
    const theirs = cluster.filter(({ isLocal }) => !isLocal).map(({ hunk }) => hunk);
    const from = Math.min(...cluster.map(({ hunk }) => hunk.from));
    const to = Math.max(...cluster.map(({ hunk }) => hunk.from + hunk.count));
    if (mine.length > 0 && theirs.length > 0) {
      regions.push({
        local: rangeOf(mine, mineAhead, from, to),
        remote: rangeOf(theirs, theirsAhead, from, to),
      });
    }
    mineAhead += mine.reduce((sum, { count, newCount }) => sum + newCount - count, 0);
    theirsAhead += theirs.reduce((sum, { count, newCount }) => sum + newCount - count, 0);
  }
  return regions;
};

const DIFF = [
  'diff',
  '--no-ext-diff',
  '--no-textconv',
  '--no-color',
  '--no-indent-heuristic',
  '-U0',
  '--text',
];

const hunksOf = async (shadow: Shadow, from: string, to: string): Promise<Hunk[]> => {
  const { code, stdout, stderr } = await shadow.run([...DIFF, from, to]);
  if (code !== 0) throw gitFailed('git could not compare two files', stderr);
  return parseHunks(stdout.toString('latin1'));
};

/** The regions of three files, by their ids. */
export const regionsByGit = async (
  shadow: Shadow,
  base: string,
  local: string,
  remote: string,
): Promise<Region[]> => {
  const [mine, theirs] = await Promise.all([hunksOf(shadow, base, local), hunksOf(shadow, base, remote)]);
  return regionsOf(mine, theirs);
};
