import type { Env } from './brain.ts';
import type { View, ViewSpec } from './view.ts';
import { extraDevices, resolvePlaces } from './view-places.ts';
import { type Mount, planMounts } from './view-plan.ts';
import { currentOwner, findTool, type Owner, ROOT_OWNED_PROC } from './view-tools.ts';

/** The view by bubblewrap: one small program that makes all mounts itself, so it starts in milliseconds. */

export type Candidate = { name: string; view: View };

/**
 * bubblewrap alone lets file systems that are mounted later appear inside, writable. Where unshare may, it is put
 * before and cuts that connection; bare bubblewrap is the second choice.
 */
export const bwrapViews = (env: Env, owner: Owner = currentOwner()): Candidate[] => {
  const bwrap = findTool('bwrap', env);
  if (!bwrap) return [];
  const unshare = findTool('unshare', env);
  const cut = unshare && [
    unshare,
    ...(owner.uid === 0 ? [] : ['--map-current-user']),
    ...['--mount', '--propagation', 'private', '--'],
  ];
  return [
    ...(cut ? [{ name: 'bwrap, cut off from later mounts', view: bwrapView(cut, bwrap, owner) }] : []),
    { name: 'bwrap', view: bwrapView([], bwrap, owner) },
  ];
};

/** Our own word among bubblewrap's options: cover this file or socket, if it is still there. */
const HIDE_FILE = '--hide-file';

/**
 * sh -c STILL_THERE khlone-view BWRAP OPTION… -- ARGV…
 * Sockets come and go, and bubblewrap gives up where it should cover one that is gone. So this looks again at the last
 * moment: it turns the arguments over one by one, and writes out or drops HIDE_FILE.
 */
const STILL_THERE = `
left=$# options=1
while [ "$left" -gt 0 ]; do
  if [ $options = 1 ] && [ "$1" = ${HIDE_FILE} ]; then
    [ ! -e "$2" ] || set -- "$@" --ro-bind /dev/null "$2"
    shift 2
    left=$((left - 2))
  else
    [ "$1" != -- ] || options=0
    set -- "$@" "$1"
    shift
    left=$((left - 1))
  fi
done
exec "$@"
`;

const bwrapView = (cut: string[], bwrap: string, owner: Owner): View => ({
  kind: 'bwrap',
  wrap: (argv, spec) => {
    const own = options(spec, owner);
    const last = own.includes(HIDE_FILE) ? ['/bin/sh', '-c', STILL_THERE, 'khlone-view'] : [];
    return { argv: [...cut, ...last, bwrap, ...own, '--', ...argv] };
  },
});

const options = (spec: ViewSpec, owner: Owner): string[] => {
  const places = resolvePlaces(spec);
  const mounts = planMounts(places);
  return [
    ...['--die-with-parent', '--new-session', '--unshare-pid', '--unshare-ipc', '--cap-drop', 'ALL'],
    ...['--ro-bind', '/', '/', '--dev', '/dev', '--perms', '1777', '--tmpfs', '/dev/shm'],
    ...extraDevices(spec.mode).flatMap((name) => ['--dev-bind-try', `/dev/${name}`, `/dev/${name}`]),
    ...['--remount-ro', '/dev', '--proc', '/proc'],
    ...(owner.uid === 0
      ? ROOT_OWNED_PROC.flatMap((name) => ['--ro-bind-try', `/proc/${name}`, `/proc/${name}`])
      : []),
    ...mounts.flatMap(mountOptions),
    // Only now: the points for what is seen inside a hidden folder had to be made in it first.
    ...mounts.flatMap((mount) => (mount.kind === 'hide' && mount.folder ? ['--remount-ro', mount.at] : [])),
    ...['--setenv', 'TMPDIR', places.tmpDir.path, '--chdir', places.worktree.path],
  ];
};

const mountOptions = (mount: Mount): string[] => {
  if (mount.kind === 'hide') return [mount.folder ? '--tmpfs' : HIDE_FILE, mount.at];
  return [mount.kind === 'rw' ? '--bind' : '--ro-bind', mount.from, mount.at];
};
