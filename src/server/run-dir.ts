import {
  closeSync,
  existsSync,
  fstatSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  readSync,
  statSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import { isInside } from '../brains/view-inside.ts';
import { faultPoint } from '../protocol/fault-point.ts';

/**
 * A run on disk: a brain's process with its input, output and exit code as files, so that server, tmux and link may
 * die without losing, repeating or stopping anything.
 *
 * spec.json what was started · in.jsonl append-only input · out.jsonl, err.log · meta.json proof of the process ·
 * started a directory, made once by whoever may start the run · exit the exit code, by rename.
 */

/** The environment variable that marks every process of a run, so that leftovers are found and nothing else is. */
export const MARK = 'KHLONE_RUN';

/**
 * What tmux runs: `sh -c RUNNER runner DIR CWD ARGV…`. HUP is ignored because a run never depends on its pane.
 * `mkdir started` lets one runner only begin. tail feeds the brain from the append-only file: ending tail is the
 * graceful end. The exit code appears by rename, so an empty exit file cannot be seen.
 */
export const RUNNER = `
trap '' HUP
umask 077
unset TMUX TMUX_PANE
dir=$1 cwd=$2
shift 2
mkdir "$dir/started" 2>/dev/null || exit 75
begun() { set -- \${1##*) }; printf '%s' "\${20}"; }
read -r stat < /proc/$$/stat
read -r boot < /proc/sys/kernel/random/boot_id
printf '{"pid":%s,"start":"%s","boot":"%s"}\\n' "$$" "$(begun "$stat")" "$boot" > "$dir/meta.tmp"
# A run that cannot be judged must not begin.
mv "$dir/meta.tmp" "$dir/meta.json" || exit 75
# What the brain writes in the worktree is the person's, with the usual permissions.
umask 022
ended() { printf '%s\\n' "$1" > "$dir/exit.tmp"; mv "$dir/exit.tmp" "$dir/exit"; }
cd "$cwd" 2>> "$dir/err.log" || { ended 72; exit 72; }
sh -c 'echo $$ > "$1/tail.pid"; exec tail -c +1 -f "$1/in.jsonl"' tail "$dir" 2>/dev/null | {
  "$@" >> "$dir/out.jsonl" 2>> "$dir/err.log"
  ended $?
  # By then another process may have its number: only what carries the mark of this run is ended.
  read -r tail < "$dir/tail.pid" 2>/dev/null
  grep -qszxF "KHLONE_RUN=$KHLONE_RUN" "/proc/$tail/environ" && kill "$tail" 2>/dev/null
}
`;

export type Meta = { pid: number; start: string; boot: string };

/** ended: with proof. `starting`: the runner has not shown itself yet. */
export type Verdict =
  | { type: 'starting' }
  | { type: 'alive'; meta: Meta }
  | { type: 'ended'; how: 'exit'; code: number }
  | { type: 'ended'; how: 'killed' | 'reboot' };

export const bootId = (): string => readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim();

const readText = (path: string): string | undefined => {
  // Asked first: what is mostly missing would else cost an error with its stack each time.
  if (!existsSync(path)) return undefined;
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return undefined;
  }
};

const readMeta = (dir: string): Meta | undefined => {
  try {
    const meta = JSON.parse(readText(join(dir, 'meta.json')) ?? '') as Meta;
    return typeof meta.pid === 'number' && typeof meta.start === 'string' ? meta : undefined;
  } catch {
    return undefined;
  }
};

/** What /proc/PID/stat says behind the name of the program, so that its field N is at N - 3; undefined: no such process. */
const statOf = (pid: number | string): string[] | undefined => {
  const stat = readText(`/proc/${pid}/stat`);
  return stat ? stat.slice(stat.lastIndexOf(')') + 2).split(' ') : undefined;
};

/** State letter and start time of a process: a pid alone may have been given to another, and a zombie is dead. */
export const processOf = (pid: number): { state: string; start: string } | undefined => {
  const fields = statOf(pid);
  return fields && { state: fields[0] ?? '?', start: fields[19] ?? '' };
};

/** What can be proved of a run, in this order: exit file, boot, process with start time and state, else alive. */
export const verdictOf = (dir: string, boot: string): Verdict => {
  const code = readText(join(dir, 'exit'))?.trim();
  if (code) return { type: 'ended', how: 'exit', code: Number(code) };
  const meta = readMeta(dir);
  if (!meta) return { type: 'starting' };
  if (meta.boot !== boot) return { type: 'ended', how: 'reboot' };
  const process = processOf(meta.pid);
  if (process && process.start === meta.start && process.state !== 'Z') return { type: 'alive', meta };
  // The exit file may have appeared between the two looks.
  const late = readText(join(dir, 'exit'))?.trim();
  return late ? { type: 'ended', how: 'exit', code: Number(late) } : { type: 'ended', how: 'killed' };
};

/** Forbids a run that has not begun to ever begin. False: it did begin. */
export const forbidStart = (dir: string): boolean => {
  try {
    mkdirSync(join(dir, 'started'));
    return true;
  } catch {
    return false;
  }
};

