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

const editable = (root: string): string[] =>
  filesIn(root).filter((path) => !/^(?:\.gitignore|\.env|ignored.*|khlone\.yml)$/u.test(path));

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

/** Another file of the worktree, if there is one. */
const otherThan = (root: string, path: string, random: Random): string | undefined => {
  const others = editable(root).filter((name) => name !== path);
  return others.length > 0 ? random.of(others) : undefined;
};

/** Each takes the name of the next, and the last one that of the first. */
const rotate = (root: string, paths: readonly string[]): void => {
  const aside = join(root, '.git', 'aside');
  const names = [aside, ...paths.map((path) => join(root, path)).reverse(), aside];
  for (const [n, to] of names.slice(0, -1).entries()) renameSync(names[n + 1] ?? aside, to);
};

const swap: Edit = (root, path, random) => {
  const other = otherThan(root, path, random);
  if (other) rotate(root, [path, other]);
};

const rotateThree: Edit = (root, path, random) => {
  const others = editable(root).filter((name) => name !== path);
  const at = others.length < 2 ? 0 : random.below(others.length - 1);
  if (others.length >= 2) rotate(root, [path, ...others.slice(at, at + 2)]);
};

/** Over another one, and often something new where it was. */
const moveOver: Edit = (root, path, random) => {
  const other = otherThan(root, path, random);
  if (!other) return;
  renameSync(join(root, path), join(root, other));
  if (random.chance(0.5)) writeFileSync(join(root, path), `${newToken(root)}\n`);
};

const fileToFolder: Edit = (root, path, random) => {
  const aside = join(root, '.git', 'aside');
  renameSync(join(root, path), aside);
  mkdirSync(join(root, path));
  renameSync(aside, join(root, path, random.of(['index', 'y', 'z'])));
};

/** What both sides may write without knowing of each other. */
const writeSame: Edit = (root, _, random) => {
  const path = random.of(['same.txt', 'd/same.txt']);
  clear(root, path);
  writeFileSync(join(root, path), 'the same on each side\n'.repeat(3));
  chmodSync(join(root, path), random.chance(0.5) ? 0o755 : 0o644);
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

const removeFolder: Edit = (root, _, random) => {
  const folder = join(root, random.of(['d', 'd/e', 'x', 'm', 'moved']));
  if (lstatSync(folder, { throwIfNoEntry: false })?.isDirectory()) rmSync(folder, { recursive: true });
};

const empty: Edit = (root, path) => {
  if (lstatSync(join(root, path)).isFile()) writeFileSync(join(root, path), '');
};

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

/** Somebody who gives up where git finds that something does not fit. */
const tryGit = (root: string, ...args: string[]): void => {
  try {
    gitIn(root, ...args);
  } catch {
    gitIn(root, 'reset', '-q', '--hard');
  }
};

const stash: Edit = (root, _, random) =>
  tryGit(root, 'stash', 'push', '-q', ...(random.chance(0.6) ? ['-u'] : []));

const unstash: Edit = (root) => {
  if (gitIn(root, 'stash', 'list')) tryGit(root, 'stash', 'pop', '-q');
};

const amend: Edit = (root, path, random) => {
  gitIn(root, 'add', '-A');
  gitIn(root, 'commit', '-q', '--amend', '--allow-empty', '-m', 'work again');
  collect(root, path, random);
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
  swap: [2, swap],
  'rotate three': [1, rotateThree],
  'move over': [2, moveOver],
  'file to folder': [1, fileToFolder],
  'write the same': [1, writeSame],
  mode: [1, mode],
  link: [2, link],
  remove: [3, remove],
  'remove folder': [1, removeFolder],
  empty: [1, empty],
  ignore: [1, ignore],
  commit: [1, commit],
  amend: [1, amend],
  stash: [1, stash],
  unstash: [2, unstash],
  switch: [1, switchBranch],
  gc: [1, collect],
};
const BAG = Object.entries(EDITS).flatMap(([name, [weight]]) => Array<string>(weight).fill(name));

/** The kinds of edits of a world: all of them, or few, which then meet more often. */
export const kindsOfEdits = (random: Random): readonly string[] =>
  random.chance(0.4) ? BAG : ['edit lines', 'edit lines', ...Array.from({ length: 3 }, () => random.of(BAG))];

/**
 * One random edit, of one of `files` where they are given; answers its name. Only a zone takes ignore rules away: that
 * is what must not widen what is sent.
 */
export const editAtRandom = (
  root: string,
  random: Random,
  isZone: boolean,
  kinds: readonly string[] = BAG,
  files = editable(root),
): string => {
  if (isZone && random.chance(0.05)) {
    writeFileSync(join(root, '.gitignore'), `# ${newToken(root)}\n`);
    return 'empty .gitignore';
  }
  const name = files.length === 0 ? 'write new' : random.of(kinds);
  EDITS[name]?.[1](root, files.length === 0 ? '' : random.of(files), random);
  return name;
};
