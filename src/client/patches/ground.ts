import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import type { ApplyPlace } from '../../patch/apply.ts';
import { asKnown } from '../../patch/as-known.ts';
import type { PatchAhead } from '../../patch/envelope.ts';
import { pinAll, pinned } from '../../patch/pins.ts';
import { replicaOf } from '../../patch/replica.ts';
import { openShadow, type Repository, type Shadow, shadowDirOf } from '../../patch/shadow.ts';
import { type Snapshot, snapshotTree } from '../../patch/snapshot.ts';
import { isComplete } from '../../patch/tree.ts';
import { faultPoint } from '../../protocol/fault-point.ts';
import type { Choice } from './far.ts';
import { readState, writeState, type ZoneState } from './state.ts';

/** A worktree of this machine, ready to exchange patches with one zone. Used under the worktree's lock. */

export type Ground = {
  repository: Repository;
  shadow: Shadow;
  zone: string;
  replica: string;
  choice: Choice;
  /** Where applications keep what they displace. */
  keep: string;
  /** A place for payloads. */
  dir: string;
  state: ZoneState;
  /** Begun while the zone is asked: what a sync sends where nothing changed there. */
  ahead?: PatchAhead;
  /** What the shadow holds, once it was asked: nobody else changes it while this worktree is locked. */
  pins?: Map<string, string>;
};

const GIT_DEADLINE_MS = 15 * 60_000;

const QUEUED = 'queued-';
/** States that wait and are remembered with their base; those before them are sent as if they were taken just now. */
const MAX_QUEUED = 64;

/** Notes what both sides had agreed on when a state was queued: a pull may go before it. */
export const noteQueued = (ground: Ground, tree: string): Promise<void> => {
  const { base, queued = [] } = ground.state;
  if (base === undefined) return Promise.resolve();
  const others = queued.filter((one) => one.tree !== tree);
  return keepState(ground, { ...ground.state, queued: [...others, { tree, base }].slice(-MAX_QUEUED) });
};

/** What is held for a zone's state. The trees of a step that is over are held until the next one takes their names. */
const pinsOf = (zone: string, { base, remote, pending, queued = [] }: ZoneState): Map<string, string> => {
  const wishes = [
    ['base', base],
    ['remote', remote],
    ['pending-base', pending?.base],
    ['pending-local', pending?.local],
    ['pending-remote', pending?.remote],
    ...queued.map((one) => [`${QUEUED}${one.base}`, one.base] as const),
  ] as const;
  return new Map(wishes.flatMap(([name, tree]) => (tree ? [[`zone/${zone}/${name}`, tree] as const] : [])));
};

/** Holds what a state names. May be asked for before it is stored, while something else is waited for. */
export const holdFor = async (ground: Ground, next: ZoneState): Promise<void> => {
  const { shadow, zone } = ground;
  ground.pins ??= await pinned(shadow);
  const wishes = pinsOf(zone, next);
  const over = [...ground.pins.keys()].filter(
    (name) => name.startsWith(`zone/${zone}/${QUEUED}`) && !wishes.has(name),
  );
  const dropped = over.map((name) => [name, undefined] as const);
  await pinAll(shadow, ground.pins, new Map([...wishes, ...dropped]));
};

/** Whether a state holds the very values of another, which is stored already. */
const isSameState = (one: ZoneState, other: ZoneState): boolean => {
  const names = new Set([...Object.keys(one), ...Object.keys(other)]) as Set<keyof ZoneState>;
  return [...names].every((name) => one[name] === other[name]);
};

/** Stores what follows from the state, its trees held first: state.json never names a tree that could be gone. */
export const keepState = async (ground: Ground, next: ZoneState): Promise<void> => {
  const { zone, repository } = ground;
  if (isSameState(ground.state, next)) return;
  await holdFor(ground, next);
  faultPoint('patch.pinned');
  await writeState(repository.gitDir, zone, next);
  faultPoint('patch.state');
  ground.state = next;
};

export const applyPlaceOf = ({ repository, keep }: Ground): ApplyPlace => ({
  worktree: repository.worktree,
  keep,
});

/** Opens the ground. What an earlier process left in the middle is still there: recover.ts finishes it. */
export const openGround = async (repository: Repository, zone: string, choice: Choice): Promise<Ground> => {
  const dir = join(repository.gitDir, 'khlone');
  await mkdir(dir, { recursive: true, mode: 0o700 });
  const [shadow, replica, state] = await Promise.all([
    openShadow(repository, shadowDirOf(repository.gitDir), GIT_DEADLINE_MS),
    replicaOf(repository.gitDir),
    readState(repository.gitDir, zone),
  ]);
  return { repository, shadow, zone, choice, dir, keep: join(dir, 'displaced'), replica, state };
};

/** The worktree's present state; what is left out of it stands there as both sides knew it last. */
export const snapshotOf = async (ground: Ground): Promise<Snapshot> => {
  const { repository, shadow, choice, state } = ground;
  const [snapshot, base] = await Promise.all([
    snapshotTree({
      ...repository,
      shadowDir: shadow.dir,
      deadlineMs: GIT_DEADLINE_MS,
      maxFileBytes: choice.maxFileBytes,
      choice,
      filtered: 'head',
    }),
    present(ground, state.base),
  ]);
  return base === undefined ? snapshot : asKnown(shadow, repository.worktree, snapshot, base);
};

/**
 * A tree that is here with all it needs, or nothing: then the other side is asked for it again. What is pinned was
 * whole when it was pinned; `doubted` looks at each of its files all the same.
 */
export const present = async (
  ground: Ground,
  tree: string | undefined,
  doubted = false,
): Promise<string | undefined> => {
  const { shadow } = ground;
  if (tree === undefined) return undefined;
  ground.pins ??= await pinned(shadow);
  if (!doubted && [...ground.pins.values()].includes(tree)) return tree;
  return (await isComplete(shadow, tree)) ? tree : undefined;
};
