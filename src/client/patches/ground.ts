import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import type { ApplyPlace } from '../../patch/apply.ts';
import { pin, unpin } from '../../patch/pins.ts';
import { replicaOf } from '../../patch/replica.ts';
import { openShadow, type Repository, type Shadow, shadowDirOf } from '../../patch/shadow.ts';
import { type Snapshot, snapshotTree } from '../../patch/snapshot.ts';
import { isComplete } from '../../patch/tree.ts';
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
};

const GIT_DEADLINE_MS = 15 * 60_000;

/** Stores what follows from the state, its trees held first: state.json never names a tree that could be gone. */
export const keepState = async (ground: Ground, next: ZoneState): Promise<void> => {
  const { shadow, zone, repository } = ground;
  const pins: [string, string | undefined, string | undefined][] = [
    [`zone/${zone}/base`, ground.state.base, next.base],
    [`zone/${zone}/remote`, ground.state.remote, next.remote],
    [`zone/${zone}/pending-base`, ground.state.pending?.base, next.pending?.base],
    [`zone/${zone}/pending-local`, ground.state.pending?.local, next.pending?.local],
    [`zone/${zone}/pending-remote`, ground.state.pending?.remote, next.pending?.remote],
  ];
  for (const [name, before, after] of pins) if (after && after !== before) await pin(shadow, name, after);
  await writeState(repository.gitDir, zone, next);
  for (const [name, before, after] of pins) if (before && !after) await unpin(shadow, name);
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
  const shadow = await openShadow(repository, shadowDirOf(repository.gitDir), GIT_DEADLINE_MS);
  return {
    ...{ repository, shadow, zone, choice, dir },
    keep: join(dir, 'displaced'),
    replica: await replicaOf(repository.gitDir),
    state: await readState(repository.gitDir, zone),
  };
};

/** The worktree's present state. */
export const snapshotOf = ({ repository, shadow, choice }: Ground): Promise<Snapshot> =>
  snapshotTree({
    ...repository,
    shadowDir: shadow.dir,
    deadlineMs: GIT_DEADLINE_MS,
    maxFileBytes: choice.maxFileBytes,
    choice,
    filtered: 'head',
  });

/** A tree that is here with all it needs, or nothing: then the other side is asked for it again. */
export const present = async ({ shadow }: Ground, tree: string | undefined): Promise<string | undefined> =>
  tree !== undefined && (await isComplete(shadow, tree)) ? tree : undefined;
