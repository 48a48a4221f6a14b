import { createHash } from 'node:crypto';
import { readFileSync, renameSync, writeFileSync } from 'node:fs';
import * as z from 'zod';
import type { ZoneSpec } from '../protocol/calls.ts';

/** Which worktree of this machine is bound to which zone: zones.json, read once, written by rename when it changes. */

const Binding = z.object({
  /** The zone's id on its server; also the name of its files here. */
  zone: z.string(),
  root: z.string(),
  gitDir: z.string(),
  address: z.string(),
  branch: z.string(),
  mode: z.enum(['local', 'ssh', 'ec2']),
  /** `local`, or the host as the person wrote it. */
  host: z.string(),
  /** The worktree on the zone's machine; `~/…` is that machine's home. */
  path: z.string(),
  session: z.string().optional(),
  /** Which program speaks SSH to the host, where zone.backend says so. */
  backend: z.enum(['ssh2', 'openssh']).optional(),
  /** Whether patches travel by themselves, where the person said so for this zone. */
  auto: z.boolean().optional(),
  usedMs: z.number(),
});
export type Binding = z.infer<typeof Binding>;

export type Bindings = {
  all(): Binding[];
  byRoot(root: string): Binding | undefined;
  byZone(zone: string): Binding | undefined;
  put(binding: Binding): void;
  remove(zone: string): void;
};

/**
 * A zone is its worktree: its id comes from the place, so the same one is found by every caller, however many come
 * first at once, and by every device that calls the host by the same name.
 */
export const zoneIdOf = (host: string, path: string): string =>
  `z-${createHash('sha256').update(`${host}\0${path}`).digest('hex').slice(0, 16)}`;

export const specOf = (binding: Binding): ZoneSpec => ({
  id: binding.zone,
  address: binding.address,
  branch: binding.branch,
  mode: binding.mode,
  path: binding.path,
  ...(binding.mode === 'local' && binding.path !== binding.root && { carried: true }),
});

/** A use alone is written down this seldom: it tells which zones are in use, to the day. */
const SAVE_USE_AFTER_MS = 24 * 3600_000;

const read = (path: string): Binding[] => {
  try {
    return z.array(Binding).parse(JSON.parse(readFileSync(path, 'utf8')));
  } catch {
    // None yet, or not ours any more: bindings are found again by the next init.
    return [];
  }
};

/** Opens zones.json. Only the hub writes it, and there is one hub. */
export const openBindings = (path: string): Bindings => {
  const byRoot = new Map(read(path).map((binding) => [binding.root, binding]));
  const savedUse = new Map([...byRoot].map(([root, { usedMs }]) => [root, usedMs]));
  const save = (): void => {
    const temp = `${path}.${process.pid}`;
    writeFileSync(temp, `${JSON.stringify([...byRoot.values()], null, 1)}\n`, { mode: 0o600 });
    renameSync(temp, path);
    savedUse.clear();
    for (const [root, { usedMs }] of byRoot) savedUse.set(root, usedMs);
  };
  return {
    all: () => [...byRoot.values()],
    byRoot: (root) => byRoot.get(root),
    // A worktree that moved leaves its old place behind: the one that was used last is where the zone is now.
    byZone: (zone) =>
      [...byRoot.values()].filter((binding) => binding.zone === zone).sort((a, b) => b.usedMs - a.usedMs)[0],
    put: (binding) => {
      const before = byRoot.get(binding.root);
      byRoot.set(binding.root, binding);
      const { usedMs: _a, ...was } = before ?? { usedMs: 0 };
      const { usedMs: _b, ...is } = binding;
      const isOld = binding.usedMs - (savedUse.get(binding.root) ?? 0) > SAVE_USE_AFTER_MS;
      if (isOld || JSON.stringify(was) !== JSON.stringify(is)) save();
    },
    remove: (zone) => {
      for (const [root, binding] of byRoot) if (binding.zone === zone) byRoot.delete(root);
      save();
    },
  };
};
