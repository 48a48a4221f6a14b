import { rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { mergeTrees } from '../../src/patch/merge.ts';
import { listTree } from '../../src/patch/tree.ts';
import { gitIn } from './ground.ts';
import { gitMerge, makeMergeGround } from './merge-ground.ts';
import { type Model, storeTrees } from './random-trees.ts';

/** Two lines of work over one code base, as they are in real histories: edits here and there, moves, new files. */

const ROWS = process.env.KHLONE_LONG === '1' ? 300 : 12;
const FILES = 24;
const EDITS = 5;
/** Commits of a history that is worth the name. */
const HISTORY = 60;

let ground: Awaited<ReturnType<typeof makeMergeGround>>;
beforeAll(async () => {
  ground = await makeMergeGround();
});
afterAll(() => ground.remove());

/** The same numbers for the same seed (mulberry32). */
const makeRandom = (seed: number) => {
  let state = seed;
  return (below: number): number => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) % below;
  };
};

const startOf = (random: (below: number) => number): Model =>
  new Map(
    Array.from({ length: FILES }, (_, i) => {
      const count = 20 + random(80);
      const text = Array.from({ length: count }, (__, line) => `  call_${i}(${line}, ${random(1000)});\n`);
      return [`src/m${i % 5}/f${i}.c`, { mode: '100644', text: text.join('') }];
    }),
  );

const editOnce = (model: Model, random: (below: number) => number, word: string): void => {
  const paths = [...model.keys()].sort();
  const path = paths[random(paths.length)] ?? '';
  const file = model.get(path);
  if (file === undefined) return;
  const lines = file.text.split('\n').slice(0, -1);
  const at = random(lines.length + 1);
  const kind = random(12);
  if (kind === 0) model.delete(path);
  else if (kind === 1) model.set(`new/${word}${at}.c`, { mode: '100644', text: `${word}\n`.repeat(5) });
  else if (kind <= 3) {
    model.delete(path);
    model.set(`src/m${random(6)}/${word}${random(99)}.c`, file);
  } else {
    const next = lines.toSpliced(
      at,
      random(4),
      ...Array.from({ length: 1 + random(3) }, () => `${word} ${random(999)}`),
    );
    model.set(path, { ...file, text: `${next.join('\n')}\n` });
  }
};

const rowOf = (seed: number): Model[] => {
  const random = makeRandom(seed);
  const base = startOf(random);
  const side = (word: string): Model => {
    const model: Model = new Map(base);
    for (let i = 0; i < EDITS; i += 1) editOnce(model, random, word);
    return model;
  };
  const [local, remote] = [side('local'), side('remote')];
  // Both touch one file at least, far apart.
  const common = [...base.keys()].find((path) => local.has(path) && remote.has(path)) ?? '';
  const add = (model: Model, where: 'start' | 'end', word: string): void => {
    const text = model.get(common)?.text ?? '';
    model.set(common, { mode: '100644', text: where === 'start' ? `${word}\n${text}` : `${text}${word}\n` });
  };
  add(local, 'start', 'local');
  add(remote, 'end', 'remote');
  return [base, local, remote];
};

/** The plain way: the remote's edits as a diff, applied to the local tree. */
const applied = async (base: string, local: string, remote: string): Promise<string | undefined> => {
  const { shadow } = ground;
  const index = join(ground.dir, 'apply.index');
  const diff = await shadow.run(['diff-tree', '-p', '-M', '--binary', '--full-index', base, remote]);
  await shadow.run(['read-tree', local], { index });
  const { code } = await shadow.run(['apply', '--cached'], { index, input: diff.stdout });
  const tree = await shadow.run(['write-tree'], { index });
  rmSync(index, { force: true });
  return code === 0 ? tree.stdout.toString('utf8').trim() : undefined;
};

type Trees = { base: string; local: string; remote: string };

/** Our merge beside git's: the same where git is clean, and where not, the same but for what git flags. */
const mergedAsGit = async (name: string, trees: Trees): Promise<'conflicts' | { clean: string }> => {
  const own = gitMerge(ground.dir, ground.shadow, trees);
  const { tree, conflicts, sides } = await mergeTrees(ground.shadow, trees);
  if (own.tree !== undefined) {
    expect([name, conflicts, tree]).toEqual([name, [], own.tree]);
    return { clean: own.tree };
  }
  const flagged = new Set(conflicts.flatMap(({ paths }) => paths));
  const real = own.unmerged.filter((path) =>
    [sides.base, sides.local, sides.remote].some((side) => side.has(path)),
  );
  expect([name, real.filter((path) => !flagged.has(path))]).toEqual([name, []]);
  for (const [path, { mode, oid }] of await listTree(ground.shadow, tree)) {
    if (!flagged.has(path)) expect([name, path, own.index.get(path)]).toEqual([name, path, `${mode} ${oid}`]);
  }
  return 'conflicts';
};

it(
  'two lines of work become what git makes of them, which a diff and an apply do not',
  async () => {
    const seen = { clean: 0, conflicts: 0, applied: 0 };
    for (let seed = 1; seed <= ROWS; seed += 1) {
      const [base = '', local = '', remote = ''] = await storeTrees(ground.shadow, rowOf(seed));
      const found = await mergedAsGit(`seed ${seed}`, { base, local, remote });
      if (found === 'conflicts') seen.conflicts += 1;
      else {
        seen.clean += 1;
        if ((await applied(base, local, remote)) === found.clean) seen.applied += 1;
      }
    }
    // Both kinds were met, and the plain way fails where both sides changed or moved the same files.
    expect(seen.clean).toBeGreaterThan(ROWS / 8);
    expect(seen.conflicts).toBeGreaterThan(ROWS / 8);
    expect(seen.applied).toBeLessThan(seen.clean);
  },
  ROWS * 10_000,
);

/** The trees of this project's own commits, the oldest first; none where it came without its history. */
const projectTrees = (): string[] => {
  try {
    return gitIn(process.cwd(), 'log', '--reverse', '--format=%T').split('\n').filter(Boolean);
  } catch {
    return [];
  }
};

it.skipIf(projectTrees().length < HISTORY)(
  'states of a real code base become what git makes of them',
  async () => {
    const store = gitIn(process.cwd(), 'rev-parse', '--path-format=absolute', '--git-path', 'objects').trim();
    writeFileSync(join(ground.shadow.dir, 'objects/info/alternates'), `${store}\n`);
    const all = projectTrees();
    const random = makeRandom(all.length);
    const seen = { clean: 0, conflicts: 0 };
    for (let n = 0; n < ROWS; n += 1) {
      // One side went on from the base, and the other went back behind it, as who reverts: they meet where they overlap.
      const at = 20 + random(all.length - 40);
      const pick = (from: number, count: number): string => all[from + random(count)] ?? '';
      const trees = { base: all[at] ?? '', local: pick(at + 1, 6), remote: pick(at - 6, 6) };
      const found = await mergedAsGit(`commit ${at} of ${all.length}`, trees);
      if (found === 'conflicts') seen.conflicts += 1;
      else seen.clean += 1;
    }
    expect(seen.clean + seen.conflicts).toBe(ROWS);
    expect(seen.conflicts).toBeGreaterThan(0);
  },
  ROWS * 10_000,
);
