import { mkdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import type { Choice, Far } from '../../../src/client/patches/far.ts';
import { noteQueued, openGround, snapshotOf } from '../../../src/client/patches/ground.ts';
import { inTurn } from '../../../src/client/patches/lock.ts';
import { seedState } from '../../../src/client/patches/seed.ts';
import type { Halted, StepPlace, StepWish } from '../../../src/client/patches/steps.ts';
import { packWorktree } from '../../../src/patch/carry.ts';
import { MAX_FILE_BYTES } from '../../../src/patch/left-out.ts';
import { pin } from '../../../src/patch/pins.ts';
import { unpackWorktree } from '../../../src/patch/unpack.ts';
import { createTurns } from '../../../src/protocol/turns.ts';
import type { PatchPlace } from '../../../src/server/patch-ground.ts';
import { commits, common } from '../../../src/server/zone-commits.ts';
import { agree, look, take } from '../../../src/server/zone-patches.ts';
import { dirsOf, makeGround, makeRepo, ZONE } from '../../patch/ground.ts';

/** A worktree and a zone that was carried from it, on one machine: the zone's side is the server's own code. */

export const CHOICE: Choice = { maxFileBytes: MAX_FILE_BYTES, include: [], exclude: [] };

/** Nothing stops a step. */
export const freely: StepWish = { yes: true, branch: undefined };

export type TwoSides = Awaited<ReturnType<typeof makeTwoSides>>;

export const placeAt = (root: string): StepPlace => ({
  repository: dirsOf(root),
  zone: ZONE,
  choice: CHOICE,
});

/** `init`: words for git init. `worktree`: another worktree of the repository that stands for the near side. */
export type Making = { init?: string[]; worktree?: (root: string) => string };

const inZoneTurn = createTurns();

/**
 * The server's own code as the far side, one step at a time as the server does it. `isEarly`: it answers, as the server
 * does, before it has written all that it has to; else a test may look at that at once.
 */
export const farAt = (place: PatchPlace, isEarly = false): Far => {
  const turn = <T>(work: (answer: (value: T) => void) => Promise<T>): Promise<T> =>
    inZoneTurn(place.path, (answer) => work(isEarly ? answer : () => {}));
  return {
    look: (wish) => turn(() => look(place, { zone: ZONE, choice: CHOICE, ...wish })),
    apply: (change, payload) => turn((answer) => take(place, { zone: ZONE, ...change }, payload, answer)),
    agree: (state) => turn(() => agree(place, { zone: ZONE, ...state })),
    commits: (have) => turn(() => commits(place, { zone: ZONE, have })),
    common: async (have) => (await turn(() => common(place, { zone: ZONE, have }))).common,
  };
};

export const makeTwoSides = async (
  prepare: (root: string) => void = () => {},
  { init = [], worktree = (root) => root }: Making = {},
) => {
  const ground = makeGround();
  const main = makeRepo(ground.dir, 'near', init);
  prepare(main);
  const near = worktree(main);
  const zonesDir = join(ground.dir, 'zones');
  const farRoot = join(ground.dir, 'far');
  mkdirSync(zonesDir);
  const place = placeAt(near);
  const { manifest, body } = await packWorktree({
    ...place.repository,
    ...{ history: 'branch', maxFileBytes: MAX_FILE_BYTES, include: [], exclude: [] },
  });
  const shadowDir = join(zonesDir, ZONE, 'shadow.git');
  await unpackWorktree({ manifest, body, path: farRoot, zone: ZONE, shadowDir });
  await seedState(place.repository, ZONE, CHOICE, manifest.tree);
  const patchPlace = { zone: ZONE, path: farRoot, zonesDir };
  const far = farAt(patchPlace);
  return {
    ...ground,
    near,
    far: farRoot,
    place,
    link: far,
    patchPlace,
    remove: () => rmSync(ground.dir, { recursive: true, force: true }),
  };
};

/** A step that was not stopped. */
export const stepped = <T extends object>(outcome: T | Halted): T => {
  if ('halts' in outcome) throw new Error(JSON.stringify(outcome.halts));
  return outcome;
};

/** Keeps the near side's present state as a sync does whose host is away; its tree. */
export const queueState = ({ place }: Pick<TwoSides, 'place'>): Promise<string> =>
  inTurn(place.repository.gitDir, async () => {
    const ground = await openGround(place.repository, ZONE, CHOICE);
    const { tree } = await snapshotOf(ground);
    await pin(ground.shadow, `queued/${ZONE}/${tree}`, tree);
    await noteQueued(ground, tree);
    return tree;
  });
