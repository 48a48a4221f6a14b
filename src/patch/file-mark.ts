import { statBig } from './near-disk.ts';

/** Tells one state of a file from another that took its place: git writes an index anew and renames it. */
export const fileMark = (path: string): Promise<string | undefined> =>
  statBig(path).then(
    ({ dev, ino, size, mtimeNs, ctimeNs }) => [dev, ino, size, mtimeNs, ctimeNs].join(' '),
    () => undefined,
  );

/** The times of some file systems are whole seconds: what changed just now may change again at the same time. */
const YOUNG_MS = 2_000;

/** Whether a time of change is too young to tell the state of a file from its next one. */
export const isYoung = (ctimeMs: number): boolean => ctimeMs > Date.now() - YOUNG_MS;
