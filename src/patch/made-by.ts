import { mkdir } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import * as z from 'zod';
import { exists, lstat, readText, rename, writeDurable } from './near-disk.ts';

/** The mark of a repository that khlone made for a zone: only such a folder is ever reused or removed. */

/** Clones can write the mark, and its ids become words of a command line. */
const objectId = z.string().regex(/^(?:[0-9a-f]{40}|[0-9a-f]{64})$/u);

const MadeBy = z.object({
  version: z.literal(1),
  zone: z.string().max(100),
  /** The commit that was carried; absent for an unborn branch. */
  head: objectId.optional(),
  /** The worktree's state right after it was made: what differs from it is the clones' work. */
  tree: objectId,
  /** How many files were carried. */
  files: z.number(),
  madeMs: z.number(),
});
export type MadeBy = z.infer<typeof MadeBy>;

const MAX_MARK_BYTES = 64 * 1024;
const markPath = (worktree: string): string => join(worktree, '.git', 'khlone', 'made-by.json');

/** The mark in a worktree, or undefined where there is none of ours; symbolic links are not followed. */
export const readMadeBy = async (worktree: string): Promise<MadeBy | undefined> => {
  const git = join(worktree, '.git');
  for (const folder of [worktree, git, join(git, 'khlone')]) {
    const facts = await lstat(folder).catch(() => undefined);
    if (!facts?.isDirectory()) return undefined;
  }
  const facts = await lstat(markPath(worktree)).catch(() => undefined);
  if (!facts?.isFile() || facts.size > MAX_MARK_BYTES) return undefined;
  try {
    return MadeBy.parse(JSON.parse(await readText(markPath(worktree))));
  } catch {
    return undefined;
  }
};

/** Writes the mark durably: whole or not at all. */
export const writeMadeBy = async (worktree: string, mark: MadeBy): Promise<void> => {
  const path = markPath(worktree);
  if (!(await exists(dirname(path)))) await mkdir(dirname(path), { recursive: true, mode: 0o700 });
  await writeDurable(`${path}.new`, `${JSON.stringify(mark)}\n`, { mode: 0o600 });
  await rename(`${path}.new`, path);
};
