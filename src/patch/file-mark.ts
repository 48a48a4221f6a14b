import { stat } from 'node:fs/promises';

/** Tells one state of a file from another that took its place: git writes an index anew and renames it. */
export const fileMark = (path: string): Promise<string | undefined> =>
  stat(path, { bigint: true }).then(
    ({ dev, ino, size, mtimeNs, ctimeNs }) => [dev, ino, size, mtimeNs, ctimeNs].join(' '),
    () => undefined,
  );
