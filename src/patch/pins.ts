import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import * as z from 'zod';
import { type GitOptions, git, gitStream } from './git.ts';
import { forgetIndex } from './last-snapshot.ts';
import { lstat, readNames, readText, rename, writeDurable, writeSmall } from './near-disk.ts';
import { areOwn, syncObjects } from './objects.ts';
import type { Shadow } from './shadow.ts';
import { fewChanges } from './tree-diff.ts';

/**
 * Trees that a shadow holds for later: by a name in a list, and with objects of its own. A snapshot counts on the
 * user's objects, and the user's `git gc` may take those away; a pinned tree counts on nobody. No git but `tidy` throws objects away in a
 * shadow, so a list is as good as refs, and a list costs no process.
 */

const GIT_DEADLINE_MS = 15 * 60_000;
const MAX_ANSWER_BYTES = 16 * 1024 * 1024;
/** More packs than this make every git slower: they are joined. */
const MAX_PACKS = 40;
/** And more objects than these outside of packs, about. */
const MAX_LOOSE = 4096;
/** Objects that nothing pins are kept so long: another process may be about to pin them. */
const PRUNE_AFTER = '2.days.ago';
const MAX_PINS_BYTES = 16 * 1024 * 1024;
const Name = z.string().regex(/^[a-z]+(?:\/[\w.-]{1,100}){0,3}$/u);
const Pins = z.record(Name, z.string().regex(/^(?:[0-9a-f]{40}|[0-9a-f]{64})$/u));

const fileIn = (shadow: Shadow): string => join(shadow.dir, 'khlone-pins.json');

/** The pinned trees by their names below `prefix`; all where it is left out. What is no list of ours pins nothing. */
export const pinned = async (shadow: Shadow, prefix?: string): Promise<Map<string, string>> => {
  const path = fileIn(shadow);
  const facts = await lstat(path).catch(() => undefined);
  if (!facts?.isFile() || facts.size > MAX_PINS_BYTES) return new Map();
  const text = await readText(path).catch(() => '');
  let all: Record<string, string> = {};
  try {
    all = Pins.parse(JSON.parse(text));
  } catch {
    // A clone may have written to it: what was pinned is asked for anew.
  }
  const isBelow = (name: string): boolean => prefix === undefined || `${name}/`.startsWith(`${prefix}/`);
  return new Map(Object.entries(all).filter(([name]) => isBelow(name)));
};

/**
 * Whole or not at all, and durable where that is asked for: a list that only names anew what the one before it holds may
 * be lost. A step has one writer: whoever holds the lock of the worktree or the zone.
 */
const keep = async (
  shadow: Shadow,
  pins: ReadonlyMap<string, string>,
  { isDurable }: { isDurable: boolean },
): Promise<void> => {
  const path = fileIn(shadow);
  const text = JSON.stringify(Pins.parse(Object.fromEntries(pins)));
  await (isDurable ? writeDurable : writeSmall)(`${path}.new`, text, { mode: 0o600 });
  await rename(`${path}.new`, path);
};

/** Pinned trees that a new one is compared with, one after the other. */
const MAX_COMPARED = 4;

/**
 * Whether all that a tree has more than one of the pinned lies in the shadow's own store: then it is on the disk when
 * this returns. It is so after a small change, which khlone stored itself.
 */
const isOwnAlready = async (shadow: Shadow, tree: string, held: ReadonlySet<string>): Promise<boolean> => {
  for (const one of [...held].slice(0, MAX_COMPARED)) {
    const few = await fewChanges(shadow, one, tree);
    if (!few) continue;
    const files = few.changes.flatMap(({ after }) => (after ? [after.oid] : []));
    const oids = [...new Set([...few.folders, ...files])];
    if (!(await areOwn(shadow, oids))) continue;
    await syncObjects(shadow, oids);
    return true;
  }
  return false;
};

/** Copies what the trees need and no pinned one has into the shadow's own store, onto the disk. */
const own = async (shadow: Shadow, trees: readonly string[], held: ReadonlySet<string>): Promise<void> => {
  const fresh: string[] = [];
  for (const tree of trees)
    if (!held.has(tree) && !(await isOwnAlready(shadow, tree, held))) fresh.push(tree);
  if (fresh.length === 0) return;
  const input = `${[...fresh, ...[...held].map((one) => `^${one}`)].join('\n')}\n`;
  // Without --local: what lies in the user's store is copied, too.
  const args = ['pack-objects', '--revs', '--quiet', '--delta-base-offset'];
  const said = gitStream([...shadow.config, ...args, join(shadow.dir, 'objects/pack/pack')], {
    ...{ cwd: shadow.dir, env: shadow.env(), input, deadlineMs: GIT_DEADLINE_MS },
  });
  for await (const _ of said);
};

