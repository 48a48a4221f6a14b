import { mkdirSync, readFileSync, rmdirSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import type { Far } from '../../../src/client/patches/far.ts';
import { readState } from '../../../src/client/patches/state.ts';
import { pull, sync } from '../../../src/client/patches/steps.ts';
import { readReceipts } from '../../../src/server/patch-receipts.ts';
import { put, ZONE } from '../../patch/ground.ts';
import { farAt, freely, makeTwoSides, stepped, type TwoSides } from './two-sides.ts';

/** A zone answers once a change is made; that its receipt is still to be written stands in the journal. */

let sides: TwoSides;
let link: Far;
const syncNow = async () => stepped(await sync(sides.place, link, freely));
const far = (name: string): string => readFileSync(join(sides.far, name), 'utf8');
const patchesDir = (): string => join(sides.patchPlace.zonesDir, ZONE, 'patches');

beforeEach(async () => {
  sides = await makeTwoSides();
  link = farAt(sides.patchPlace, true);
  put(sides.near, 'mine', 'first\n');
  await syncNow();
  // Its turn comes when the first receipt is written.
  await pull(sides.place, link, freely);
});
afterEach(() => sides.remove());

it('a zone whose receipt could not be written has it written before it does anything else', async () => {
  const blocker = join(patchesDir(), 'receipts.json.new');
  mkdirSync(blocker);
  put(sides.near, 'mine', 'second\n');
  expect((await syncNow()).done).toEqual(['mine']);
  expect(far('mine')).toBe('second\n');
  const { seq } = await readState(join(sides.near, '.git'), ZONE);
  // The turn ends with the fault, which nobody is told; what asks next meets it, and nothing moves.
  put(sides.near, 'mine', 'third\n');
  await expect(syncNow()).rejects.toMatchObject({ code: 'EISDIR' });
  expect(far('mine')).toBe('second\n');
  expect((await readReceipts(patchesDir())).map((one) => one.seq)).toEqual([seq - 1]);
  rmdirSync(blocker);
  expect((await syncNow()).done).toEqual(['mine']);
  expect(far('mine')).toBe('third\n');
  expect(stepped(await pull(sides.place, link, freely)).done).toEqual([]);
});

it('the same change once more is not made a second time', async () => {
  let again: (() => Promise<unknown>) | undefined;
  const { apply } = link;
  link.apply = async (change, payload) => {
    async function* nothing(): AsyncGenerator<Uint8Array> {}
    again = () => apply(change, nothing());
    return apply(change, payload);
  };
  put(sides.near, 'mine', 'second\n');
  await syncNow();
  put(sides.far, 'mine', 'of the zone\n');
  expect(await again?.()).toMatchObject({ answer: { done: 1, repeated: true } });
  expect(far('mine')).toBe('of the zone\n');
});
