import { afterEach, expect, it } from 'vitest';
import { contentsOf } from './invariants.ts';
import { type Random, randomFrom } from './random-edits.ts';
import { makeWorld, type World } from './world.ts';

/**
 * Three worktrees, one of them a copy of another, and a zone, edited and exchanged at random over a link that breaks.
 * KHLONE_LONG=1 runs many worlds, KHLONE_SEED repeats one.
 */

const LONG = process.env.KHLONE_LONG === '1';
const SEED = Number(process.env.KHLONE_SEED ?? Math.floor(Math.random() * 2 ** 31));
const WORLDS = process.env.KHLONE_SEED ? 1 : LONG ? 60 : 1;
const STEPS = LONG ? 40 : 22;
/** Rounds in which all that is left to exchange has to settle. */
const ROUNDS = 8;
const DEADLINE_MS = LONG ? 3_600_000 : 120_000;

let world: World | undefined;
afterEach(() => world?.sides.remove());

const act = async (one: World, random: Random): Promise<void> => {
  const replica = random.of(one.replicas);
  const what = random.below(20);
  if (what < 6) one.edit(replica.side.root);
  else if (what < 10) one.edit(one.far.root);
  else if (what < 13) {
    const pulled = await one.doPull(replica);
    const waits = (await one.conflictsOf(replica)).length > 0;
    if (pulled && pulled.refused.length === 0 && random.chance(waits ? 0.7 : 0.1)) await one.again(replica);
  } else if (what < 16) await one.doSync(replica);
  else if (what < 18) await one.resolve(replica);
  else if (what < 19) await one.queue(replica);
  else one.copyNear();
};

/** Everything is exchanged over a link that holds, each conflict decided, until nothing moves any more. */
const settle = async (one: World): Promise<void> => {
  for (let round = 0; round < ROUNDS; round += 1) {
    let moved = 0;
    for (const replica of one.replicas) {
      while (replica.queued.length > 0) await one.doSync(replica, true);
      moved += (await one.doPull(replica, true))?.done.length ?? 0;
      for (let n = 0; n < 30 && (await one.conflictsOf(replica)).length > 0; n += 1)
        await one.resolve(replica, true);
      moved += (await one.doSync(replica, true))?.done.length ?? 0;
      moved += (await one.conflictsOf(replica)).length;
    }
    if (moved === 0) return;
  }
  throw new Error('the worktrees do not settle');
};

/** What travels: not what one side ignores, or looks like a secret. */
const shared = (root: string): [string, string][] =>
  [...contentsOf(root)].filter(
    ([path]) => !/^(?:\.env|ignored.*|gen-\d)$|(?:^|\/)(?:ignored|\.env)/u.test(path),
  );

const runWorld = async (seed: number): Promise<void> => {
  const random = randomFrom(seed);
  world = await makeWorld(random, 0.06);
  try {
    for (let n = 0; n < STEPS; n += 1) await act(world, random);
    world.copyNear();
    await settle(world);
    const far = shared(world.far.root);
    for (const { name, side } of world.replicas) expect(shared(side.root), name).toEqual(far);
  } catch (thrown) {
    throw new Error(`KHLONE_SEED=${seed}\n${world.log.slice(-60).join('\n')}`, { cause: thrown });
  } finally {
    if (!process.env.KHLONE_KEEP) world.sides.remove();
  }
};

it(
  `loses, overwrites and leaks nothing, and ends with the same files everywhere (seed ${SEED})`,
  async () => {
    for (let n = 0; n < WORLDS; n += 1) await runWorld(SEED + n);
  },
  DEADLINE_MS,
);
