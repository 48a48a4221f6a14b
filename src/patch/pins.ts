import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { commitOf } from './envelope.ts';
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

/** The pinned trees by their names below `prefix`. */
export const pinned = async (shadow: Shadow, prefix: string): Promise<Map<string, string>> => {
  const format = '%(refname) %(tree)';
  const text = await ok(shadow, ['for-each-ref', `--format=${format}`, `${refOf(prefix)}`]);
  return new Map(
    text
      .split('\n')
      .filter(Boolean)
      .map((line) => {
        const [ref = '', tree = ''] = line.split(' ');
        return [ref.slice('refs/khlone/'.length), tree];
      }),
  );
};

/** Copies what the tree needs and no pinned tree has into the shadow's own store. */
const own = async (shadow: Shadow, tree: string): Promise<void> => {
  const known = (await ok(shadow, ['for-each-ref', '--format=%(tree)', 'refs/khlone'])).split('\n');
  if (known.includes(tree)) return;
  const input = `${[tree, ...known.filter(Boolean).map((one) => `^${one}`)].join('\n')}\n`;
  // Without --local: what lies in the user's store is copied, too.
  const args = [
    'pack-objects',
    '--revs',
    '--quiet',
    '--delta-base-offset',
    join(shadow.dir, 'objects/pack/pack'),
  ];
  const said = gitStream([...shadow.config, ...args], {
    ...{ cwd: shadow.dir, env: shadow.env(), input, deadlineMs: GIT_DEADLINE_MS },
  });
  for await (const _ of said);
};

/** Holds a tree under a name, whatever the user's git does. Throws `internal` where an object of it is gone. */
export const pin = async (shadow: Shadow, name: string, tree: string): Promise<void> => {
  await own(shadow, tree);
  await ok(shadow, ['update-ref', refOf(name), await commitOf(shadow, tree)]);
};

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
