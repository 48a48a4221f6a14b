import type { Path } from './listing.ts';

/** Git's form of one folder: "<mode> <name>\0<id>" for each name, in its order. */

export const FOLDER = '40000';
/** Modes as git writes them now. Old repositories hold others, which are for git to read. */
const MODES: ReadonlySet<string> = new Set(['100644', '100755', '120000', '160000', FOLDER]);

/** Names with their modes and ids; `FOLDER` is a tree. */
export type Names = Map<Path, Readonly<{ mode: string; oid: string }>>;
export type ReadonlyNames = ReadonlyMap<Path, Readonly<{ mode: string; oid: string }>>;

/** Reads a folder; undefined where it is not in the form that git writes. */
export const readNames = (bytes: Buffer, idLength: number): Names | undefined => {
  const names: Names = new Map();
  const idBytes = idLength / 2;
  for (let at = 0; at < bytes.length; ) {
    const blank = bytes.indexOf(32, at);
    const end = bytes.indexOf(0, blank);
    if (blank < 0 || end < 0 || end + 1 + idBytes > bytes.length) return undefined;
    const mode = bytes.toString('latin1', at, blank);
    if (!MODES.has(mode)) return undefined;
    const oid = bytes.toString('hex', end + 1, end + 1 + idBytes);
    names.set(bytes.toString('latin1', blank + 1, end), { mode, oid });
    at = end + 1 + idBytes;
  }
  return names;
};

/** A folder sorts as if its name ended with a slash. */
const sortName = ([name, { mode }]: [Path, { mode: string }]): string =>
  mode === FOLDER ? `${name}/` : name;

export const writeNames = (names: ReadonlyNames): Buffer => {
  const sorted = [...names]
    .map((one) => ({ key: sortName(one), one }))
    .sort((a, b) => (a.key < b.key ? -1 : 1));
  return Buffer.concat(
    sorted.flatMap(({ one: [name, { mode, oid }] }) => [
      Buffer.from(`${mode} ${name}\0`, 'latin1'),
      Buffer.from(oid, 'hex'),
    ]),
  );
};
