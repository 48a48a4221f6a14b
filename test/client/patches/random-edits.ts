import {
  appendFileSync,
  chmodSync,
  existsSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { dirname, join } from 'node:path';
import { gitIn } from '../../patch/ground.ts';

/** Random edits of a worktree as people, editors and clones make them. Each write holds a word that is nowhere else. */

export type Random = {
  below(bound: number): number;
  of<T>(all: readonly T[]): T;
  chance(share: number): boolean;
};

/** The same numbers for the same seed. */
export const randomFrom = (seed: number): Random => {
  let state = seed >>> 0;
  const next = (): number => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = state;
    t = Math.imul(t ^ (t >>> 15), t | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
  return {
    below: (bound) => Math.floor(next() * bound),
    of: (all) => {
      const one = all[Math.floor(next() * all.length)];
      if (one === undefined) throw new Error('nothing to choose from');
      return one;
    },
    chance: (share) => next() < share,
  };
};

/** Few names that meet in every way: beside, below and above each other, and alike but for their case. */
const NAMES = [
  ...['a.txt', 'b.txt', 'A.txt', 'd/a.txt', 'd/b.txt', 'd/e/c.txt', 'D/a.txt'],
  ...['x', 'x/y', 'x/y/z', 'é', 'two\nlines', '-dash', 'm/n.bin', 'gen-1', 'gen-2'],
];

/** Files of a worktree, without git's and khlone's own. */
export const filesIn = (root: string, below = ''): string[] =>
  readdirSync(join(root, below), { withFileTypes: true }).flatMap((entry) => {
    const path = below ? `${below}/${entry.name}` : entry.name;
    if (path === '.git' || path === '.khlone') return [];
    return entry.isDirectory() ? filesIn(root, path) : [path];
  });

/** Makes room for a path: what stands in its way goes. */
const clear = (root: string, path: string): void => {
  const names = path.split('/');
  for (let n = 1; n < names.length; n += 1) {
    const folder = join(root, ...names.slice(0, n));
    const facts = lstatSync(folder, { throwIfNoEntry: false });
    if (facts && !facts.isDirectory()) rmSync(folder);
  }
  rmSync(join(root, path), { recursive: true, force: true });
  mkdirSync(dirname(join(root, path)), { recursive: true });
};

const linesOf = (root: string, path: string): string[] | undefined => {
  if (!lstatSync(join(root, path)).isFile()) return undefined;
  const text = readFileSync(join(root, path), 'utf8');
  return text.includes('\0') ? undefined : text.split('\n').slice(0, -1);
};

let tokens = 0;
const newToken = (root: string): string => {
  tokens += 1;
  return `token-${tokens}-${root.split('/').at(-1)}`;
};

type Edit = (root: string, path: string, random: Random) => void;

const editLines: Edit = (root, path, random) => {
  const lines = linesOf(root, path);
  if (!lines) return;
  // Often the same place, so that two sides meet there.
  const at = random.chance(0.5) ? Math.min(2, lines.length) : random.below(lines.length + 1);
  const next = lines.toSpliced(at, random.below(3), newToken(root));
  writeFileSync(join(root, path), next.map((line) => `${line}\n`).join(''));
};

const writeNew: Edit = (root, _, random) => {
  const path = random.of(NAMES);
  clear(root, path);
  const count = random.below(8);
  writeFileSync(join(root, path), [newToken(root), ...Array(count).fill(path)].join('\n').concat('\n'));
};

const binary: Edit = (root, path) => {
  if (lstatSync(join(root, path)).isFile()) writeFileSync(join(root, path), `\0${newToken(root)}`);
};

const rename: Edit = (root, path, random) => {
  const to = random.of(NAMES);
  if (to === path || to.startsWith(`${path}/`) || path.startsWith(`${to}/`)) return;
  clear(root, to);
  if (existsSync(join(root, path))) renameSync(join(root, path), join(root, to));
};

const renameFolder: Edit = (root, _, random) => {
  const from = random.of(['d', 'x', 'm', 'D']);
  const to = random.of(['moved', 'd', 'm']);
  if (from === to || !lstatSync(join(root, from), { throwIfNoEntry: false })?.isDirectory()) return;
  if (!lstatSync(join(root, to), { throwIfNoEntry: false })) renameSync(join(root, from), join(root, to));
};

const mode: Edit = (root, path) => {
  const facts = lstatSync(join(root, path));
  if (facts.isFile()) chmodSync(join(root, path), facts.mode & 0o100 ? 0o644 : 0o755);
};

const link: Edit = (root, _, random) => {
  const path = random.of([...NAMES, 'd']);
  clear(root, path);
  symlinkSync(random.of([newToken(root), '../outside', 'd', '/etc/hostname']), join(root, path));
};

const remove: Edit = (root, path) => rmSync(join(root, path));

const ignore: Edit = (root, _, random) => {
  appendFileSync(join(root, '.gitignore'), `${random.of(['gen-1', 'gen-2', newToken(root)])}\n`);
};

const commit: Edit = (root) => {
  gitIn(root, 'add', '-A');
  gitIn(root, 'commit', '-q', '--allow-empty', '-m', 'work');
};

/** There and back: what was committed on the way is on a branch of its own. */
const switchBranch: Edit = (root, path, random) => {
  commit(root, path, random);
  const name = newToken(root);
  gitIn(root, 'switch', '-q', '-c', name);
  writeNew(root, path, random);
  commit(root, path, random);
  try {
    gitIn(root, 'switch', '-q', random.chance(0.5) ? 'main' : '-');
  } catch {
    // An ignored file stands in the way: the branch stays.
  }
};

const collect: Edit = (root) => {
  gitIn(root, 'reflog', 'expire', '--expire=now', '--all');
  gitIn(root, 'gc', '-q', '--prune=now');
};

const EDITS: Record<string, readonly [weight: number, Edit]> = {
  'edit lines': [10, editLines],
  'write new': [5, writeNew],
  binary: [1, binary],
  rename: [4, rename],
  'rename folder': [3, renameFolder],
  mode: [1, mode],
  link: [2, link],
  remove: [3, remove],
  ignore: [1, ignore],
  commit: [1, commit],
  switch: [1, switchBranch],
  gc: [1, collect],
};
const BAG = Object.entries(EDITS).flatMap(([name, [weight]]) => Array<string>(weight).fill(name));

/** One random edit; answers its name. Only a zone takes ignore rules away: that is what must not widen what is sent. */
export const editAtRandom = (root: string, random: Random, isZone: boolean): string => {
  if (isZone && random.chance(0.05)) {
    writeFileSync(join(root, '.gitignore'), `# ${newToken(root)}\n`);
    return 'empty .gitignore';
  }
  const name = random.of(BAG);
  const files = filesIn(root).filter((path) => !/^(?:\.gitignore|\.env|ignored.*)$/u.test(path));
  if (files.length === 0) return editAtRandom(root, random, isZone);
  EDITS[name]?.[1](root, random.of(files), random);
  return name;
};
