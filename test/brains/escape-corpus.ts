/**
 * Ways out of a view, as small shell texts. One succeeded if it ends with 0 or if its prize, the file $W, is there
 * afterwards. Known: P prizes, W own prize, N its name, HOME, WT worktree, GITDIR, STATE, SETTINGS, TMPDIR, OUT a process outside,
 * NODE, CONNECT a program that connects to its argument, OWN_SWITCHES those of the run's own namespaces, and sockets.
 */

export type Attempt = {
  name: string;
  script: string;
  /** In which modes it is meant to succeed; in all others it must fail. */
  open: readonly ('ask' | 'act')[];
  /** Who succeeds without a view: proof that the attempt is one. */
  plain: 'anyone' | 'root' | 'nobody';
};

const attempt =
  (plain: Attempt['plain'], open: Attempt['open']) =>
  ([name, script]: readonly [string, string]): Attempt => ({ name, script, open, plain });

const NESTED = 'unshare --map-root-user --mount --propagation private -- sh -c';

const WRITES = [
  ['a file in the home folder', ': > "$HOME/escaped"'],
  ['a file outside', ': > "$W"'],
  ['an existing file outside', 'echo x >> "$P/victim"'],
  ['times of a file outside', 'touch "$P/victim"'],
  ['the mode of a file outside', 'chmod 600 "$P/victim"'],
  ['what steers the brain', 'echo x >> "$SETTINGS"'],
  ['configuration of khlone', ': > "$HOME/.khlone/config.yml"'],
  ['a secret of khlone', 'grep -q . "$HOME/.khlone/secret"'],
  ['a symlink in the state', 'ln -s "$P" "$STATE/link" && : > "$STATE/link/$N"'],
  ['a hard link in the state', 'ln "$P/victim" "$STATE/hard" && echo x >> "$STATE/hard"'],
  ['the state folder replaced', 'mv "$STATE" "$STATE.old" && mv "$STATE.old" "$STATE"'],
] as const;

const ROOT_WRITES = [
  ['a file in /etc', ': > "/etc/khlone-$$" && rm "/etc/khlone-$$"'],
  ['what starts when a program crashes', 'f=/proc/sys/kernel/core_pattern; read -r v < $f; echo "$v" > $f'],
  [
    'a switch of the kernel',
    'find /sys /proc/sys /proc/sysrq-trigger /proc/irq -type f -writable | grep -vqE "$OWN_SWITCHES"',
  ],
  ['a disk in /dev', 'find /dev -type b | grep -q .'],
  ['a new device', 'mknod "$TMPDIR/node" c 1 3'],
  ['a capability', 'grep -q "CapEff:.*[1-9a-f]" /proc/self/status'],
] as const;

const PROCESSES = [
  ['a signal to an outside process', 'kill -0 "$OUT"'],
  ['the root of an outside process', ': > "/proc/$OUT/root$W"'],
  ['the folder of an outside process', ': > "/proc/$OUT/cwd/$N"'],
  ['any root in /proc', 'for root in /proc/[0-9]*/root; do touch "$root$W" && exit 0; done; exit 1'],
  ['the memory of an outside process', 'exec 3<> "/proc/$OUT/mem"'],
  ['the environment of an outside process', 'grep -q . "/proc/$OUT/environ"'],
  ['privileges by a setuid program', 'grep -q "NoNewPrivs:.0" /proc/self/status'],
] as const;

const CLIMBS = [
  ['own root and folder', 'touch "/proc/self/root$W" "/proc/1/root$W" "/proc/self/cwd/../../$W"'],
  [
    'an open folder',
    'for fd in /proc/[0-9]*/fd/*; do [ -d "$fd" ] && touch "$fd/../../../../../../../..$W" && exit 0; done; exit 1',
  ],
  ['the disk mounted again', 'mount "$DISK" "$TMPDIR" && umount "$TMPDIR"'],
  ['the terminal', 'exec 3<> /dev/tty'],
  [
    'all unmounted',
    'cut -d" " -f5 /proc/self/mountinfo | sort -r | while read -r at; do umount -l "$at"; done; : > "$W"',
  ],
  [
    'unmounted in a user namespace',
    `${NESTED} 'umount -l "$HOME/.khlone"; grep -q . "$HOME/.khlone/secret"'`,
  ],
  [
    'a copy unmounted in a user namespace',
    `${NESTED} 'mount --rbind "$HOME" "$TMPDIR"; umount -l "$TMPDIR/.khlone"; grep -q . "$TMPDIR/.khlone/secret"'`,
  ],
  [
    'remounted in a user namespace',
    `${NESTED} 'mount -o remount,bind,rw /; mount -o remount,rw /; : > "$W"'`,
  ],
  [
    'all remounted in a user namespace',
    `${NESTED} 'cut -d" " -f5 /proc/self/mountinfo | while read -r at; do mount -o remount,bind,rw "$at"; done; : > "$W"'`,
  ],
  [
    'a fresh /proc in a user namespace',
    'unshare --map-root-user --mount --pid --fork -- sh -c \'mount -t proc proc "$TMPDIR" && f=$TMPDIR/sys/kernel/core_pattern && read -r v < $f && echo "$v" > $f\'',
  ],
] as const;

