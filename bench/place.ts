import { execFileSync, spawn, spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';

/** A home and a repository of the bench's own, with the built khlone in it. */

const KHLONE = resolve(import.meta.dirname, '../bin/khlone');

export type Place = {
  root: string;
  home: string;
  repository: string;
  env: Record<string, string>;
  khlone(...words: string[]): { code: number; out: string; err: string };
  end(): void;
};

export const makePlace = (extra: Record<string, string> = {}): Place => {
  const root = mkdtempSync(join(tmpdir(), 'khlone-bench-'));
  const home = join(root, 'home');
  const repository = join(root, 'repository');
  mkdirSync(repository);
  const env: Record<string, string> = {
    ...(process.env as Record<string, string>),
    KHLONE_HOME: home,
    HOME: root,
    ...extra,
  };
  delete env.KHLONE_SESSION;
  const git = (...words: string[]): void =>
    void execFileSync('git', ['-c', 'user.name=b', '-c', 'user.email=b@localhost', ...words], {
      cwd: repository,
      env,
    });
  git('init', '-q', '-b', 'main');
  git('commit', '-q', '--allow-empty', '-m', 'first');
  const khlone = (...words: string[]) => {
    const { status, stdout, stderr } = spawnSync(process.execPath, [KHLONE, ...words], {
      cwd: repository,
      env,
      encoding: 'utf8',
    });
    return { code: status ?? -1, out: stdout, err: stderr };
  };
  return {
    ...{ root, home, repository, env, khlone },
    end: () => {
      khlone('stop');
      spawnSync('tmux', ['-S', join(home, 'server', 'tmux.sock'), 'kill-server']);
      rmSync(root, { recursive: true, force: true });
    },
  };
};

const TICKS_PER_SECOND = 100;

/** Wall and CPU time of one command, in ms; CPU time of children that were waited for comes from the kernel. */
export const timeCommand = (
  argv: string[],
  options: { cwd: string; env: NodeJS.ProcessEnv },
): Promise<{ wallMs: number; cpuMs: number }> =>
  new Promise((done, fail) => {
    const before = childCpuMs();
    const start = performance.now();
    const child = spawn(argv[0] ?? '', argv.slice(1), { ...options, stdio: 'ignore' });
    child.on('error', fail);
    child.on('close', () => done({ wallMs: performance.now() - start, cpuMs: childCpuMs() - before }));
  });

/** CPU time of all our ended children in ms, at the kernel's resolution of a tick (10 ms): take sums over many runs. */
const childCpuMs = (): number => {
  const stat = readFileSync('/proc/self/stat', 'utf8');
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  return ((Number(fields[13]) + Number(fields[14])) * 1000) / TICKS_PER_SECOND;
};
