import { execFile } from 'node:child_process';
import { accessSync, constants, statSync } from 'node:fs';
import { delimiter, isAbsolute, join } from 'node:path';
import type { Env } from './brain.ts';

/** Finding and asking other programs, for probes: with the clone's environment, never with khlone's own. */

/** The absolute path that `name` has on the PATH of `env`. Relative PATH entries are passed over: their meaning depends on a folder. */
export const findProgram = (name: string, env: Env): string | undefined => {
  for (const folder of (env.PATH ?? '').split(delimiter)) {
    if (!isAbsolute(folder)) continue;
    const path = join(folder, name);
    try {
      accessSync(path, constants.X_OK);
      if (statSync(path).isFile()) return path;
    } catch {
      // Not here; the next folder may have it.
    }
  }
  return undefined;
};

/** `code` is undefined where the program could not start, was signalled or took too long. */
export type Answer = { code: number | undefined; stdout: string; stderr: string };

const MAX_ANSWER_BYTES = 1024 * 1024;

/** Runs a program to its end with no input, KILLs it after `limitMs`, and never rejects. */
export const askProgram = (
  path: string,
  args: readonly string[],
  env: Env,
  limitMs: number,
): Promise<Answer> =>
  new Promise((resolve) => {
    const options = {
      env: { ...env },
      timeout: limitMs,
      killSignal: 'SIGKILL',
      maxBuffer: MAX_ANSWER_BYTES,
    } as const;
    try {
      const child = execFile(path, [...args], options, (error, stdout, stderr) => {
        const code = error === null ? 0 : typeof error.code === 'number' ? error.code : undefined;
        resolve({ code, stdout, stderr });
      });
      child.stdin?.end();
    } catch (error) {
      resolve({ code: undefined, stdout: '', stderr: String(error) });
    }
  });