const ROOT_CLIMBS = [
  ['remounted', 'mount -o remount,bind,rw / && : > "$W"'],
  ['bound elsewhere', 'mount --bind "$P" "$TMPDIR" && : > "$TMPDIR/$N"; umount "$TMPDIR"; [ -e "$W" ]'],
  ['something mounted over', 'mount -t tmpfs none "$P" && umount "$P"'],
  ['the namespace of an outside process', 'nsenter --mount="/proc/$OUT/ns/mnt" touch "$W"'],
  ['chroot to an outside process', 'chroot "/proc/$OUT/root" touch "$W"'],
] as const;

const UNCOVERED = [
  [
    'what a mount hides, uncovered in a user namespace',
    `${NESTED} 'mount --bind "$HOME" "$TMPDIR" && grep -q . "$TMPDIR/.khlone/secret"'`,
  ],
] as const;

const HIDDEN_SOCKETS = [
  ['tmux', 'tmux -S "$TMUX_SOCKET" new-window "touch \'$W\'"'],
  ['a socket of khlone', '"$NODE" -e "$CONNECT" "$HOME/.khlone/run/server.sock"'],
] as const;

/** Hidden from an ask; an act keeps them, because its view guards against accidents. */
const SERVICE_SOCKETS = [
  [
    'a bus',
    'dbus-send --bus="unix:path=$BUS" --dest=org.freedesktop.DBus --print-reply / org.freedesktop.DBus.ListNames',
  ],
  ['a socket of a service in /run', '"$NODE" -e "$CONNECT" "$RUN_SOCKET"'],
  ['a socket that nobody named', '"$NODE" -e "$CONNECT" "$HOME/agent.sock"'],
] as const;

const WORK = [
  ['a file in the worktree', ': > "$WT/escaped"'],
  ['a file in the git directory', ': > "$GITDIR/escaped"'],
  ['a commit', 'git -C "$WT" -c user.name=a -c user.email=a@b commit --allow-empty -qm x'],
  ['a cache', ': > "$HOME/.cache/escaped"'],
] as const;

const ALWAYS_OPEN = [
  ['the door', '"$NODE" -e "$CONNECT" "$HOME/.khlone/run/door.sock"'],
  ['state of the brain', ': > "$STATE/kept"'],
  [
    'the temporary folder',
    'for dir in "$TMPDIR" /tmp /var/tmp /dev/shm; do file=$(mktemp -p "$dir") && rm "$file" || exit 1; done',
  ],
  ['the worktree read', 'grep -q . "$WT/file" && git -C "$WT" status'],
  ['a readable file in a hidden folder', 'grep -q . "$HOME/.khlone/versions/server.js"'],
  // It belongs to the network, which stays: no mount can hide it.
  ['an abstract socket', '"$NODE" -e "$CONNECT" "@$ABSTRACT"'],
] as const;

export const ATTEMPTS: Attempt[] = [
  ...WRITES.map(attempt('anyone', [])),
  ...ROOT_WRITES.map(attempt('root', [])),
  ...PROCESSES.map(attempt('anyone', [])),
  ...CLIMBS.map(attempt('nobody', [])),
  ...ROOT_CLIMBS.map(attempt('root', [])),
  ...UNCOVERED.map(attempt('anyone', [])),
  ...HIDDEN_SOCKETS.map(attempt('anyone', [])),
  attempt('anyone', ['act'])([
    'a hard link to the worktree',
    'ln "$WT/file" "$WT/hard" && echo x >> "$WT/hard"',
  ]),
  attempt('anyone', [])(['a hard link from the worktree into the state', 'ln "$WT/file" "$STATE/hard2"']),
  ...SERVICE_SOCKETS.map(attempt('anyone', ['act'])),
  ...WORK.map(attempt('anyone', ['act'])),
  ...ALWAYS_OPEN.map(attempt('anyone', ['ask', 'act'])),
];
