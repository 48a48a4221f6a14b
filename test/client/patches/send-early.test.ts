import { existsSync, readFileSync, renameSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { buffer } from 'node:stream/consumers';
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
const gitDir = (): string => join(sides.near, '.git');

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
    const { base, remote, pending } = await readState(gitDir(), ZONE);
    expect([base === remote, pending]).toEqual([true, undefined]);
    expect((await pullNow()).done).toEqual([]);
  });

  it('does not ask either where it only edits files, whatever else a clone did', async () => {
    put(sides.near, 'long.txt', lines({ 2: 'near' }));
    put(sides.far, 'kept.txt', 'far\n');
    put(sides.far, 'theirs', 'far\n');
    const before = await readState(gitDir(), ZONE);
    const said: string[] = [];
    const { done } = await syncBy(noted(sides.link, said));
    expect([said, done, far('long.txt')]).toEqual([['sent early'], ['long.txt'], lines({ 2: 'near' })]);
    // What it has not seen is not told as seen.
    const { seenMs, toPull, toSend } = await readState(gitDir(), ZONE);
    expect({ seenMs, toPull, toSend }).toEqual({ seenMs: before.seenMs, toPull: 0, toSend: 0 });
    expect((await pullNow()).done.toSorted()).toEqual(['kept.txt', 'theirs']);
    expect([near('kept.txt'), near('theirs'), near('long.txt')]).toEqual([
      'far\n',
      'far\n',
      lines({ 2: 'near' }),
    ]);
    expect((await syncBy(sides.link)).done).toEqual([]);
  });

  it('asks while git is in the middle of something in the zone, and says so', async () => {
    put(sides.near, 'long.txt', lines({ 2: 'near' }));
    writeFileSync(join(sides.far, '.git/MERGE_HEAD'), '');
    const said: string[] = [];
    const { seen } = await syncBy(noted(sides.link, said));
    expect(said).toEqual(['sent early', 'told', 'sent']);
    expect(seen?.underway).toEqual(['a merge is not finished']);
  });

  it('is not taken as edits where it is more than that, whatever is said', async () => {
    rmSync(join(sides.near, 'kept.txt'));
    const said: string[] = [];
    const link = noted(sides.link, said);
    const answers: unknown[] = [];
    await syncBy({
      ...link,
      apply: async ({ unchanged, ...change }, payload) => {
        const found = await link.apply({ ...change, ...(unchanged && { edits: true }) }, payload);
        answers.push(found.answer.changed);
        return found;
      },
    });
    expect(answers).toEqual([true, undefined]);
    expect(existsSync(join(sides.far, 'kept.txt'))).toBe(false);
  });

  it('writes through no link that a clone put in the place of a folder', async () => {
    put(sides.near, 'in/it', lines());
    await syncBy(sides.link);
    await syncBy(sides.link);
    const outside = join(dirname(sides.far), 'outside');
    renameSync(join(sides.far, 'in'), outside);
    symlinkSync(outside, join(sides.far, 'in'));
    put(sides.near, 'in/it', lines({ 2: 'near' }));
    const said: string[] = [];
    await syncBy(noted(sides.link, said));
    expect(said[0]).toBe('sent early');
    expect(said).toContain('told');
    expect(readFileSync(join(outside, 'it'), 'utf8')).toBe(lines());
  });

  it('is written down before the zone hears that it has all of it', async () => {
    put(sides.near, 'long.txt', lines({ 2: 'near' }));
    const { apply } = sides.link;
    let noted: unknown;
    await syncBy({
      ...sides.link,
      apply: (change, payload) => {
        // Read to its end at once: how fast the zone reads must not decide this.
        const whole = buffer(payload).then((bytes) => {
          noted = JSON.parse(readFileSync(join(gitDir(), 'khlone/state.json'), 'utf8')).zones[ZONE].pending;
          return bytes;
        });
        async function* asRead(): AsyncGenerator<Uint8Array> {
          yield await whole;
        }
        return apply(change, asRead());
      },
    });
    expect(noted).toMatchObject({ kind: 'sync', seq: (await readState(gitDir(), ZONE)).seq });
  });

  it('changes nothing where its sender breaks off after its last byte', async () => {
    put(sides.near, 'long.txt', lines({ 2: 'near' }));
    const { apply } = sides.link;
    async function* brokenOff(payload: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
      yield* payload;
      throw new Error('the line broke');
    }
    const breaking: Far = { ...sides.link, apply: (change, payload) => apply(change, brokenOff(payload)) };
    await expect(syncBy(breaking)).rejects.toThrow('the line broke');
    expect(far('long.txt')).toBe(lines());
    expect((await syncBy(sides.link)).done).toEqual(['long.txt']);
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
