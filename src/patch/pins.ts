import { readdir, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { git, gitFailed, gitStream } from './git.ts';
import type { Shadow } from './shadow.ts';

/**
 * Trees that a shadow holds for later: by a ref of its own, and with objects of its own. A snapshot counts on the
 * user's objects, and the user's `git gc` may take those away; a pinned tree counts on nobody.
 */

const GIT_DEADLINE_MS = 15 * 60_000;
const MAX_ANSWER_BYTES = 16 * 1024 * 1024;
/** More packs than this make every git slower: they are joined. */
const MAX_PACKS = 40;
/** Objects that nothing pins are kept so long: another process may be about to pin them. */
const PRUNE_AFTER = '2.days.ago';
/** No ref of ours is written for so long. */
const STALE_LOCK_MS = 60_000;
const NAME = /^[a-z]+(?:\/[\w.-]{1,100}){0,3}$/u;

const refOf = (name: string): string => {
  if (!NAME.test(name) || name.includes('..')) throw new Error(`no name for a pin: ${name}`);
  return `refs/khlone/${name}`;
};

const ok = async (shadow: Shadow, args: readonly string[]): Promise<string> => {
  const said = await shadow.run(args, { maxBytes: MAX_ANSWER_BYTES });
  if (said.code !== 0) throw gitFailed(`git ${args[0]} failed in the shadow repository`, said.stderr);
  return said.stdout.toString('utf8').trim();
};

/** The pinned trees by their names below `prefix`; all where it is left out. */
export const pinned = async (shadow: Shadow, prefix?: string): Promise<Map<string, string>> => {
  const format = '%(refname) %(objecttype) %(objectname) %(tree)';
  const below = prefix === undefined ? 'refs/khlone' : refOf(prefix);
  const text = await ok(shadow, ['for-each-ref', `--format=${format}`, below]);
  return new Map(
    text
      .split('\n')
      .filter(Boolean)
      .map((line) => {
        const [ref = '', type = '', id = '', tree = ''] = line.split(' ');
        return [ref.slice('refs/khlone/'.length), type === 'tree' ? id : tree];
      }),
  );
};

/** Copies what the trees need and no pinned one has into the shadow's own store, onto the disk. */
const own = async (shadow: Shadow, trees: readonly string[], held: ReadonlySet<string>): Promise<void> => {
  const fresh = trees.filter((tree) => !held.has(tree));
  if (fresh.length === 0) return;
  const input = `${[...fresh, ...[...held].map((one) => `^${one}`)].join('\n')}\n`;
  // Without --local: what lies in the user's store is copied, too.
  const args = ['pack-objects', '--revs', '--quiet', '--delta-base-offset'];
  const said = gitStream([...shadow.config, ...args, join(shadow.dir, 'objects/pack/pack')], {
    ...{ cwd: shadow.dir, env: shadow.env(), input, deadlineMs: GIT_DEADLINE_MS },
  });
  for await (const _ of said);
};

/** A git that was killed leaves its lock behind, and nobody else would take that away. */
const sweepLocks = async (shadow: Shadow): Promise<void> => {
  const names = await readdir(join(shadow.dir, 'refs'), { recursive: true });
  const locks = names.filter((name) => name.endsWith('.lock')).map((name) => join('refs', name));
  for (const name of [...locks, 'packed-refs.lock']) {
    const path = join(shadow.dir, name);
    const facts = await stat(path).catch(() => undefined);
    if (facts && Date.now() - facts.mtimeMs > STALE_LOCK_MS) await rm(path, { force: true });
  }
};

const setRefs = async (shadow: Shadow, input: string): Promise<void> => {
  const set = () => shadow.run(['update-ref', '--stdin'], { input, maxBytes: MAX_ANSWER_BYTES });
  let said = await set();
  if (said.code !== 0 && said.stderr.includes('.lock')) {
    await sweepLocks(shadow);
    said = await set();
  }
  if (said.code !== 0) throw gitFailed('git could not hold a tree', said.stderr);
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
  await own(shadow, [...new Set(trees)], new Set(held.values()));
  const lines = changes.map(([name, tree]) =>
    tree === undefined ? `delete ${refOf(name)}\n` : `update ${refOf(name)} ${tree}\n`,
  );
  await setRefs(shadow, lines.join(''));
  for (const [name, tree] of changes) {
    if (tree === undefined) held.delete(name);
    else held.set(name, tree);
  }
};

/** Holds one tree under a name. Throws `internal` where an object of it is gone. */
export const pin = async (shadow: Shadow, name: string, tree: string): Promise<void> =>
  pinAll(shadow, await pinned(shadow), new Map([[name, tree]]));

export const unpin = async (shadow: Shadow, name: string): Promise<void> => {
  await ok(shadow, ['update-ref', '-d', refOf(name)]);
};

/** Joins packs and drops what nothing pins, when it is worth it. Sees the shadow's own objects only. */
export const tidy = async (shadow: Shadow): Promise<void> => {
  const packs = (await readdir(join(shadow.dir, 'objects/pack')).catch(() => [])).filter((name) =>
    name.endsWith('.pack'),
  );
  if (packs.length <= MAX_PACKS) return;
  const env: Record<string, string> = { ...shadow.env(), GIT_ALTERNATE_OBJECT_DIRECTORIES: '' };
  const options = { cwd: shadow.dir, env, deadlineMs: GIT_DEADLINE_MS, maxBytes: MAX_ANSWER_BYTES };
  // Loosened first, so that prune can judge them by their age.
  const repacked = await git([...shadow.config, 'repack', '-A', '-d', '-q'], options);
  if (repacked.code === 0) await git([...shadow.config, 'prune', `--expire=${PRUNE_AFTER}`], options);
};
