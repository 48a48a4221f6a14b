import { git } from '../../patch/git.ts';
import { pathsOf } from '../../patch/groups.ts';
import { type Branch, branchHalts, deletionHalts, type Halt, operationHalts } from '../../patch/halt.ts';
import { branchOf } from '../../patch/head.ts';
import { holdsOf, newContents } from '../../patch/holds.ts';
import {
  excludedNow,
  type HeldOnce,
  heldOnce,
  ignoredNow,
  missingOf,
  tooLargeNow,
} from '../../patch/ignored.ts';
import type { Path } from '../../patch/listing.ts';
import { type Held, planPatch } from '../../patch/plan.ts';
import { type Flag, packageChanges, policyFlags } from '../../patch/policy.ts';
import { blobSizes, type Change, listTree, readBlob } from '../../patch/tree.ts';
import { type Ground, keepState } from './ground.ts';
import type { Meeting } from './meet.ts';
import { heldBySparse } from './sparse.ts';

/** What of a meeting may happen without a word of the person: some of it waits, some of it stops the whole step. */

export type Direction = 'toLocal' | 'toRemote';

export type Wish = {
  direction: Direction;
  /** Only these paths and what lies below them; all where it is undefined. */
  files: readonly Path[] | undefined;
  /** The zone's branch, where it has one. */
  branch: Branch;
  /** The local side is a state of an earlier time: what git is in the middle of now does not concern it. */
  isQueued: boolean;
};

export type Judged = { meeting: Meeting; halts: Halt[] };

const QUESTION_DEADLINE_MS = 30_000;
const MAX_ANSWER_BYTES = 64 * 1024;
const MAX_PACKAGE_BYTES = 4 * 1024 * 1024;
/** Packages whose scripts are compared; the others are all told. */
const MAX_PACKAGES = 100;
/** Not told: the person left them out. */
export const NOT_NAMED = 'not named';

const planAgain = (meeting: Meeting, held: readonly Held[]): Meeting => {
  const { sides, conflicts, renames } = meeting.merge;
  const all = [...meeting.held, ...held];
  return { ...meeting, held: all, plan: planPatch({ sides, conflicts, renames, held: all }) };
};

/** Whether the person named this path, or a folder above it. */
export const isNamed = (files: readonly Path[], path: Path): boolean =>
  files.some((file) => path === file || path.startsWith(`${file}/`));

const unnamed = (changes: readonly Change[], files: readonly Path[] | undefined): Held[] =>
  files === undefined
    ? []
    : changes.flatMap(({ path }) => (isNamed(files, path) ? [] : [{ path, why: NOT_NAMED }]));

/**
 * What is ignored or excluded here is kept from travelling, once rules that came from elsewhere change that, until it
 * is named.
 */
export const ignoredBefore = async ({
  repository: { worktree },
  shadow,
  choice,
  state,
}: Ground): Promise<HeldOnce[]> => {
  const [ignored, excluded, large, missing] = await Promise.all([
    ignoredNow(worktree, QUESTION_DEADLINE_MS),
    excludedNow(worktree, choice.exclude, QUESTION_DEADLINE_MS),
    tooLargeNow(shadow, choice.maxFileBytes, QUESTION_DEADLINE_MS),
    missingOf(
      worktree,
      state.ignoredOnce.map(({ path }) => path),
    ),
  ]);
  const covered = new Map([...large, ...excluded, ...ignored].map((held) => [held.path, held]));
  return heldOnce(state.ignoredOnce, [...covered.values()], missing, Date.now());
};

/** What was ignored until a pull, less what the person names: that is agreed to. Of a folder it may be some files. */
const notNamed = ({ state }: Ground, files: readonly Path[] = []): HeldOnce[] =>
  state.ignoredOnce.flatMap((one) => {
    if (isNamed(files, one.path.replace(/\/$/u, ''))) return [];
    const inside = one.path.endsWith('/') ? files.filter((file) => file.startsWith(one.path)) : [];
    return [inside.length === 0 ? one : { ...one, but: [...new Set([...(one.but ?? []), ...inside])] }];
  });

