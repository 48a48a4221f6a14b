import { readdirSync, rmdirSync, rmSync } from 'node:fs';
import { dirname, join } from 'node:path';
import type { Home } from './home.ts';
import { socketPathIn } from './resident.ts';

/**
 * What is left of a home when khlone is taken off a machine. Each program removes by name what it made, as its last act:
 * KHLONE_HOME may be a folder that holds more. Copies that were saved for a person stay.
 */

const namesIn = (dir: string): string[] => {
  try {
    return readdirSync(dir);
  } catch {
    return [];
  }
};

/** Whatever cannot be removed stays: an uninstall that is repeated goes on with it. */
const remove = (path: string): void => {
  try {
    rmSync(path, { recursive: true, force: true });
  } catch {
    // A folder that a task made unwritable, or a disk that fails.
  }
};

const removeIfEmpty = (dir: string): void => {
  try {
    rmdirSync(dir);
  } catch {
    // It holds something else, or the other program was faster.
  }
};

/** Locks, logs and the socket of a program, and then the folders, where nobody else has anything in them. */
const removeResident = (home: Home, program: 'hub' | 'server'): void => {
  const own = namesIn(home.run).filter(
    (name) => name.startsWith(`${program}.`) || name.startsWith(`${program}-`),
  );
  for (const name of own) remove(join(home.run, name));
  for (const dir of [dirname(socketPathIn(home.root, program)), home.run, home.root]) removeIfEmpty(dir);
};

/** Where the server keeps what it saved before it removed a zone. */
export const recoveryDir = (serverDir: string): string => join(serverDir, 'recovery');

/** Removes state, builds and sockets of the server of a home. */
export const removeServerHome = (home: Home): void => {
  removeIfEmpty(recoveryDir(home.serverDir));
  for (const name of namesIn(home.serverDir)) if (name !== 'recovery') remove(join(home.serverDir, name));
  removeIfEmpty(home.serverDir);
  removeResident(home, 'server');
};

/** Removes what the hub of a home knows: bindings, outbox, agreements, settings, and what prompts read. */
export const removeHubHome = (home: Home): void => {
  const files = [home.zones, home.trust, home.config].flatMap((path) => [path, `${path}.lock`]);
  for (const path of [...files, home.outbox, home.cache, home.shell]) remove(path);
  removeResident(home, 'hub');
};