export const makeRunDir = (dir: string, spec: unknown): void => {
  mkdirSync(join(dir, 'tmp'), { recursive: true, mode: 0o700 });
  for (const [name, text] of [
    ['spec.json', `${JSON.stringify(spec)}\n`],
    ['in.jsonl', ''],
    ['out.jsonl', ''],
    ['err.log', ''],
  ] as const) {
    const fd = openSync(join(dir, name), 'a', 0o600);
    if (text && statSync(join(dir, name)).size === 0) writeSync(fd, text);
    closeSync(fd);
  }
};

/** The terms that a run was started on; undefined where its spec cannot be read. */
export const termsIn = (dir: string): string | undefined => {
  try {
    return (JSON.parse(readText(join(dir, 'spec.json')) ?? '') as { terms?: string }).terms;
  } catch {
    return undefined;
  }
};

/** Writes input at its committed offset, whole. Writing it again changes nothing. */
export const writeInput = (dir: string, offset: number, bytes: Uint8Array): void => {
  const fd = openSync(join(dir, 'in.jsonl'), 'r+');
  try {
    faultPoint('input-half', () => writeSync(fd, bytes, 0, bytes.length >> 1, offset));
    let done = 0;
    while (done < bytes.length) done += writeSync(fd, bytes, done, bytes.length - done, offset + done);
  } finally {
    closeSync(fd);
  }
};

/** How long a process may be between two programs: exec(2) maps the new one from a disk that may be slow. */
const EXEC_MS = 250;

/**
 * Whether a process shows no environment because it has none: no memory (field 23: a zombie, a thread of the kernel),
 * or one that ends where it begins (50 and 51). Inside exec(2) it has memory, but no code yet (26, the last to be set).
 */
const hasNoEnvironment = (pid: string): boolean => {
  const fields = statOf(pid);
  return !fields || fields[20] === '0' || (fields[23] !== '0' && fields[47] === fields[48]);
};

/** Whether a process carries a mark. Inside exec(2) it shows no environment for a moment: it is looked at again. */
const carriesMark = (pid: string, mark: string): boolean => {
  const end = performance.now() + EXEC_MS;
  while (true) {
    const environment = readText(`/proc/${pid}/environ`);
    if (environment) return environment.split('\0').includes(mark);
    if (environment === undefined || hasNoEnvironment(pid) || performance.now() > end) return false;
  }
};

/** A listing is not of one moment: what a process started meanwhile, before it ended, is found by another. */
const LISTINGS = 10;

/** The pids of every living process of a run, by the mark in its environment. */
export const processesOf = (markValue: string): number[] => {
  const mark = `${MARK}=${markValue}`;
  const seen = new Set<string>();
  for (let listing = 0; listing < LISTINGS; listing += 1) {
    const fresh = readdirSync('/proc').filter((name) => /^\d+$/.test(name) && !seen.has(name));
    const found = fresh.filter((pid) => carriesMark(pid, mark) && statOf(pid)?.[0] !== 'Z');
    if (found.length > 0 || fresh.length === 0) return found.map(Number);
    for (const pid of fresh) seen.add(pid);
  }
  return [];
};

/**
 * Sends a signal to the processes that carry the mark right now; says how many there were. What can be caught goes only
 * to those inside the view where there is one: the wrapper around it would die and take the brain along unheard.
 */
export const signalRun = (markValue: string, signal: NodeJS.Signals): number => {
  const all = processesOf(markValue);
  const inside = signal === 'SIGKILL' ? [] : all.filter(isInside);
  const pids = inside.length > 0 ? inside : all;
  for (const pid of pids) {
    try {
      process.kill(pid, signal);
    } catch {
      // It ended by itself in between.
    }
  }
  return pids.length;
};

/** The pid of the feeding tail while it lives. */
export const tailOf = (dir: string, markValue: string): number | undefined => {
  const pid = Number(readText(join(dir, 'tail.pid'))?.trim());
  return pid > 1 && carriesMark(String(pid), `${MARK}=${markValue}`) ? pid : undefined;
};

/** Ends the feeding tail, by which the brain reads the end of its input and finishes gracefully. */
export const endInput = (dir: string, markValue: string): void => {
  const pid = tailOf(dir, markValue);
  if (pid === undefined) return;
  try {
    process.kill(pid, 'SIGTERM');
  } catch {
    // Gone already.
  }
};

/** The last lines of what the brain said on stderr, for an error message; nobody bounds what it says there. */
export const errTail = (dir: string, maxChars: number): string => {
  try {
    const fd = openSync(join(dir, 'err.log'), 'r');
    try {
      const { size } = fstatSync(fd);
      const bytes = Buffer.alloc(Math.min(size, 4 * maxChars));
      const read = readSync(fd, bytes, 0, bytes.length, size - bytes.length);
      const text = bytes.toString('utf8', 0, read).slice(-maxChars);
      return text.trim().split('\n').slice(-5).join('\n');
    } finally {
      closeSync(fd);
    }
  } catch {
    return '';
  }
};
