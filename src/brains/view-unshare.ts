import type { Env } from './brain.ts';
import type { View, ViewSpec } from './view.ts';
import type { Candidate } from './view-bwrap.ts';
import { extraDevices, resolvePlaces } from './view-places.ts';
import { planMounts } from './view-plan.ts';
import { currentOwner, findTool, type Owner, ROOT_OWNED_PROC, SYSTEM_DIRS } from './view-tools.ts';

/** The view by util-linux: a fixed shell text makes the mounts, one program start each; every path is an argument. */

/**
 * sh -c MAKE_VIEW khlone-view UID GID CWD TMPDIR [KIND AT FROM]… -- ARGV…
 * A fresh /dev is mounted first, because it is one place that surely exists and that nobody reads from: sources are
 * kept there before anything covers them. What may be written is taken while its mounts are writable, what may only be
 * read after all have been locked. -n writes no table, -c follows no symlink.
 * The last shell stays as process 1, which gets no default signals; it outlives an interrupt that the program outlives.
 */
const MAKE_VIEW = `
set -eu
uid=$1 gid=$2 cwd=$3 path=\${PATH-}
TMPDIR=$4
export TMPDIR
shift 4
PATH=${SYSTEM_DIRS.join(':')}
export PATH

make_point() {
  case $1 in
    *.folder) [ -d "$2" ] || mkdir -p -- "$2" ;;
    *) [ -e "$2" ] || { mkdir -p -- "\${2%/*}"; : > "$2"; } ;;
  esac
}

make_dev() {
  cd /dev
  mount -n -t tmpfs -o mode=755,nosuid khlone /dev
  mkdir /dev/pts /dev/shm /dev/.stage
  for name in null zero full random urandom tty; do
    : > "/dev/$name"
    mount -n -c --bind "./$name" "/dev/$name"
  done
  mount -n -t devpts -o newinstance,ptmxmode=0666,mode=0620,nosuid,noexec devpts /dev/pts
  mount -n -t tmpfs -o mode=1777,nosuid,nodev khlone /dev/shm
  mount -n -t tmpfs -o mode=700,nosuid,nodev khlone /dev/.stage
  ln -s pts/ptmx /dev/ptmx
  ln -s /proc/self/fd /dev/fd
  ln -s /proc/self/fd/0 /dev/stdin
  ln -s /proc/self/fd/1 /dev/stdout
  ln -s /proc/self/fd/2 /dev/stderr
  while [ "$1" != -- ]; do
    case $1 in
      device)
        if [ -d "./$2" ]; then mkdir "/dev/$2"; else : > "/dev/$2"; fi
        mount -n -c --rbind "./$2" "/dev/$2"
        ;;
    esac
    shift 3
  done
  cd /
}

stage() {
  wanted=$1 n=0
  shift
  while [ "$1" != -- ]; do
    n=$((n + 1))
    case $1 in
      "$wanted".*)
        case $1 in
          *.folder) mkdir "/dev/.stage/$n" ;;
          *) : > "/dev/.stage/$n" ;;
        esac
        mount -n -c --rbind -- "$3" "/dev/.stage/$n"
        ;;
    esac
    shift 3
  done
}

lock() {
  flags=ro
  for flag in nosuid nodev noexec nosymfollow noatime nodiratime relatime; do
    case ,$2, in *,$flag,*) flags=$flags,$flag ;; esac
  done
  mount -n -c -o "remount,bind,$flags" -- "$1" 2>/dev/null && return
  mountpoint -q -- "$1" 2>/dev/null || return 0
  mount -n -c -t tmpfs -o ro,mode=755 khlone "$1" || { echo "khlone: cannot lock $1" >&2; exit 71; }
}

lock_all() {
  while read -r _ _ _ _ point options _; do
    case $options in ro | ro,*) continue ;; esac
    case $point in /dev | /dev/* | *//deleted) continue ;; esac
    case $point in *\\\\*) point=$(printf '%b_' "$point") && point=\${point%_} ;; esac
    lock "$point" "$options"
  done < /proc/self/mountinfo
}

make_proc() {
  mount -n -t proc -o nosuid,nodev,noexec proc /proc
  [ "$uid" = 0 ] || return 0
  for name in ${ROOT_OWNED_PROC.join(' ')}; do
    [ -e "/proc/$name" ] || continue
    mount -n -c --bind "/proc/$name" "/proc/$name"
    mount -n -c -o remount,bind,ro,nosuid,nodev,noexec "/proc/$name"
  done
}

place() {
  n=0
  while [ "$1" != -- ]; do
    n=$((n + 1))
    case $1 in
      hide.folder) [ ! -d "$2" ] || mount -n -c -t tmpfs -o mode=755,nosuid,nodev khlone "$2" ;;
      hide.file) mount -n -c --bind /dev/null "$2" 2> /dev/null || [ ! -e "$2" ] ;;
      ro.* | rw.*)
        make_point "$1" "$2"
        mount -n -c --rbind "/dev/.stage/$n" "$2"
        ;;
    esac
    shift 3
  done
}

close_hidden() {
  while [ "$1" != -- ]; do
    case $1 in
      hide.folder) [ ! -d "$2" ] || mount -n -c -o remount,bind,ro,nosuid,nodev "$2" ;;
    esac
    shift 3
  done
}

make_dev "$@"
stage rw "$@"
lock_all
stage ro "$@"
make_proc
place "$@"
close_hidden "$@"
umount -n -l /dev/.stage
rmdir /dev/.stage
mount -n -c -o remount,bind,ro,nosuid /dev
while [ "$1" != -- ]; do shift 3; done
shift
cd -- "$cwd"

run='trap : INT; PATH=$1; shift; "$@"; exit "$?"'
if [ "$uid" = 0 ]; then
  exec setpriv --no-new-privs --bounding-set=-all --inh-caps=-all --ambient-caps=-all -- \\
    setsid sh -c "$run" khlone-run "$path" "$@"
fi
exec unshare --user --map-user="$uid" --map-group="$gid" -- \\
  setpriv --no-new-privs --inh-caps=-all --ambient-caps=-all -- setsid sh -c "$run" khlone-run "$path" "$@"
`;

export const unshareViews = (env: Env, owner: Owner = currentOwner()): Candidate[] => {
  const unshare = findTool('unshare', env);
  const setpriv = findTool('setpriv', env);
  if (!unshare || !setpriv) return [];
  const program = [
    // unshare ends its child when it ends itself; this ends unshare with whoever started it.
    ...[setpriv, '--pdeathsig', 'KILL', '--'],
    ...[unshare, ...(owner.uid === 0 ? [] : ['--map-root-user']), '--mount', '--propagation', 'private'],
    ...['--ipc', '--pid', '--fork', '--kill-child', '--', '/bin/sh', '-c', MAKE_VIEW, 'khlone-view'],
  ];
  const view: View = {
    kind: 'unshare',
    wrap: (argv, spec) => ({ argv: [...program, ...scriptArguments(spec, owner), '--', ...argv] }),
  };
  return [{ name: 'unshare', view }];
};

const scriptArguments = (spec: ViewSpec, owner: Owner): string[] => {
  const places = resolvePlaces(spec);
  return [
    ...[String(owner.uid), String(owner.gid), places.worktree.path, places.tmpDir.path],
    ...extraDevices(spec.mode).flatMap((name) => ['device', name, name]),
    ...planMounts(places).flatMap((mount) => [
      `${mount.kind}.${mount.folder ? 'folder' : 'file'}`,
      mount.at,
      mount.from,
    ]),
  ];
};