/**
 * Holds trees under names, whatever the user's git does, or lets go of a name where its tree is undefined. `held` is
 * what is pinned at this moment, all of it; it is kept true. All names change, or none. Throws `internal` where an
 * object of a tree is gone.
 */
export const pinAll = async (
  shadow: Shadow,
  held: Map<string, string>,
  wishes: ReadonlyMap<string, string | undefined>,
): Promise<void> => {
  const changes = [...wishes].filter(([name, tree]) => held.get(name) !== tree);
  if (changes.length === 0) return;
  const trees = changes.flatMap(([, tree]) => (tree === undefined ? [] : [tree]));
  const before = new Set(held.values());
  await own(shadow, [...new Set(trees)], before);
  // Read again: what the caller knows is what it pinned itself, and others have names in the list, too.
  const all = await pinned(shadow);
  for (const map of [all, held]) {
    for (const [name, tree] of changes) {
      if (tree === undefined) map.delete(name);
      else map.set(name, tree);
    }
  }
  await keep(shadow, all, { isDurable: trees.some((tree) => !before.has(tree)) });
};

/** Holds one tree under a name. Throws `internal` where an object of it is gone. */
export const pin = async (shadow: Shadow, name: string, tree: string): Promise<void> =>
  pinAll(shadow, await pinned(shadow), new Map([[name, tree]]));

export const unpin = async (shadow: Shadow, name: string): Promise<void> => {
  const held = await pinned(shadow);
  if (held.delete(name)) await keep(shadow, held, { isDurable: false });
};

const REF = 'refs/khlone/pinned';

/** What a git that was killed in the middle of this left behind: refs made for a moment, and a lock. */
const sweepRefs = async ({ dir }: Shadow): Promise<void> => {
  await rm(join(dir, 'refs/khlone'), { recursive: true, force: true });
  await rm(join(dir, 'packed-refs.lock'), { force: true });
};

/** Gives each pinned tree a ref: git keeps what refs lead to. Answers whether it did. */
const nameForGit = async (shadow: Shadow, options: GitOptions): Promise<boolean> => {
  await sweepRefs(shadow);
  const trees = new Set((await pinned(shadow)).values());
  const known = await git(['for-each-ref', '--format=%(refname)', REF], options);
  const old = known.stdout.toString('utf8').split('\n').filter(Boolean);
  const lines = [
    ...old.filter((ref) => !trees.has(ref.slice(REF.length + 1))).map((ref) => `delete ${ref}\n`),
    ...[...trees].map((tree) => `update ${REF}/${tree} ${tree}\n`),
  ];
  const set = await git(['update-ref', '--stdin'], { ...options, input: lines.join('') });
  return known.code === 0 && set.code === 0;
};

/** Whether the store is worth a tidying: many packs, or many objects in files of their own, of which one folder tells. */
const isUntidy = async ({ dir }: Shadow): Promise<boolean> => {
  const [packs, some] = await Promise.all([
    readNames(join(dir, 'objects/pack')).catch(() => []),
    readNames(join(dir, 'objects/17')).catch(() => []),
  ]);
  return packs.filter((name) => name.endsWith('.pack')).length > MAX_PACKS || some.length > MAX_LOOSE / 256;
};

/** Joins packs and drops what nothing pins, when it is worth it. Sees the shadow's own objects only. */
export const tidy = async (shadow: Shadow): Promise<void> => {
  if (!(await isUntidy(shadow))) return;
  const env: Record<string, string> = { ...shadow.env(), GIT_ALTERNATE_OBJECT_DIRECTORIES: '' };
  const options = { cwd: shadow.dir, env, deadlineMs: GIT_DEADLINE_MS, maxBytes: MAX_ANSWER_BYTES };
  if (!(await nameForGit(shadow, options))) return;
  // Loosened first, so that prune can judge them by their age.
  const repacked = await git([...shadow.config, 'repack', '-A', '-d', '-q'], options);
  if (repacked.code !== 0) return;
  await git([...shadow.config, 'prune', `--expire=${PRUNE_AFTER}`], options);
  // The kept index counts on trees of old snapshots, which may be gone now.
  await forgetIndex(shadow.dir);
};
