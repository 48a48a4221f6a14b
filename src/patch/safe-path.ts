import { type Path, pathText } from './listing.ts';

/**
 * Whether a path that came from another machine may be written below a worktree. git refuses these names too; this is
 * the check of the one who writes.
 */

/** Characters that HFS+ passes over when it compares names. */
const IGNORED_BY_HFS = /[\u200C-\u200F\u202A-\u202E\u206A-\u206F\uFEFF]/gu;
/** What NTFS reads as `.git`: its short name, trailing dots and blanks, a stream's name behind a colon. */
const GIT_ON_NTFS = /^(?:\.git|git~\d+)[. ]*(?::.*)?$/iu;
const MAX_PATH_BYTES = 4_096;
const MAX_NAME_BYTES = 255;

const isSafeName = (name: Path): boolean => {
  if (name === '' || name === '.' || name === '..' || name.length > MAX_NAME_BYTES) return false;
  const text = pathText(name).replace(IGNORED_BY_HFS, '');
  // NTFS separates folders by a backslash as well.
  return !text.split('\\').some((part) => part === '..' || GIT_ON_NTFS.test(part));
};

/** Relative, without empty, `.` and `..` parts, and without a part that any file system takes for `.git`. */
export const isSafePath = (path: Path): boolean =>
  path.length <= MAX_PATH_BYTES && !path.includes('\0') && path.split('/').every(isSafeName);
