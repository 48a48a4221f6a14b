import * as fc from 'fast-check';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { inOrder } from '../../src/patch/apply-order.ts';
import type { Conflict } from '../../src/patch/conflict.ts';
import type { Path } from '../../src/patch/listing.ts';
import { type Merge, mergeTrees } from '../../src/patch/merge.ts';
import { baseAfterPull, baseAfterSync, type Plan, planPatch } from '../../src/patch/plan.ts';
import { type Change, diffTrees, type Entry, listTree, sameEntry, treeWith } from '../../src/patch/tree.ts';
import { gitMerge, makeMergeGround } from './merge-ground.ts';
import { modelsOf, storeTrees, tokensIn, triples } from './random-trees.ts';

const LONG = process.env.KHLONE_LONG === '1';
const RUNS = LONG ? 1_000 : 16;
/** Each run starts some forty gits, on a machine with other work. */
const LIMIT_MS = RUNS * 10_000;

let ground: Awaited<ReturnType<typeof makeMergeGround>>;
beforeAll(async () => {
  ground = await makeMergeGround();
});
afterAll(() => ground.remove());

type Trees = { base: string; local: string; remote: string };
type Round = Trees & { merge: Merge; plan: Plan };

const round = async (trees: Trees, known: readonly Conflict[] = []): Promise<Round> => {
  const merge = await mergeTrees(ground.shadow, { ...trees, known });
  return { ...trees, merge, plan: planPatch({ ...merge, held: [] }) };
};

const textsOf = async (tree: string, skip: ReadonlySet<Path> = new Set()): Promise<string[]> => {
  const entries = [...(await listTree(ground.shadow, tree))].filter(([path]) => !skip.has(path));
  const input = entries.map(([, { oid }]) => `${oid}\n`).join('');
  const { stdout } = await ground.shadow.run(['cat-file', '--batch'], { input });
  return [stdout.toString('latin1')];
};

const start = async (triple: Parameters<typeof modelsOf>[0]): Promise<Round> => {
  const [base = '', local = '', remote = ''] = await storeTrees(ground.shadow, modelsOf(triple));
  return round({ base, local, remote });
};

const check = (runs: number, law: (first: Round, salt: number) => Promise<void>): Promise<void> =>
  fc.assert(
    fc.asyncProperty(triples, fc.nat(1_000), async (triple, salt) => law(await start(triple), salt)),
    { numRuns: runs, endOnFailure: !LONG },
  );

it(
  'a merge equals that of git where git is clean, and flags what git flags where it is not',
  async () => {
    await check(RUNS / 2, async ({ base, local, remote, merge }) => {
      const own = gitMerge(ground.dir, ground.shadow, { base, local, remote });
      // Git itself removes what somebody wrote, or what both have, in rare cases, and says nothing of it.
      const kept = own.tree === undefined ? own.index : await listTree(ground.shadow, own.tree);
      const isDropped = (path: Path): boolean => {
        const { base: was, local: here, remote: there } = merge.sides;
        const isWritten = [here, there].some(
          (one) => one.has(path) && !sameEntry(one.get(path), was.get(path)),
        );
        return !kept.has(path) && ((here.has(path) && there.has(path)) || isWritten);
      };
      if (own.tree !== undefined) {
        for (const { paths } of merge.conflicts) expect(paths.some(isDropped)).toBe(true);
        if (merge.conflicts.length > 0) return;
        const more = (await diffTrees(ground.shadow, own.tree, merge.tree)).filter(
          ({ path }) => !isDropped(path),
        );
        expect(more).toEqual([]);
        return;
      }
      const flagged = new Set(merge.conflicts.flatMap(({ paths }) => paths));
      const { sides } = merge;
      const isReal = (path: Path): boolean =>
        [sides.base, sides.local, sides.remote].some((tree) => tree.has(path));
      expect(own.unmerged.filter(isReal).filter((path) => !flagged.has(path))).toEqual([]);
      const ours = await listTree(ground.shadow, merge.tree);
      const text = (entry: Entry | undefined): string | undefined => entry && `${entry.mode} ${entry.oid}`;
      for (const path of new Set([...ours.keys(), ...own.index.keys()])) {
        if (!flagged.has(path) && !isDropped(path))
          expect([path, text(ours.get(path))]).toEqual([path, own.index.get(path)]);
      }
    });
  },
  LIMIT_MS,
);

