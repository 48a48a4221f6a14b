import { randomBytes } from 'node:crypto';
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { KhloneError } from '../protocol/error.ts';
import { gitFailed } from './git.ts';
import { type Path, pathText, records, toBytes } from './listing.ts';
import type { Shadow } from './shadow.ts';
import { fewChanges } from './tree-diff.ts';
import { editTree } from './tree-edit.ts';
import { GITLINK } from './worktree-listing.ts';

/** Trees as values: what is in them, where two differ, and a tree with some paths changed. Nothing touches a worktree. */

/** 100644 and 100755 are files, 120000 a symlink, 160000 a submodule's commit. */
export type Entry = { mode: string; oid: string };
/** One path in two trees; undefined where it is not there. A rename is a deletion and an addition. */
export type Change = { path: Path; before: Entry | undefined; after: Entry | undefined };
/** What a path shall be; undefined removes it. */
export type Wish = { path: Path; after: Entry | undefined };
/** One file that git takes for another under a new name. */
export type Rename = { from: Path; to: Path };
/** Paths with what is there. */
export type Tree = ReadonlyMap<Path, Entry>;

const MODES: ReadonlySet<string> = new Set(['100644', '100755', '120000', GITLINK]);
const OID = /^(?:[0-9a-f]{40}|[0-9a-f]{64})$/u;
/** Git's word for a file that is not there. */
export const NO_MODE = '000000';
/** Words of one command line, far below the kernel's bound. */
const MAX_ARGV_BYTES = 64 * 1024;
/** Pairs are not looked at for renames where the names on both sides are more than this; git's merge has the same. */
export const RENAME_LIMIT = 7000;

const strange = (what: string): KhloneError => new KhloneError('internal', `git gave a strange ${what}`);

const said = async (shadow: Shadow, args: readonly string[], input?: Buffer): Promise<Buffer> => {
  const answer = await shadow.run(args, input && { input });
  if (answer.code !== 0) throw gitFailed(`git ${args[0]} failed in the shadow repository`, answer.stderr);
  return answer.stdout;
};

export const entryOf = (mode: string | undefined, oid: string | undefined): Entry => {
  if (mode === undefined || oid === undefined || !MODES.has(mode) || !OID.test(oid)) throw strange('entry');
  return { mode, oid };
};

export const sameEntry = (one: Entry | undefined, other: Entry | undefined): boolean =>
  one?.oid === other?.oid && one?.mode === other?.mode;

const sideOf = (mode: string | undefined, oid: string | undefined): Entry | undefined =>
  mode === NO_MODE ? undefined : entryOf(mode, oid);

/** ":100644 000000 <id> <id> D", then the path; a rename names two, and its parts are told as two changes. */
const parseRaw = (words: readonly string[]): { changes: Change[]; renames: Rename[] } => {
  const changes: Change[] = [];
  const renames: Rename[] = [];
  let at = 0;
  const next = (): string => {
    const word = words[at];
    at += 1;
    if (word === undefined || word === '') throw strange('list of changes');
    return word;
  };
  while (at < words.length) {
    const facts = next();
    const [oldMode, newMode, oldId, newId, status] = facts.replace(/^:/u, '').split(' ');
    const before = sideOf(oldMode, oldId);
    const after = sideOf(newMode, newId);
    const path = next();
    if (status?.startsWith('R')) {
      const to = next();
      changes.push({ path, before, after: undefined }, { path: to, before: undefined, after });
      renames.push({ from: path, to });
    } else changes.push({ path, before, after });
  }
  return { changes, renames };
};

const RAW = ['diff-tree', '-r', '-z', '--raw', '--no-abbrev'];

/** Every path in which two trees differ, never as a rename. Throws `internal` where a tree is not there. */
export const diffTrees = async (shadow: Shadow, from: string, to: string): Promise<Change[]> => {
  if (from === to) return [];
  const few = await fewChanges(shadow, from, to);
  return (
    few?.changes ?? parseRaw(records(await said(shadow, [...RAW, '--no-renames', from, to, '--']))).changes
  );
};

