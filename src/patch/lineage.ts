import { open, writeFile } from 'node:fs/promises';
import { join } from 'node:path';

/**
 * The names of a branch's commits without the commits: enough for a zone to say which of a person's commits it comes
 * from, though its own history ends long after that one.
 */

/** Commits that are named at most, the latest first. */
export const MAX_LINEAGE = 20_000;
/** Of each id: a match that is none would need two commits alike in so many bytes, and names a wrong ground at worst. */
const NAME_BYTES = 8;
const NAME_DIGITS = NAME_BYTES * 2;
/** Characters of base64 around all of them: they fit a call's frame beside the other words of a manifest. */
export const MAX_LINEAGE_CHARS = Math.ceil((MAX_LINEAGE * NAME_BYTES) / 3) * 4;

const FILE = 'khlone-lineage';

/** The names of these commits, ids in hex, as base64. */
export const lineageText = (commits: readonly string[]): string =>
  Buffer.from(
    commits
      .slice(0, MAX_LINEAGE)
      .map((id) => id.slice(0, NAME_DIGITS))
      .join(''),
    'hex',
  ).toString('base64');

/** Keeps what a manifest says in the zone's shadow repository, where its clones cannot write. */
export const keepLineage = (shadowDir: string, text: string): Promise<void> =>
  writeFile(join(shadowDir, FILE), Buffer.from(text, 'base64'), { mode: 0o600 });

/** Whether the zone's branch comes from a commit, as far as it was told; a zone that was told nothing knows of none. */
export const readLineage = async (shadowDir: string): Promise<(commit: string) => boolean> => {
  const file = await open(join(shadowDir, FILE), 'r').catch(() => undefined);
  if (!file) return () => false;
  const room = Buffer.alloc(MAX_LINEAGE * NAME_BYTES);
  try {
    const { bytesRead } = await file.read(room, 0, room.length, 0);
    const digits = room.toString('hex', 0, bytesRead);
    const names = new Set<string>();
    for (let at = 0; at + NAME_DIGITS <= digits.length; at += NAME_DIGITS)
      names.add(digits.slice(at, at + NAME_DIGITS));
    return (commit) => names.has(commit.slice(0, NAME_DIGITS));
  } finally {
    await file.close();
  }
};
