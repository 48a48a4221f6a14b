import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import type { ApplyPlace } from '../../patch/apply.ts';
import { asKnown } from '../../patch/as-known.ts';
import type { PatchAhead } from '../../patch/envelope.ts';
import { exists } from '../../patch/near-disk.ts';
import { pinAll, pinned } from '../../patch/pins.ts';
import { replicaOf } from '../../patch/replica.ts';
import { openShadow, type Repository, type Shadow, shadowDirOf } from '../../patch/shadow.ts';
import { type Snapshot, snapshotTree } from '../../patch/snapshot.ts';
import { isComplete } from '../../patch/tree.ts';
import { allOf } from '../../protocol/all-of.ts';
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
  /** The last that holds trees there: one at a time. It fails for whoever asked for it. */
  holding?: Promise<unknown>;
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

/** The same list for all who ask at once: what one of them changes, the others see. */
const pinsIn = async (ground: Ground): Promise<Map<string, string>> => {
  const found = ground.pins ?? (await pinned(ground.shadow));
  ground.pins ??= found;
  return ground.pins;
};

const hold = async (ground: Ground, next: ZoneState): Promise<void> => {
  const { shadow, zone } = ground;
  const pins = await pinsIn(ground);
  const wishes = pinsOf(zone, next);
  const over = [...pins.keys()].filter(
    (name) => name.startsWith(`zone/${zone}/${QUEUED}`) && !wishes.has(name),
  );
  const dropped = over.map((name) => [name, undefined] as const);
  await pinAll(shadow, pins, new Map([...wishes, ...dropped]));
};

/** Holds what a state names. May be asked for before it is stored, while something else is waited for. */
export const holdFor = (ground: Ground, next: ZoneState): Promise<void> => {
  const turn = (ground.holding ?? Promise.resolve()).then(() => hold(ground, next));
  ground.holding = turn.catch(() => undefined);
  return turn;
};

/** Whether all that a state names is held, be it under other names. */
const isHeld = async (ground: Ground, next: ZoneState): Promise<boolean> => {
  await ground.holding;
  const { zone } = ground;
  const own = [...(await pinsIn(ground))].filter(([name]) => name.startsWith(`zone/${zone}/`));
  const trees = new Set(own.map(([, tree]) => tree));
  return [...pinsOf(zone, next).values()].every((tree) => trees.has(tree));
};

/** Whether a state holds the very values of another, which is stored already. */
const isSameState = (one: ZoneState, other: ZoneState): boolean => {
  const names = new Set([...Object.keys(one), ...Object.keys(other)]) as Set<keyof ZoneState>;
  return [...names].every((name) => one[name] === other[name]);
};

/** Stores what follows from the state, whose trees the caller holds. */
export const noteState = async (ground: Ground, next: ZoneState): Promise<void> => {
  await writeState(ground.repository.gitDir, ground.zone, next);
  faultPoint('patch.state');
  ground.state = next;
};

/** Stores what follows from the state, its trees held first: state.json never names a tree that could be gone. */
export const keepState = async (ground: Ground, next: ZoneState): Promise<void> => {
  if (isSameState(ground.state, next)) return;
  const held = await isHeld(ground, next);
  const named = holdFor(ground, next);
  if (!held) await named;
  faultPoint('patch.pinned');
  await allOf(named, noteState(ground, next));
};

export const applyPlaceOf = ({ repository, keep }: Ground): ApplyPlace => ({
  worktree: repository.worktree,
  keep,
});

/** Opens the ground. What an earlier process left in the middle is still there: recover.ts finishes it. */
export const openGround = async (repository: Repository, zone: string, choice: Choice): Promise<Ground> => {
  const dir = join(repository.gitDir, 'khlone');
  if (!(await exists(dir))) await mkdir(dir, { recursive: true, mode: 0o700 });
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
  if (!doubted && [...(await pinsIn(ground)).values()].includes(tree)) return tree;
  return (await isComplete(shadow, tree)) ? tree : undefined;
};