/** Git takes what goes for what comes: where only one of the two happened, nothing was renamed. */
const mayRename = (changes: readonly Change[]): boolean =>
  changes.some(({ after }) => after === undefined) && changes.some(({ before }) => before === undefined);

type Diff = { changes: readonly Change[]; renames: readonly Rename[] };

/** Trees never change: what was told of two of them, the latest last. One exchange asks twice for the same. */
const lastDiffs = new Map<string, Diff>();
const MAX_DIFFS = 8;
/** Changes of one diff that is remembered. */
const MAX_REMEMBERED = 1_000;

/** The same, with the pairs that git takes for renames. The files of such pairs are read. */
export const diffWithRenames = async (shadow: Shadow, from: string, to: string): Promise<Diff> => {
  if (from === to) return { changes: [], renames: [] };
  const key = `${shadow.dir} ${from} ${to}`;
  const known = lastDiffs.get(key);
  if (known) return known;
  const few = await fewChanges(shadow, from, to);
  if (few && !mayRename(few.changes)) return { changes: few.changes, renames: [] };
  const args = [...RAW, '-M', `-l${RENAME_LIMIT}`, '--no-rename-empty', from, to, '--'];
  const found = parseRaw(records(await said(shadow, args)));
  if (found.changes.length <= MAX_REMEMBERED) {
    lastDiffs.set(key, found);
    for (const old of [...lastDiffs.keys()].slice(0, -MAX_DIFFS)) lastDiffs.delete(old);
  }
  return found;
};

/** "100644 blob <id>\t<path>"; trees that a listing of few paths names are not entries. */
const parseListing = (output: Buffer): Map<Path, Entry> => {
  const found = new Map<Path, Entry>();
  for (const line of records(output)) {
    const tab = line.indexOf('\t');
    const [mode, type, oid] = line.slice(0, tab).split(' ');
    if (tab < 0) throw strange('list of a tree');
    if (type !== 'tree') found.set(line.slice(tab + 1), entryOf(mode, oid));
  }
  return found;
};

/** All of a tree. Throws `internal` where it is not whole. */
export const listTree = async (shadow: Shadow, tree: string): Promise<Map<Path, Entry>> =>
  parseListing(await said(shadow, ['ls-tree', '-r', '-z', '--full-tree', tree]));

/** Paths in pieces that fit on a command line. */
const pieces = (paths: readonly Path[]): Path[][] => {
  const all: Path[][] = [[]];
  let bytes = 0;
  for (const path of paths) {
    bytes += path.length + 1;
    if (bytes > MAX_ARGV_BYTES) {
      all.push([]);
      bytes = path.length + 1;
    }
    all.at(-1)?.push(path);
  }
  return all.filter((piece) => piece.length > 0);
};

/** Git takes other spellings for the same place, or for one outside; no tree has them. */
const isPlain = (path: Path): boolean => path.split('/').every((part) => !['', '.', '..'].includes(part));

/** What a tree has at a few paths; those that it does not have are left out. */
export const entriesOf = async (
  shadow: Shadow,
  tree: string,
  paths: readonly Path[],
): Promise<Map<Path, Entry>> => {
  const wanted = new Set(paths.filter(isPlain));
  const found = new Map<Path, Entry>();
  const keep = (listed: Tree): void => {
    for (const [path, entry] of listed) if (wanted.has(path)) found.set(path, entry);
  };
  // A word of argv is text, and such a name is none.
  if ([...wanted].some((path) => pathText(path).includes('\ufffd'))) keep(await listTree(shadow, tree));
  else
    for (const piece of pieces([...wanted])) {
      const words = piece.map(pathText);
      const args = ['--literal-pathspecs', 'ls-tree', '-z', '--full-tree', tree, '--', ...words];
      keep(parseListing(await said(shadow, args)));
    }
  return found;
};

