import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { Far } from '../../../src/client/patches/far.ts';
import { readState } from '../../../src/client/patches/state.ts';
import { pull, sync } from '../../../src/client/patches/steps.ts';
import { KhloneError } from '../../../src/protocol/error.ts';
import { put, ZONE } from '../../patch/ground.ts';
import { freely, makeTwoSides, stepped, type TwoSides } from './two-sides.ts';

/** A sync that is sent before the zone has answered what it is like. */

const lines = (changed: Record<number, string> = {}): string =>
  Array.from({ length: 30 }, (_, n) => `${changed[n] ?? `line ${n}`}\n`).join('');

let sides: TwoSides;
const syncBy = async (link: Far) => stepped(await sync(sides.place, link, freely));
const pullNow = async () => stepped(await pull(sides.place, sides.link, freely));
const far = (name: string): string => readFileSync(join(sides.far, name), 'utf8');
const near = (name: string): string => readFileSync(join(sides.near, name), 'utf8');

/** A link that notes what is asked by it, in order. */
const noted = (link: Far, said: string[]): Far => ({
  ...link,
  look: async (wish) => {
    const found = await link.look(wish);
    said.push('told');
    return found;
  },
  apply: async (change, payload) => {
    said.push(change.unchanged || change.edits ? 'sent early' : 'sent');
    return link.apply(change, payload);
  },
});

beforeEach(async () => {
  sides = await makeTwoSides((root) => put(root, 'long.txt', lines()));
  // Both agree, and the zone was seen twice as it is.
  await syncBy(sides.link);
  await pullNow();
  await syncBy(sides.link);
});
afterEach(() => sides.remove());

describe('a sync to a zone that was as before when it answered last', () => {
  it('does not wait for its answer', async () => {
    put(sides.near, 'long.txt', lines({ 2: 'near' }));
    const sent = Promise.withResolvers<void>();
    // The zone's answer arrives only after the change was sent: whoever waited for it would wait for ever.
    const link: Far = {
      ...sides.link,
      look: async (wish) => {
        const found = await sides.link.look(wish);
        await sent.promise;
        return found;
      },
      apply: (change, payload) => {
        sent.resolve();
        return sides.link.apply(change, payload);
      },
    };
    const { done } = await syncBy(link);
    expect([done, far('long.txt')]).toEqual([['long.txt'], lines({ 2: 'near' })]);
    const { base, remote, pending } = await readState(join(sides.near, '.git'), ZONE);
    expect([base === remote, pending]).toEqual([true, undefined]);
    expect((await pullNow()).done).toEqual([]);
  });

  it('merges where a clone changed the same file meanwhile', async () => {
    put(sides.near, 'long.txt', lines({ 2: 'near' }));
    put(sides.far, 'long.txt', lines({ 20: 'far' }));
    const said: string[] = [];
    const { done } = await syncBy(noted(sides.link, said));
    expect(said.filter((word) => word !== 'told')).toEqual(['sent early', 'sent']);
    expect([done, far('long.txt')]).toEqual([['long.txt'], lines({ 2: 'near', 20: 'far' })]);
    await pullNow();
    expect(near('long.txt')).toBe(far('long.txt'));
  });

  it('is a conflict where a clone changed the same line meanwhile, and nothing is overwritten', async () => {
    put(sides.near, 'long.txt', lines({ 2: 'near' }));
    put(sides.far, 'long.txt', lines({ 2: 'far' }));
    const { conflicts } = await syncBy(sides.link);
    expect(conflicts.map(({ paths }) => paths)).toEqual([['long.txt']]);
    expect([near('long.txt'), far('long.txt')]).toEqual([lines({ 2: 'near' }), lines({ 2: 'far' })]);
  });

  it('waits for the answer as long as something of the zone has not been brought', async () => {
    const said: string[] = [];
    const link = noted(sides.link, said);
    put(sides.far, 'theirs', 'far\n');
    for (const name of ['mine-1', 'mine-2', 'mine-3']) {
      put(sides.near, name, 'near\n');
      await syncBy(link);
      said.push('synced');
      if (name === 'mine-2') await pullNow();
    }
    expect(said.filter((word) => word !== 'told')).toEqual([
      ...['sent early', 'sent', 'synced'],
      ...['sent', 'synced'],
      ...['sent early', 'synced'],
    ]);
  });

  it('reaches a server that does not know this', async () => {
    put(sides.near, 'kept.txt', 'near\n');
    const link: Far = {
      ...sides.link,
      apply: (change, payload) =>
        change.unchanged || change.edits
          ? Promise.reject(new KhloneError('invalid-params', 'unknown'))
          : sides.link.apply(change, payload),
    };
    await syncBy(link);
    expect(far('kept.txt')).toBe('near\n');
  });

  it('is not taken by a zone that has told another worktree something since', async () => {
    put(sides.near, 'new.txt', 'near\n');
    const said: string[] = [];
    const link = noted(sides.link, said);
    await syncBy({
      ...link,
      apply: async (change, payload) => {
        if (change.unchanged)
          await sides.link.look({ replica: `r-${'1'.repeat(24)}`, known: [], payload: false });
        return link.apply(change, payload);
      },
    });
    expect([said.filter((word) => word !== 'told'), far('new.txt')]).toEqual([
      ['sent early', 'sent'],
      'near\n',
    ]);
  });
});
