import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';

/** The floor under an act: the same hops and the same one sync, by programs that do nothing else. */

export type Floor = { ms(): Promise<number>; end(): void };

const START_DEADLINE_MS = 10_000;
const BARE = resolve(import.meta.dirname, 'bare.ts');

/** One request to a socket that answers and hangs up, from connecting to the end, in ms. */
export const exchangeMs = (path: string, request: string): Promise<number> =>
  new Promise((done, fail) => {
    const start = performance.now();
    const socket = connect(path);
    socket.on('error', fail);
    socket.on('data', () => {});
    socket.on('close', () => done(performance.now() - start));
    socket.write(request);
  });

const startBare = async (role: 'hub' | 'server', folder: string): Promise<ChildProcess> => {
  const child = spawn(process.execPath, [BARE, role, folder], { stdio: 'ignore' });
  const end = performance.now() + START_DEADLINE_MS;
  while (!existsSync(join(folder, `${role}.sock`))) {
    if (performance.now() > end) throw new Error(`the bare ${role} did not start`);
    await delay(10);
  }
  return child;
};

export const openFloor = async (): Promise<Floor> => {
  const folder = mkdtempSync(join(tmpdir(), 'khlone-floor-'));
  const programs = [await startBare('server', folder), await startBare('hub', folder)];
  return {
    ms: () => exchangeMs(join(folder, 'hub.sock'), 'act\0'.repeat(25)),
    end: () => {
      for (const program of programs) program.kill('SIGKILL');
      rmSync(folder, { recursive: true, force: true });
    },
  };
};
