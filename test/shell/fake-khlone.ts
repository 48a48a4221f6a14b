// biome-ignore-all lint/suspicious/noTemplateCurlyInString: these are lines for a shell.
import { spawn } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { delimiter, join, resolve } from 'node:path';
import { text } from 'node:stream/consumers';

/**
 * A stand-in for the command: it resolves the session as the real one does (the variable, else the session of the
 * shell's mailbox, else a new one), writes the mailbox by rename, and records its arguments NUL-separated.
 */
const FAKE = `#!/bin/sh
box=$KHLONE_HOME/shell/mail/$KHLONE_SHELL
mail() {
  [ -n "$KHLONE_SHELL" ] || return 0
  n=$(cat "$KHLONE_HOME/n" 2>/dev/null || echo 1000); n=$((n + 1)); echo $n >"$KHLONE_HOME/n"
  printf '%s\\t%s\\t@main\\n' $n "$1" >"$box.tmp" && mv "$box.tmp" "$box"
}
case $1 in
  act)
    echo "acted in \${KHLONE_SESSION:-none}"
    [ -n "$KHLONE_SESSION" ] && exit 0
    known=; [ -f "$box" ] && known=$(cut -f2 "$box")
    case $known in
      ''|-) s=$(cat "$KHLONE_HOME/s" 2>/dev/null || echo 0); s=$((s + 1)); echo $s >"$KHLONE_HOME/s"; known=s$s ;;
    esac
    mail $known ;;
  switch) mail "$2" ;;
  end) mail - ;;
  raw) printf "$2" >"$box.tmp" && mv "$box.tmp" "$box" ;;
  args) shift; printf '%s\\0' "$@" >"$KHLONE_HOME/args" ;;
  fail) exit "$2" ;;
  tty) [ -t 1 ] && echo terminal || echo pipe ;;
  wait) mail "$2"; echo waiting; read -r line <"$KHLONE_HOME/gate"; echo "went on with $line" ;;
esac
`;

export const SHELL_DIR = resolve(import.meta.dirname, '../../shell');

export type Shell = { readonly name: 'zsh' | 'bash'; readonly path: string; readonly plugin: string };

/** The shells on PATH, and more of them by KHLONE_TEST_SHELLS (paths, colon separated). */
export const SHELLS: readonly Shell[] = [
  'zsh',
  'bash',
  ...(process.env.KHLONE_TEST_SHELLS ?? '').split(delimiter),
]
  .filter((path) => path !== '')
  .map((path) => {
    const name = path.includes('zsh') ? 'zsh' : 'bash';
    return { name, path, plugin: join(SHELL_DIR, `khlone.${name}`) };
  });

/** Arguments for an interactive shell that reads nobody's start files. */
export const bare = (shell: Shell): string[] =>
  shell.name === 'zsh' ? ['-f', '-i'] : ['--norc', '--noprofile', '-i'];

export type Place = {
  readonly root: string;
  readonly home: string;
  readonly env: Record<string, string>;
  remove(): void;
};

/** A home of its own with the fake command first on PATH. */
export const makePlace = (): Place => {
  const root = mkdtempSync(join(tmpdir(), 'khlone-shell-'));
  const home = join(root, 'home');
  mkdirSync(join(home, 'shell', 'mail'), { recursive: true, mode: 0o700 });
  mkdirSync(join(root, 'bin'));
  mkdirSync(join(root, 'empty'));
  writeFileSync(join(root, 'bin', 'khlone'), FAKE, { mode: 0o755 });
  const env = {
    PATH: `${join(root, 'bin')}:${process.env.PATH ?? ''}`,
    HOME: join(root, 'empty'),
    KHLONE_HOME: home,
    LC_ALL: 'C.UTF-8',
    TERM: 'xterm',
  };
  return { root, home, env, remove: () => rmSync(root, { recursive: true, force: true }) };
};

export type Ran = { readonly stdout: string; readonly stderr: string; readonly code: number | null };

/**
 * Feeds lines to an interactive shell without a terminal, so that every line is followed by a real prompt with its
 * hooks. A shell that hangs is killed after 15 s, which shows as code null.
 */
export const runLines = async (
  shell: Shell,
  place: Place,
  lines: readonly string[],
  prefix: string[] = [],
): Promise<Ran> => {
  const [command = '', ...args] = [...prefix, shell.path, ...bare(shell)];
  const child = spawn(command, args, { env: place.env, cwd: place.root, detached: true });
  const timer = setTimeout(() => child.kill('SIGKILL'), 15_000);
  child.stdin.on('error', () => {}); // A shell that ends early, as under `set -e`, leaves lines unread.
  child.stdin.end(`${lines.join('\n')}\n`);
  const closed = new Promise<number | null>((done) => child.on('close', done));
  const [stdout, stderr, code] = await Promise.all([text(child.stdout), text(child.stderr), closed]);
  clearTimeout(timer);
  return { stdout, stderr, code };
};
