/** Lists that git writes with NUL between the words; paths are any bytes but NUL. */

/** A path with one character per byte (latin1), so that names that are not UTF-8 survive. */
export type Path = string;

export const records = (output: Buffer): Path[] => {
  const words = output.toString('latin1').split('\0');
  if (words.at(-1) === '') words.pop();
  return words;
};

export const toBytes = (text: Path): Buffer => Buffer.from(text, 'latin1');

/** A path for people and patterns: UTF-8, with replacement characters where it is none. */
export const pathText = (path: Path): string => toBytes(path).toString('utf8');
