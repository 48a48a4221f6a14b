import { join } from 'node:path';
import { git } from './git.ts';
import { readText, stat } from './near-disk.ts';
import type { Repository } from './shadow.ts';

/** What HEAD names, read from git's plain files where they say it outright: a process is asked only where not. */

const QUESTION_DEADLINE_MS = 30_000;
const MAX_ANSWER_BYTES = 64 * 1024;
/** Repositories with more packed refs than this are asked by a git. */
const MAX_REFS_BYTES = 256 * 1024;
const ID = /^(?:[0-9a-f]{40}|[0-9a-f]{64})$/u;
const BRANCH = /^ref: refs\/heads\/(.+)$/u;
/** What stands in HEAD where the refs are in a form of their own. */
const ELSEWHERE = '.invalid';

const textOf = (path: string): Promise<string> =>
  readText(path).then(
    (text) => text.trim(),
    () => '',
  );

/** The branch that HEAD names, born or not; undefined where it names a commit. */
export const branchOf = async ({ worktree, gitDir }: Repository): Promise<string | undefined> => {
  const head = await textOf(join(gitDir, 'HEAD'));
  const name = BRANCH.exec(head)?.[1];
  if (name !== undefined && name !== ELSEWHERE) return name;
  if (ID.test(head)) return undefined;
  const options = { cwd: worktree, deadlineMs: QUESTION_DEADLINE_MS, maxBytes: MAX_ANSWER_BYTES };
  const { code, stdout } = await git(['symbolic-ref', '--quiet', 'HEAD'], options);
  return code === 0
    ? stdout
        .toString('utf8')
        .trim()
        .replace(/^refs\/heads\//u, '')
    : undefined;
};

/** HEAD's commit; undefined where only a git could tell. */
export const plainHead = async ({ gitDir, commonDir }: Repository): Promise<string | undefined> => {
  const head = await textOf(join(gitDir, 'HEAD'));
  const name = BRANCH.exec(head)?.[1];
  if (name === undefined) return ID.test(head) ? head : undefined;
  const ref = `refs/heads/${name}`;
  if (ref.split('/').includes('..')) return undefined;
  const loose = await textOf(join(commonDir, ref));
  if (loose !== '') return ID.test(loose) ? loose : undefined;
  const packed = join(commonDir, 'packed-refs');
  const facts = await stat(packed).catch(() => undefined);
  if (!facts || facts.size > MAX_REFS_BYTES) return undefined;
  const line = (await textOf(packed)).split('\n').find((one) => one.endsWith(` ${ref}`));
  const id = line?.split(' ')[0] ?? '';
  return ID.test(id) ? id : undefined;
};
