import { blobsAtHand, FEW_PATHS, writeObject } from './objects.ts';
import type { Shadow } from './shadow.ts';
import { smallFiles } from './small-edits.ts';
import { applyHunks, readTextPatch, textPatchOf } from './text-patch.ts';
import type { Wish } from './tree.ts';
import { fewChanges } from './tree-diff.ts';
import { editTree, entriesAtHand } from './tree-edit.ts';

/** A small and plain patch, written and applied without a git: whatever comes of it, the id of its result proves it. */

/** A patch of more bytes is a git's: nearly all syncs are far below. */
const MAX_BY_HAND_BYTES = 256 * 1024;

/** What leads from one tree to another, as git would say it in a patch; undefined where that takes a git. */
export const patchByHand = async (
  shadow: Shadow,
  base: string,
  result: string,
): Promise<Buffer | undefined> => {
  const few = await fewChanges(shadow, base, result);
  if (!few || few.changes.length > FEW_PATHS) return undefined;
  const oids = few.changes.flatMap(({ before, after }) => (before && after ? [before.oid, after.oid] : []));
  const blobs = await blobsAtHand(shadow, oids);
  const parts = few.changes.map(({ path, before, after }) => {
    const [older, newer] = [blobs?.get(before?.oid ?? ''), blobs?.get(after?.oid ?? '')];
    if (!before || !after || before.mode !== after.mode || !older || !newer) return undefined;
    if (older.length + newer.length > MAX_BY_HAND_BYTES) return undefined;
    return textPatchOf(path, before.mode, [before.oid, older], [after.oid, newer]);
  });
  const whole = parts.filter((part) => part !== undefined);
  return whole.length === parts.length ? Buffer.from(whole.join(''), 'latin1') : undefined;
};

/** The tree that a patch makes of its base; undefined where that takes a git. */
export const applyByHand = async (
  shadow: Shadow,
  base: string,
  text: Buffer,
): Promise<string | undefined> => {
  const files = text.length <= MAX_BY_HAND_BYTES ? readTextPatch(text.toString('latin1')) : undefined;
  if (!files || files.length > FEW_PATHS) return undefined;
  const there = await entriesAtHand(
    shadow,
    base,
    files.map(({ path }) => path),
  );
  const olds = new Map([...(there ?? [])].map(([path, { oid }]) => [path, oid]));
  const blobs = there && (await smallFiles(shadow, olds));
  if (!blobs) return undefined;
  const wishes: Wish[] = [];
  for (const { path, before, after, hunks } of files) {
    const was = there.get(path);
    if (was?.mode !== before) return undefined;
    const made = applyHunks(blobs.get(was?.oid ?? '')?.toString('latin1') ?? '', hunks);
    if (made === undefined) return undefined;
    const bytes = Buffer.from(made, 'latin1');
    wishes.push({
      path,
      after: after ? { mode: after, oid: await writeObject(shadow, 'blob', bytes) } : undefined,
    });
  }
  return editTree(shadow, base, wishes);
};
