import { afterEach, describe, expect, it } from 'vitest';
import { contentsOf } from '../client/patches/invariants.ts';
import { type Random, randomFrom } from '../client/patches/random-edits.ts';
import { sshdMissing } from '../fixtures/sshd.ts';
import { type Laptop, type Laptops, makeLaptops } from './laptops.ts';

/**
 * Two laptops and a zone, edited and exchanged at random, on line and off. KHLONE_LONG=1 runs many worlds, KHLONE_SEED
 * repeats one.
 */

const LONG = process.env.KHLONE_LONG === '1';
/** The same few worlds in each ordinary run; the long one takes others as well. */
const SEEDS = [1, 5, 12];
const FIRST = Date.now() % 1_000_000;
const seeds = process.env.KHLONE_SEED
  ? [Number(process.env.KHLONE_SEED)]
  : [...SEEDS, ...Array.from({ length: LONG ? 200 : 0 }, (_, n) => FIRST + n)];
const STEPS = 22;
/** In every third world people do nothing but leave, which is many commands each time. */
const LEAVES = 10;
const isTraveller = (seed: number): boolean => seed % 3 === 0;
/** Of commands that something befalls in their middle. */
const SHARE = LONG ? 0.25 : 0;
/** Rounds in which all that is left to exchange has to settle. */
const ROUNDS = 9;
/** Conflicts that one round may have to decide. */
const DECISIONS = 40;

let world: Laptops | undefined;
afterEach(async () => {
  await world?.far.dispose();
  world = undefined;
});

const times = async (count: number, work: () => void | Promise<void>): Promise<void> => {
  for (let n = 0; n < count; n += 1) await work();
};

type Deed = (one: Laptops, laptop: Laptop, random: Random) => void | Promise<void>;

const resolve: Deed = (one, laptop) => one.resolve(laptop);

/** Off line there is nothing to pull; what came before can be decided. */
const pull: Deed = (one, laptop, random) =>
  one.isOnline() || random.chance(0.1)
    ? one.exchange(laptop, 'pull').then(() => {})
    : resolve(one, laptop, random);

/** People leave with what they just pulled, while the clones go on. */
const link: Deed = async (one, laptop, random) => {
  if (!one.isOnline()) return one.goOnline();
  if (random.chance(0.7)) await one.exchange(laptop, 'pull');
  await one.goOffline();
  await times(1 + random.below(3), () => one.edit(one.zone));
  if (random.chance(0.3)) return;
  await times(1 + random.below(3), () => one.edit(laptop));
  await one.exchange(laptop, 'sync');
  await one.resolve(laptop);
};

/** People leave with a conflict and one file that the clones change as well; they decide, and give work that needs it. */
const leave: Deed = async (one, laptop, random) => {
  if (!one.isOnline()) return one.goOnline();
  if (one.conflictsOf(laptop).length === 0) one.meet(laptop);
  await one.exchange(laptop, 'pull');
  await one.goOffline();
  let file = one.fileOf(laptop);
  if (file && random.chance(0.5)) one.edit(one.zone, ['edit lines'], [file]);
  await times(2 + random.below(2), async () => {
    if (file) file = one.goOn(laptop, file);
    await one.exchange(laptop, random.of(['sync', 'act', 'act']));
    if (random.chance(0.7)) await one.resolve(laptop, 'keep');
  });
  if (random.chance(0.6)) await one.goOnline();
};

const DEEDS: readonly Deed[] = [
  (one, laptop, random) => times(1 + random.below(3), () => one.edit(laptop)),
  (one, _, random) => times(1 + random.below(3), () => one.edit(one.zone)),
  pull,
  (one, laptop) => one.exchange(laptop, 'sync').then(() => {}),
  resolve,
  link,
  leave,
];
const RARELY: Deed = (one, laptop) => one.killHub(laptop);

/** Each world has habits of its own: what is rare in one is frequent in another. */
const habitsOf = (random: Random): Deed[] =>
  DEEDS.flatMap((deed, n) => Array<Deed>(n < 5 ? 2 + random.below(6) : 1 + random.below(3)).fill(deed));

/** Everything is exchanged, each conflict decided, until nothing moves any more. */
const settle = async (one: Laptops): Promise<void> => {
  for (let round = 0; round < ROUNDS; round += 1) {
    let moved = 0;
    for (const laptop of one.laptops) {
      moved += await one.exchange(laptop, 'pull', true);
      for (let n = 0; n < DECISIONS && one.conflictsOf(laptop).length > 0; n += 1) {
        await one.resolve(laptop, 'keep');
        moved += 1;
      }
      moved += await one.exchange(laptop, 'sync', true);
      moved += one.conflictsOf(laptop).length;
    }
    if (moved === 0) return;
  }
  throw new Error('the worktrees do not settle');
};

const shared = (root: string): [string, string][] =>
  [...contentsOf(root)].filter(([path]) => !/^gen-\d$/u.test(path)).sort();

const runWorld = async (seed: number): Promise<void> => {
  const random = randomFrom(seed);
  world = await makeLaptops(random, SHARE);
  try {
    const habits = habitsOf(random);
    const [first] = world.laptops;
    if (LONG && first && random.chance(0.3)) await world.travelByItself(first);
    for (let n = 0; n < (isTraveller(seed) ? LEAVES : STEPS); n += 1) {
      const deed = isTraveller(seed) ? leave : random.chance(0.02) ? RARELY : random.of(habits);
      await deed(world, random.of(world.laptops), random);
    }
    await world.goOnline();
    await world.endTroubles();
    await settle(world);
    expect(await world.problems()).toEqual([]);
    for (const { name, root } of world.laptops) expect(shared(root), name).toEqual(shared(world.zone.root));
  } catch (thrown) {
    throw new Error(`KHLONE_SEED=${seed}\n${world.log.slice(-60).join('\n')}`, { cause: thrown });
  }
};

describe.skipIf(sshdMissing)(`two laptops${sshdMissing ? ` (${sshdMissing})` : ''}`, () => {
  it.each(seeds)('lose, double and revive nothing, and agree in the end (seed %i)', runWorld, 240_000);
});
