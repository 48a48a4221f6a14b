import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';

const DEADLINE_MS = 10_000;
const PATH = process.env.PATH ?? '';

/** A place for one private tmux server, and what a test asks of it from outside, by tmux's own command. */
export const createScratchTmux = () => {
  const dir = mkdtempSync(join(tmpdir(), 'khlone-tmux-'));
  const socketPath = join(dir, 'home', 'tmux.sock');
  const ask = (...words: string[]): string =>
    execFileSync('tmux', ['-u', '-S', socketPath, ...words], {
      encoding: 'utf8',
      stdio: ['ignore', 'pipe', 'pipe'],
    });
  return {
    dir,
    where: { socketPath, configPath: join(dir, 'home', 'tmux.conf'), path: PATH },
    ask,
    serverPid: (): number => Number(ask('display-message', '-p', '#{pid}')),
    remove: (): void => {
      try {
        ask('kill-server');
      } catch {} // Some tests have ended it.
      rmSync(dir, { recursive: true, force: true });
    },
  };
};

/** Waits until `look` gives something, for at most ten seconds. */
export const eventually = async <T>(what: string, look: () => T | undefined | false): Promise<T> => {
  for (const start = Date.now(); Date.now() - start < DEADLINE_MS; await delay(10)) {
    const seen = look();
    if (seen !== undefined && seen !== false) return seen;
  }
  throw new Error(`never came: ${what}`);
};

/** The bytes of a file once it is there; its writer renames it into place. */
export const fileOf = (path: string): Promise<Buffer> =>
  eventually(path, () => {
    try {
      return readFileSync(path);
    } catch {
      return undefined;
    }
  });

/** The environment that a process was started with. */
export const environmentOf = (pid: number): Record<string, string> =>
  Object.fromEntries(
    readFileSync(`/proc/${pid}/environ`, 'latin1')
      .split('\0')
      .filter((entry) => entry !== '')
      .map((entry) => [entry.slice(0, entry.indexOf('=')), entry.slice(entry.indexOf('=') + 1)]),
  );

/** Whether a process runs; one that has ended and was not collected does not. */
export const isAlive = (pid: number): boolean => {
  try {
    return !/^State:\s+[ZX]/m.test(readFileSync(`/proc/${pid}/status`, 'latin1'));
  } catch {
    return false;
  }
};
