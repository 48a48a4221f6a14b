import { accessSync, constants } from 'node:fs';
import { delimiter, isAbsolute, join } from 'node:path';
import type { Env } from './brain.ts';

/** Where the system keeps its programs. They come first: a search path may begin in a folder that a run can write. */
export const SYSTEM_DIRS = ['/usr/sbin', '/usr/bin', '/sbin', '/bin', '/run/current-system/sw/bin'];

/** The absolute path of a program that makes views; nothing where it is not installed. */
export const findTool = (name: string, env: Env): string | undefined => {
  const dirs = [...SYSTEM_DIRS, ...(env.PATH ?? '').split(delimiter).filter(isAbsolute)];
  return dirs.map((dir) => join(dir, name)).find(isExecutable);
};

const isExecutable = (path: string): boolean => {
  try {
    accessSync(path, constants.X_OK);
    return true;
  } catch {
    return false;
  }
};

/** Whose view it is: mounting works differently for root and for an ordinary user. */
export type Owner = { uid: number; gid: number };

export const currentOwner = (): Owner => ({ uid: process.getuid?.() ?? 0, gid: process.getgid?.() ?? 0 });

/**
 * What root may write in /proc without any capability, because it owns it: core_pattern alone would run a program
 * outside as root. These stay read-only; for an ordinary user the kernel guards them.
 */
export const ROOT_OWNED_PROC = [
  'sys',
  'sysrq-trigger',
  'irq',
  'bus',
  'fs',
  'acpi',
  'scsi',
  'asound',
  'driver',
];