/** Sizes of files in bytes, by id. Throws `internal` where one is not there. */
export const blobSizes = async (shadow: Shadow, oids: readonly string[]): Promise<Map<string, number>> => {
  const wanted = [...new Set(oids)];
  if (wanted.length === 0) return new Map();
  const input = Buffer.from(`${wanted.join('\n')}\n`);
  const args = ['cat-file', '--batch-check=%(objectname) %(objecttype) %(objectsize)'];
  const lines = (await said(shadow, args, input)).toString('utf8').trimEnd().split('\n');
  return new Map(
    lines.map((line) => {
      const [oid = '', type, size] = line.split(' ');
      if (type !== 'blob')
        throw new KhloneError('internal', `a file's content is missing: ${oid.slice(0, 12)}`);
      return [oid, Number(size)];
    }),
  );
};

/** The bytes of one file. Throws `too-large` over `maxBytes`, `internal` where it is not there. */
export const readBlob = async (shadow: Shadow, oid: string, maxBytes: number): Promise<Buffer> => {
  const { code, stdout, stderr } = await shadow.run(['cat-file', 'blob', oid], { maxBytes });
  if (code !== 0) throw gitFailed("a file's content is missing", stderr);
  return stdout;
};

/** The id of the tree with nothing in it, which is made where it is not there. */
export const emptyTree = async (shadow: Shadow): Promise<string> =>
  (await said(shadow, ['hash-object', '-t', 'tree', '-w', '--stdin'])).toString('utf8').trim();

/** Few paths are asked for by name, many by one listing. */
const FEW = 100;

/** Git drops a name that it dislikes, and a file that stands in a folder's way, both without a word. */
const requireExactly = async (
  shadow: Shadow,
  tree: string,
  made: string,
  wishes: ReadonlyMap<Path, Entry | undefined>,
): Promise<void> => {
  const paths = [...wishes.keys()];
  const [changes, there] = await Promise.all([
    diffTrees(shadow, tree, made),
    paths.length <= FEW ? entriesOf(shadow, made, paths) : listTree(shadow, made),
  ]);
  const wrong =
    changes.find(({ path }) => !wishes.has(path))?.path ??
    [...wishes].find(([path, after]) => !sameEntry(there.get(path), after))?.[0];
  if (wrong === undefined) return;
  throw new KhloneError('conflict', `no tree can hold ${JSON.stringify(pathText(wrong))} beside the others`);
};

/**
 * A tree with some paths set or removed. What files hold need not be here. Throws `conflict` where the result would
 * not have exactly these: a name that git refuses, or a file where another path needs a folder.
 */
export const treeWith = async (shadow: Shadow, tree: string, changes: readonly Wish[]): Promise<string> => {
  if (changes.length === 0) return tree;
  const edited = await editTree(shadow, tree, changes);
  if (edited !== undefined) return edited;
  const index = join(shadow.dir, `index.${randomBytes(6).toString('hex')}`);
  const run = async (args: readonly string[], input?: Buffer): Promise<string> => {
    const answer = await shadow.run(args, { index, ...(input && { input }) });
    if (answer.code !== 0) throw gitFailed(`git ${args[0]} failed in the shadow repository`, answer.stderr);
    return answer.stdout.toString('utf8').trim();
  };
  const wishes = new Map(changes.map(({ path, after }) => [path, after]));
  // Removals first, so that a folder may take the place of a file that goes.
  const ordered = [...wishes].sort(
    ([, one], [, other]) => Number(one !== undefined) - Number(other !== undefined),
  );
  const lines = ordered.map(([path, after]) =>
    after ? `${after.mode} ${after.oid} 0\t${path}\0` : `0 ${shadow.zeroId}\t${path}\0`,
  );
  try {
    await run(['read-tree', tree]);
    await run(['update-index', '-z', '--index-info'], toBytes(lines.join('')));
    const made = await run(['write-tree', '--missing-ok']);
    await requireExactly(shadow, tree, made, wishes);
    return made;
  } finally {
    await rm(index, { force: true });
    await rm(`${index}.lock`, { force: true });
  }
};

/**
 * Whether every tree and file of a tree can be read. `knownTree` is one that is known to be whole: what it holds is
 * not looked at again.
 */
export const isComplete = async (shadow: Shadow, tree: string, knownTree?: string): Promise<boolean> => {
  const known = knownTree === undefined ? [] : [`^${knownTree}`];
  return (await shadow.run(['rev-list', '--objects', '--quiet', tree, ...known, '--'])).code === 0;
};