it(
  'a pull and a sync bring both sides together, lose no line, and leave nothing to do',
  async () => {
    await check(RUNS, async (first) => {
      const { shadow } = ground;
      const { plan, merge } = first;
      for (const { path } of [...plan.toLocal, ...plan.toRemote]) expect(plan.blocked.has(path)).toBe(false);
      const local = await treeWith(shadow, first.local, plan.toLocal);
      const remote = await treeWith(shadow, first.remote, plan.toRemote);
      for (const { path } of await diffTrees(shadow, local, remote))
        expect(plan.blocked.has(path)).toBe(true);
      for (const { path } of await diffTrees(shadow, local, merge.tree))
        expect(plan.blocked.has(path)).toBe(true);

      // What a side wrote is still there, and what moved arrived.
      const mine = tokensIn(await textsOf(first.local), 'local');
      const theirs = tokensIn(await textsOf(first.remote), 'remote');
      const theirsMoved = tokensIn(await textsOf(first.remote, plan.blocked), 'remote');
      const [here, there] = await Promise.all([textsOf(local), textsOf(remote)]);
      expect(missing(mine, here, 'local')).toEqual([]);
      expect(missing(theirs, there, 'remote')).toEqual([]);
      expect(missing(theirsMoved, here, 'remote')).toEqual([]);

      const pulled = await treeWith(shadow, first.remote, baseAfterPull(merge.sides, plan));
      const second = await round({ base: pulled, local, remote: first.remote }, merge.conflicts);
      expect(second.plan.toLocal).toEqual([]);
      expect(second.merge.conflicts).toEqual(merge.conflicts);
      expect(await treeWith(shadow, first.remote, second.plan.toRemote)).toBe(remote);

      const synced = await treeWith(shadow, local, baseAfterSync(second.merge.sides, second.plan));
      const third = await round({ base: synced, local, remote }, second.merge.conflicts);
      expect([third.plan.toLocal, third.plan.toRemote]).toEqual([[], []]);
      expect(third.merge.conflicts).toEqual(merge.conflicts);
    });
  },
  LIMIT_MS,
);

const missing = (wanted: ReadonlySet<string>, texts: readonly string[], side: string): string[] => {
  const found = tokensIn(texts, side);
  return [...wanted].filter((token) => !found.has(token));
};

/** A worktree that takes changes one by one, as a disk does: nothing stands below a file. */
const takeSome = (
  tree: Map<Path, Entry>,
  changes: readonly Change[],
  moves: Plan['moves']['toLocal'],
  fails: (path: Path) => boolean,
): Path[] => {
  const failed = new Set<Path>();
  const target = new Map(moves.map(({ from, to }) => [from, to]));
  const steps = changes.map((change) => {
    const to = change.after ? undefined : target.get(change.path);
    return { ...change, ...(to !== undefined && { to }) };
  });
  for (const { path, before, after } of inOrder(steps)) {
    const isInTheWay = [...tree.keys()].some(
      (one) => one.startsWith(`${path}/`) || path.startsWith(`${one}/`),
    );
    const waits = moves.some(({ from, to }) => from === path && failed.has(to));
    if (fails(path) || waits || (after && isInTheWay) || !sameEntry(tree.get(path), before)) {
      failed.add(path);
      // What had to make room goes back to its place.
      for (const { from } of moves.filter(({ to }) => to === path)) {
        const gone = changes.find((one) => one.path === from)?.before;
        if (gone === undefined || tree.has(from)) continue;
        tree.set(from, gone);
        failed.add(from);
      }
    } else if (after) tree.set(path, after);
    else tree.delete(path);
  }
  return [...failed];
};

it(
  'what failed on its way is tried again, and no line of either side is lost by it',
  async () => {
    await check(RUNS, async (first, salt) => {
      const { shadow } = ground;
      const disk = await listTree(shadow, first.local);
      const list = first.plan.toLocal;
      const bad = list.length === 0 ? undefined : list[salt % list.length]?.path;
      const failed = takeSome(disk, list, first.plan.moves.toLocal, (path) => path === bad);
      const changes = [...new Set([...disk.keys(), ...(await listTree(shadow, first.local)).keys()])];
      const local = await treeWith(
        shadow,
        first.local,
        changes.map((path) => ({ path, after: disk.get(path) })),
      );
      const mine = tokensIn(await textsOf(first.local), 'local');
      expect(missing(mine, await textsOf(local), 'local')).toEqual([]);

      const base = await treeWith(shadow, first.remote, baseAfterPull(first.merge.sides, first.plan, failed));
      const second = await round({ base, local, remote: first.remote });
      const after = await treeWith(shadow, local, second.plan.toLocal);
      const remote = await treeWith(shadow, first.remote, second.plan.toRemote);
      expect(missing(mine, await textsOf(after), 'local')).toEqual([]);
      const theirs = tokensIn(await textsOf(first.remote), 'remote');
      expect(missing(theirs, await textsOf(remote), 'remote')).toEqual([]);
      for (const { path } of await diffTrees(shadow, after, remote))
        expect(second.plan.blocked.has(path)).toBe(true);
    });
  },
  LIMIT_MS,
);
