import { dirname } from 'node:path';
import type { ViewMode } from './view.ts';

/**
 * Which mounts make a view, and in which order: pure, from resolved paths to a list that is done from first to last on
 * top of a file system that is read-only as a whole. A mount hides what lies below it, so parents come before children.
 */

/** `hide`: nothing is there any more. `ro`, `rw`: `from`, a path before the view began, is seen at `at`. */
export type Mount = { kind: 'hide' | 'ro' | 'rw'; at: string; from: string; folder: boolean };

/** A resolved path: no symlink in it, and it existed a moment ago. With `from`, what is seen there lies elsewhere. */
export type Place = { path: string; folder: boolean; from?: string };

export type Places = {
  mode: ViewMode;
  worktree: Place;
  writable: Place[];
  tmpDir: Place;
  /** Where programs expect a temporary folder: /tmp and /var/tmp. */
  sharedTemps: Place[];
  hide: Place[];
  readable: Place[];
  door: Place | undefined;
};

const KIND_ORDER = { hide: 0, ro: 1, rw: 2 } as const;

/** Whether `path` is `folder` or lies in it. */
export const isWithin = (path: string, folder: string): boolean =>
  folder === '/' || path === folder || path.startsWith(`${folder}/`);

const depth = (path: string): number => (path === '/' ? 0 : path.split('/').length);

const same = (kind: Mount['kind'], place: Place): Mount => ({
  kind,
  at: place.path,
  from: place.from ?? place.path,
  folder: place.folder,
});

/** The wishes of a spec, before any is found superfluous. */
const wishes = (places: Places): Mount[] => {
  const writable = [...places.writable, places.tmpDir, ...(places.mode === 'act' ? [places.worktree] : [])];
  const replaced = places.sharedTemps.filter((temp) => !writable.some((place) => place.path === temp.path));
  return [
    ...places.hide.filter((place) => place.path !== '/').map((place) => same('hide', place)),
    ...replaced.map((temp): Mount => ({ kind: 'rw', at: temp.path, from: places.tmpDir.path, folder: true })),
    ...[places.worktree, ...places.readable].map((place) => same('ro', place)),
    ...(places.door ? [same('ro', places.door)] : []),
    ...writable.map((place) => same('rw', place)),
  ];
};

/** One wish a path: what may be written beats what may be read, and that beats what is hidden. */
const strongest = (mounts: Mount[]): Mount[] => {
  const byPath = new Map<string, Mount>();
  for (const mount of mounts) {
    const rival = byPath.get(mount.at);
    if (!rival || KIND_ORDER[mount.kind] > KIND_ORDER[rival.kind]) byPath.set(mount.at, mount);
  }
  return [...byPath.values()];
};

/** Whether `mount` would change nothing: `above` is the nearest mount that it would lie in, if any. */
const isSuperfluous = (mount: Mount, above: Mount | undefined): boolean => {
  const emptied = above !== undefined && (above.kind === 'hide' || above.from !== above.at);
  if (mount.kind === 'hide') return emptied;
  if (mount.at !== mount.from) return false;
  if (mount.kind === 'ro') return !emptied && above?.kind !== 'rw';
  return !emptied && above?.kind === 'rw';
};

const nearest = (mounts: Mount[], at: string): Mount | undefined =>
  mounts.reduce<Mount | undefined>(
    (best, mount) => (isWithin(at, mount.at) && (!best || depth(mount.at) >= depth(best.at)) ? mount : best),
    undefined,
  );

/** The mounts of a view, to be made in this order. */
export const planMounts = (places: Places): Mount[] => {
  const ordered = strongest(wishes(places)).sort((a, b) => depth(a.at) - depth(b.at));
  const kept: Mount[] = [];
  for (const mount of ordered) {
    if (mount.at === '/' || !isSuperfluous(mount, nearest(kept, dirname(mount.at)))) kept.push(mount);
  }
  return kept;
};