const oncePaths = (ground: Ground, { merge }: Meeting, files: readonly Path[] | undefined): Held[] =>
  notNamed(ground, files).flatMap(({ path, why, but }) => {
    if (!but) return [{ path, why }];
    const inIt = (one: Path): boolean => one === path.slice(0, -1) || one.startsWith(path);
    const held = [...pathsOf(merge.sides)].filter((one) => inIt(one) && !isNamed(but, one));
    return held.map((one) => ({ path: one, why }));
  });

/** What the person named and sent travels from now on like any other. */
export const forgetNamed = async (ground: Ground, files: readonly Path[] | undefined): Promise<void> => {
  const [before, ignoredOnce] = [ground.state.ignoredOnce, notNamed(ground, files)];
  if (ignoredOnce.length < before.length || ignoredOnce.some((one, n) => one !== before[n]))
    await keepState(ground, { ...ground.state, ignoredOnce });
};

/** Plans a meeting for one direction with all that has to wait, and says what stops it. */
export const judge = async (ground: Ground, met: Meeting, wish: Wish): Promise<Judged> => {
  const { shadow, repository, choice } = ground;
  const { direction, files } = wish;
  let meeting = planAgain(met, oncePaths(ground, met, files));
  const changes = meeting.plan[direction];
  const sizes = await blobSizes(shadow, newContents(changes));
  const { base } = meeting.merge.sides;
  const held = holdsOf({
    ...{ changes, base, sizes, choice, maxFileBytes: choice.maxFileBytes },
    ...(files && { isNamed: (path) => isNamed(files, path) }),
  });
  const kept = direction === 'toLocal' ? await heldBySparse(repository, changes) : [];
  meeting = planAgain(meeting, [...held, ...kept, ...unnamed(changes, files)]);
  const receiver = direction === 'toLocal' ? meeting.local : meeting.remote;
  const halts = [
    ...(wish.isQueued ? [] : await operationHalts(repository.gitDir)),
    ...(wish.isQueued || wish.branch === undefined
      ? []
      : branchHalts(wish.branch, await branchOf(repository))),
    ...(meeting.plan[direction].some(({ after }) => after === undefined)
      ? deletionHalts(meeting.plan, direction, (await listTree(shadow, receiver)).size)
      : []),
  ];
  return { meeting, halts };
};

/** How many paths would move in this direction: what is held waits, and is not counted. */
export const countedIn = async (ground: Ground, met: Meeting, direction: Direction): Promise<number> => {
  const { meeting } = await judge(ground, met, {
    ...{ direction, files: undefined, branch: undefined, isQueued: true },
  });
  return meeting.plan[direction].length;
};

const textOf = async ({ shadow }: Ground, oid: string | undefined): Promise<string | undefined> =>
  oid === undefined ? undefined : (await readBlob(shadow, oid, MAX_PACKAGE_BYTES)).toString('utf8');

/** Pulled files that something runs by itself. */
export const flagsOf = async (ground: Ground, done: readonly Path[], { plan }: Meeting): Promise<Flag[]> => {
  const came = new Set(done);
  const changes = plan.toLocal.filter(({ path }) => came.has(path));
  const packages = new Map<Path, { before?: string; after?: string }>();
  for (const { path, before, after } of packageChanges(changes).slice(0, MAX_PACKAGES)) {
    const [was, is] = await Promise.all([textOf(ground, before?.oid), textOf(ground, after?.oid)]);
    packages.set(path, { ...(was !== undefined && { before: was }), ...(is !== undefined && { after: is }) });
  }
  const options = {
    cwd: ground.repository.worktree,
    deadlineMs: QUESTION_DEADLINE_MS,
    maxBytes: MAX_ANSWER_BYTES,
  };
  const said = await git(['config', '--get', 'core.hooksPath'], options);
  return policyFlags(changes, packages, said.code === 0 ? said.stdout.toString('utf8').trim() : undefined);
};
