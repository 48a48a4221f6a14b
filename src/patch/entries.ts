import { gitFailed, verbOf } from './git.ts';
import { type Path, records, toBytes } from './listing.ts';
import type { Shadow } from './shadow.ts';

/** What a snapshot does with an index of the shadow: each verb is one git. */

export type Work = { shadow: Shadow; index: string };

/** What git says with this index. Throws `internal` with git's words, `disk-low`. */
export const said = async ({ shadow, index }: Work, args: string[], input?: Buffer): Promise<Buffer> => {
  const answer = await shadow.run(args, { index, ...(input && { input }) });
  if (answer.code !== 0)
    throw gitFailed(`git ${verbOf(args)} failed in the shadow repository`, answer.stderr);
  return answer.stdout;
};

export const heldPaths = async (work: Work): Promise<Set<Path>> =>
  new Set(records(await said(work, ['ls-files', '-z'])));

/** Where the worktree differs from the shadow's index: by stat, the files are not read. "<facts> <status>", path, … */
export const lookAtFiles = async (work: Work): Promise<Path[]> =>
  records(await said(work, ['diff-files', '-z', '--raw', '--no-renames']));

/** Sets entries without a look at any file; a line is "<mode> <id> 0\t<path>", mode 0 removes. */
export const setEntries = async (work: Work, lines: readonly string[]): Promise<void> => {
  const input = toBytes(lines.map((line) => `${line}\0`).join(''));
  await said(work, ['update-index', '-z', '--index-info'], input);
};

/** Reads files into the index; one that is gone meanwhile is taken out of it. Answers whether all were there. */
export const readIn = async (work: Work, paths: readonly Path[]): Promise<boolean> => {
  if (paths.length === 0) return true;
  const args = ['update-index', '-z', '--verbose', '--add', '--remove', '--replace', '--stdin'];
  const told = await said(work, args, toBytes(`${paths.join('\0')}\0`));
  return !/^remove '/mu.test(told.toString('latin1'));
};

export const writeTree = async (work: Work): Promise<string> =>
  (await said(work, ['write-tree'])).toString('utf8').trim();
