import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { DISPLACED_KEPT } from '../../patch/displaced.ts';
import { lstat, readNames, readText } from '../../patch/near-disk.ts';
import { stillRuns } from './maker.ts';

/** Files beside a worktree's state that belong to nobody any more, because who made them was killed. */

const HOUR_MS = 3600_000;
const MINUTE_MS = 60_000;

/** What decides whether a name is swept; all else in the folder stays. */
type Rule = {
  name: RegExp;
  /** Untouched for this long. */
  afterMs: number;
  /** Who made it, where the file says so: it stays while that process runs. */
  maker?: (name: string, path: string) => Promise<readonly [pid: string, start: string] | undefined>;
};

const makerInside: Rule['maker'] = async (_, path) => {
  const [, pid, start] = /^(\d+) (\S+) \d+\n$/u.exec(await readText(path)) ?? [];
  return pid && start ? [pid, start] : undefined;
};

const EDITED = /^resolve-(\d+)-(\d+|-)-[0-9a-f]{8}-/u;

/** A text that a person may have worked on stays as long as what a pull displaced. */
const makerInName: Rule['maker'] = async (name) => {
  const [, pid, start] = EDITED.exec(name) ?? [];
  return pid && start ? [pid, start] : undefined;
};

const RULES: readonly Rule[] = [
  // Made and removed under the lock, which is ours now.
  { name: /^(?:payload|proof)-[0-9a-f]{12}$/u, afterMs: 0 },
  { name: /^lock\.\d+\.\d+(?:\.stale)?$/u, afterMs: MINUTE_MS, maker: makerInside },
  { name: /^resolve-/u, afterMs: DISPLACED_KEPT.ms, maker: makerInName },
  // Made before there is a lock.
  { name: /^(?:replica\.json\.\d+\.[0-9a-f]{8}|shadow\.git\.[0-9a-f]{12})$/u, afterMs: HOUR_MS },
];
const SHADOW_RULES: readonly Rule[] = [{ name: /^marked-\w{6}$/u, afterMs: HOUR_MS }];

const sweepBy = async (dir: string, rules: readonly Rule[]): Promise<void> => {
  for (const name of await readNames(dir).catch(() => [])) {
    const rule = rules.find((one) => one.name.test(name));
    const path = join(dir, name);
    const facts = rule && (await lstat(path).catch(() => undefined));
    if (!facts || Date.now() - facts.mtimeMs < rule.afterMs) continue;
    const maker = facts.isFile() ? await rule.maker?.(name, path).catch(() => undefined) : undefined;
    if (maker && (await stillRuns(...maker))) continue;
    // One that cannot be removed harms nothing.
    await rm(path, { recursive: true, force: true }).catch(() => {});
  }
};

/**
 * Removes what killed processes left in a worktree's khlone folder. To be called by whoever has the folder's lock: what
 * is made under it is nobody else's.
 */
export const sweepLeftovers = async (dir: string): Promise<void> => {
  await Promise.all([sweepBy(dir, RULES), sweepBy(join(dir, 'shadow.git'), SHADOW_RULES)]);
};
