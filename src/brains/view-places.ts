import { readdirSync, readFileSync, realpathSync, statSync } from 'node:fs';
import { dirname } from 'node:path';
import { KhloneError } from '../protocol/error.ts';
import type { ViewSpec } from './view.ts';
import { isWithin, type Place, type Places } from './view-plan.ts';

/** A spec's paths as they are on this machine now, and what an ask must not reach although nobody named it. */

/** A path without symlinks; nothing where it is absent or may not be looked at (then the run may not either). */
const placeOf = (path: string): Place | undefined => {
  try {
    const real = realpathSync(path);
    return { path: real, folder: statSync(real).isDirectory() };
  } catch {
    return undefined;
  }
};

const placesOf = (paths: readonly string[]): Place[] =>
  paths.map(placeOf).filter((place) => place !== undefined);

const needed = (path: string, what: string): Place => {
  const place = placeOf(path);
  if (place?.folder) return place;
  throw new KhloneError('not-found', `the ${what} of the run is not a folder: ${path}`);
};

/**
 * Writable paths, less those that an earlier run could have bent: a run may replace a folder inside what it may write
 * by a symlink to anywhere, and the next run must not be given that place.
 */
const straight = (paths: readonly string[], writtenBefore: readonly string[]): Place[] =>
  paths.flatMap((path) => {
    const place = placeOf(path);
    if (!place) return [];
    const around = writtenBefore.filter((other) => other !== path && isWithin(path, other)).map(placeOf);
    return around.every((outer) => !outer || isWithin(place.path, outer.path)) ? [place] : [];
  });

/** Kept of /run: what name look-up and the search path of some systems need. Some of them are symlinks. */
const KEPT_OF_RUN = ['/run/current-system', '/run/opengl-driver', '/run/nscd'];

/** The folder of resolv.conf, not the file: a resolver replaces the file, and a mounted file would vanish then. */
const keptOfRun = (): Place[] => {
  const resolv = placeOf('/etc/resolv.conf');
  const folder = resolv && dirname(resolv.path);
  const paths =
    folder && isWithin(folder, '/run') && folder !== '/run' ? [...KEPT_OF_RUN, folder] : KEPT_OF_RUN;
  return paths.flatMap((path) => {
    const place = placeOf(path);
    return place ? [{ ...place, path, from: place.path }] : [];
  });
};

/** The flag of /proc/net/unix that a socket accepts connections (__SO_ACCEPTCON of the kernel's net.h). */
const ACCEPTS = '00010000';

/** The paths of listening unix sockets in the text of /proc/net/unix; abstract ones begin with @ and have none. */
export const listeningPaths = (table: string): string[] => {
  const paths = table.split('\n').flatMap((line) => {
    const [, flags, path] = line.match(/^\S+ \S+ \S+ (\S+) \S+ \S+\s+\S+ (\/.*)$/) ?? [];
    return flags === ACCEPTS && path ? [path] : [];
  });
  return [...new Set(paths)];
};

const listening = (): string[] => {
  try {
    return listeningPaths(readFileSync('/proc/net/unix', 'utf8'));
  } catch {
    return [];
  }
};

/** Everything in /run and /tmp is a service's; sockets elsewhere are found by the kernel's own list. */
const hiddenFromAsks = (): string[] => ['/run', '/var/run', ...listening()];

/** Resolves a spec. Throws not-found when the worktree or the temporary folder is missing. */
export const resolvePlaces = (spec: ViewSpec): Places => {
  const ask = spec.mode === 'ask';
  const worktree = needed(spec.worktree, 'worktree');
  const door = spec.door === undefined ? undefined : placeOf(spec.door);
  const named = [...spec.hide, spec.runDir];
  const hide = placesOf(ask ? [...named, ...hiddenFromAsks()] : named);
  const actPaths = [...spec.gitDirs, ...spec.cachePaths];
  return {
    mode: spec.mode,
    worktree,
    writable: straight(ask ? spec.statePaths : [...spec.statePaths, ...actPaths], [
      ...spec.statePaths,
      ...actPaths,
      spec.worktree,
    ]),
    tmpDir: needed(spec.tmpDir, 'temporary folder'),
    sharedTemps: placesOf(['/tmp', '/var/tmp']),
    // Where the door is a folder, the sockets in it are the door.
    hide: hide.filter((place) => !door || place.folder || !isWithin(place.path, door.path)),
    readable: placesOf([...(spec.readable ?? []), ...(ask ? spec.gitDirs : [])]).concat(
      ask ? keptOfRun() : [],
    ),
    door,
  };
};

/** Devices that an act may need besides the usual few: virtual machines and graphics, not disks. */
const ACT_DEVICES = /^(kvm|fuse|dri|kfd|nvidia.*)$/;

/** Devices of /dev that a run gets besides null, zero, full, random, urandom, tty and its own pts and shm. */
export const extraDevices = (mode: ViewSpec['mode']): string[] => {
  if (mode === 'ask') return [];
  return readdirSync('/dev').filter((name) => ACT_DEVICES.test(name));
};
