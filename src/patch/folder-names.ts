import { treeAtHand } from './objects.ts';
import type { Shadow } from './shadow.ts';
import { type ReadonlyNames, readNames } from './tree-bytes.ts';

/**
 * What folders hold. An exchange asks ten times for the same few, and to read a folder of two hundred names takes as
 * long as to read it from the disk.
 */

/** By tree id, the latest used last. Trees never change. */
const latest = new Map<string, ReadonlyNames>();
/** Names that are held, of all folders together: 2 MB. */
const MAX_NAMES = 10_000;
let held = 0;

/** Holds what a tree says for whoever asks next. Nobody changes it from now on. */
export const keepNames = (oid: string, names: ReadonlyNames): void => {
  if (latest.delete(oid)) held -= names.size;
  // A larger one is kept as its bytes alone (objects.ts), which take a tenth of the room.
  if (names.size > MAX_NAMES / 4) return;
  latest.set(oid, names);
  held += names.size;
  for (const [old, { size }] of latest) {
    if (held <= MAX_NAMES) return;
    latest.delete(old);
    held -= size;
  }
};

/** The names in a folder, to be read only; undefined where its tree is not at hand, or git has to read it. */
export const namesAtHand = async (shadow: Shadow, oid: string): Promise<ReadonlyNames | undefined> => {
  const known = latest.get(oid);
  const bytes = known ? undefined : await treeAtHand(shadow, oid);
  const names = known ?? (bytes && readNames(bytes, shadow.zeroId.length));
  if (names) keepNames(oid, names);
  return names;
};
