import { keepNames, namesAtHand } from './folder-names.ts';
import { foldersOf } from './groups.ts';
import type { Path } from './listing.ts';
import { askForTrees, FEW_PATHS, idOf, writeObject } from './objects.ts';
import type { Shadow } from './shadow.ts';
import type { Entry, Wish } from './tree.ts';
import { FOLDER, type ReadonlyNames, writeNames } from './tree-bytes.ts';

/** A tree with a few paths changed, made of the folders above them and of nothing else, however large the tree is. */

const LINK = '120000';
/** Names that git takes on every file system; of others it is asked itself. */
const PLAIN = /^[A-Za-z0-9_][^\\:~]*$/u;

/** Git looks closer at links: one below such a name may be read as a file of git's own. */
const isOddLink = ({ path, after }: Wish): boolean =>
  after?.mode === LINK && !path.split('/').every((name) => PLAIN.test(name));

type Node = { files: Map<Path, Entry | undefined>; folders: Map<Path, Node> };

const newNode = (): Node => ({ files: new Map(), folders: new Map() });

const nodesOf = (wishes: readonly Wish[]): Node => {
  const root = newNode();
  for (const { path, after } of wishes) {
    const names = path.split('/');
    const file = names.pop() ?? '';
    let node = root;
    for (const name of names) {
      const next = node.folders.get(name) ?? newNode();
      node.folders.set(name, next);
      node = next;
    }
    node.files.set(file, after);
  }
  return root;
};

/** The folders that a walk along these paths meets and that are not at hand; what is not there at all is none. */
const missingOf = async (shadow: Shadow, tree: string, folders: readonly Path[]): Promise<Path[]> => {
  const known = new Map<Path, ReadonlyNames>();
  const missing: Path[] = [];
  const isBelow = (folder: Path): boolean =>
    missing.some((one) => one === '' || folder.startsWith(`${one}/`));
  for (const folder of ['', ...[...new Set(folders)].sort()]) {
    const at = folder.lastIndexOf('/');
    const entry =
      folder === '' ? undefined : known.get(folder.slice(0, Math.max(at, 0)))?.get(folder.slice(at + 1));
    const oid = folder === '' ? tree : entry?.mode === FOLDER ? entry.oid : undefined;
    const names = oid && (await namesAtHand(shadow, oid));
    if (names) known.set(folder, names);
    else if (oid || isBelow(folder)) missing.push(folder);
  }
  return missing;
};

/** The folder's new id; '' where nothing is left in it; undefined where this is not plain enough. `made`: new folders. */
const editFolder = async (
  shadow: Shadow,
  oid: string | undefined,
  node: Node,
  made: Buffer[],
): Promise<string | undefined> => {
  const there = oid === undefined ? new Map() : await namesAtHand(shadow, oid);
  if (!there) return undefined;
  const names = new Map(there);
  for (const [name, after] of node.files) {
    const before = names.get(name);
    if (before?.mode === FOLDER || node.folders.has(name)) return undefined;
    if (!before && !after) return undefined;
    if (!before && !PLAIN.test(name)) return undefined;
    if (after) names.set(name, { ...after });
    else names.delete(name);
  }
  for (const [name, below] of node.folders) {
    const before = names.get(name);
    if (before ? before.mode !== FOLDER : !PLAIN.test(name)) return undefined;
    const edited = await editFolder(shadow, before?.oid, below, made);
    if (edited === undefined) return undefined;
    if (edited === '') names.delete(name);
    else names.set(name, { mode: FOLDER, oid: edited });
  }
  if (names.size === 0) return '';
  const bytes = writeNames(names);
  made.push(bytes);
  const edited = idOf('tree', bytes, shadow.zeroId.length);
  keepNames(edited, names);
  return edited;
};

const askMissing = async (shadow: Shadow, tree: string, paths: readonly Path[]): Promise<void> => {
  const missing = await missingOf(shadow, tree, paths.flatMap(foldersOf));
  if (missing.length > 0) await askForTrees(shadow, tree, missing);
};

/** What a tree has at a few paths; undefined where a git has to tell, or one of them is a folder. */
export const entriesAtHand = async (
  shadow: Shadow,
  tree: string,
  paths: readonly Path[],
): Promise<Map<Path, Entry> | undefined> => {
  await askMissing(shadow, tree, paths);
  const found = new Map<Path, Entry>();
  for (const path of paths) {
    const names = path.split('/');
    let at: Entry | undefined = { mode: FOLDER, oid: tree };
    for (const name of names) {
      if (at?.mode !== FOLDER) break;
      const folder: ReadonlyNames | undefined = await namesAtHand(shadow, at.oid);
      if (!folder) return undefined;
      at = folder.get(name);
    }
    if (at?.mode === FOLDER) return undefined;
    if (at) found.set(path, at);
  }
  return found;
};

/**
 * The id of a tree with a few paths set or removed, its folders stored in the shadow; undefined where the change is
 * not plain: many paths, names that not every git takes, a file in a folder's place, or nothing left.
 */
export const editTree = async (
  shadow: Shadow,
  tree: string,
  wishes: readonly Wish[],
): Promise<string | undefined> => {
  if (wishes.length > FEW_PATHS || wishes.some(isOddLink)) return undefined;
  await askMissing(
    shadow,
    tree,
    wishes.map(({ path }) => path),
  );
  const made: Buffer[] = [];
  const edited = await editFolder(shadow, tree, nodesOf(wishes), made);
  if (!edited) return undefined;
  const written = Promise.all(made.map((bytes) => writeObject(shadow, 'tree', bytes)));
  // A full disk is for git to tell.
  return written.then(
    () => edited,
    () => undefined,
  );
};
