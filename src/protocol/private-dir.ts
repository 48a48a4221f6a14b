import { chmodSync, lstatSync, mkdirSync } from 'node:fs';
import { dirname } from 'node:path';
import { KhloneError } from './error.ts';

/** Directories of a person's own: made step by step, and never entered by anybody else. */

/**
 * Makes a directory and what is above it. Not Node's own way: its recursive mkdir never ends where a parent is there
 * and takes no directories (/proc, a broken automount). Throws `config` where it cannot be made.
 */
export const makeDir = (path: string): void => {
  try {
    mkdirSync(path, { mode: 0o700 });
  } catch (thrown) {
    const { code } = thrown as NodeJS.ErrnoException;
    if (code === 'EEXIST') return;
    if (code !== 'ENOENT' || dirname(path) === path || isThere(dirname(path))) {
      throw new KhloneError(
        'config',
        `${path} cannot be made: ${code}`,
        'set KHLONE_HOME to a folder of yours',
      );
    }
    makeDir(dirname(path));
    makeDir(path);
  }
};

const isThere = (path: string): boolean => lstatSync(path, { throwIfNoEntry: false }) !== undefined;

/** A directory of ours alone. Throws `denied` where somebody else owns it, can enter it, or it is a link. */
export const ensurePrivateDir = (path: string): void => {
  makeDir(path);
  const facts = lstatSync(path);
  const ours = facts.isDirectory() && facts.uid === process.getuid?.() && (facts.mode & 0o077) === 0;
  if (!ours)
    throw new KhloneError('denied', `${path} is not a private directory of yours`, `chmod 700 ${path}`);
};

/**
 * The home of a person's khlone: made private where they made it themselves with wider permissions, because what lies
 * in it decides what runs. Throws `denied` where it is somebody else's.
 */
export const ensureHome = (path: string): void => {
  makeDir(path);
  const facts = lstatSync(path);
  if (facts.uid === process.getuid?.() && facts.isDirectory()) chmodSync(path, 0o700);
  ensurePrivateDir(path);
};
