import { realpathSync } from 'node:fs';
import { join } from 'node:path';
import type { Duplex } from 'node:stream';
import { homeOf } from '../protocol/home.ts';
import { connectOrStart, socketPathIn } from '../protocol/resident.ts';

/** How the programs at a terminal reach the hub: by its socket, started where it is not there. */

const HUB_DEADLINE_MS = 15_000;

/** A file of this build, beside the program that runs. */
export const bundle = (name: string): string => join(realpathSync(__dirname), name);

/** Throws `start-failed` where no hub can be started. */
export const connectHub = (): Promise<Duplex> => {
  const home = homeOf(process.env);
  return connectOrStart({
    socketPath: socketPathIn(home.root, 'hub'),
    startLockPath: home.hubStartLock,
    spawn: { argv: [process.execPath, bundle('hub.mjs')], env: { ...process.env }, cwd: '/' },
    bootLogPath: home.bootLog('hub'),
    deadlineMs: HUB_DEADLINE_MS,
  });
};
