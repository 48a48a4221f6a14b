import { isAbsolute, relative, resolve, sep } from 'node:path';
import type { Path } from '../../patch/listing.ts';
import { KhloneError } from '../../protocol/error.ts';

/** Files as a person names them, from wherever they stand, as paths of the worktree. */

const asPath = (text: string): Path => Buffer.from(text, 'utf8').toString('latin1');

/** Throws `usage` for a file outside of the worktree. */
export const pathFrom = (cwd: string, root: string, file: string): Path => {
  const path = relative(root, resolve(cwd, file));
  if (path === '..' || path.startsWith(`..${sep}`) || isAbsolute(path))
    throw new KhloneError('usage', `${file} is not in this worktree`, `files below ${root}`);
  return asPath(path);
};

/** Undefined where none is named, or the whole worktree is. */
export const pathsFrom = (cwd: string, root: string, files: readonly string[]): Path[] | undefined => {
  const paths = files.map((file) => pathFrom(cwd, root, file));
  return paths.length === 0 || paths.includes('') ? undefined : paths;
};
