import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import type { Subscribe } from '../../src/protocol/calls.ts';
import { apart } from '../../src/protocol/items.ts';
import { follow } from '../../src/server/handlers/subscribe.ts';
import { SEGMENT_MAX_BYTES } from '../../src/server/journal.ts';
import type { Store } from '../../src/server/store/store.ts';
import { addZone, openGround, type StoreGround, ZONE_ID } from './store-ground.ts';

/** Watching a journal: everything once, in order, and what is gone is said to be gone. */

let ground: StoreGround;
let store: Store;
let leave: AbortController;

beforeEach(async () => {
  ground = openGround();
  ({ store } = ground);
  leave = new AbortController();
  await addZone(ground);
});
afterEach(async () => {
  leave.abort();
  // Who stops reading says so: the file that it reads from is closed by that.
  await Promise.all(watchers.splice(0).map((watcher) => watcher.return(undefined)));
  ground.dispose();
});

type Seen = { seq?: number; gap?: { from: number; to: number } };
const watchers: AsyncGenerator<unknown>[] = [];
async function* itemsOf(sub: Subscribe): AsyncGenerator<unknown> {
  for await (const given of follow(store, sub, leave.signal)) yield* apart(given);
}
const watch = (over: Partial<Subscribe> = {}): AsyncGenerator<unknown> => {
  const watcher = itemsOf({ zone: ZONE_ID, from: 'start', until: 'never', ...over });
  watchers.push(watcher);
  return watcher;
};
const say = (text = ''): Promise<void> =>
  store.write((tx) => tx.emit(ZONE_ID, { atMs: 0, event: { type: 'note', text } }));
const sayBig = (): Promise<void> => say('x'.repeat(SEGMENT_MAX_BYTES / 2));
const take = async (watcher: AsyncGenerator<unknown>, count: number): Promise<(number | string)[]> => {
  const seen: (number | string)[] = [];
  while (seen.length < count) {
    const { value, done } = await watcher.next();
    if (done) break;
    const { seq, gap } = value as Seen;
    seen.push(gap ? `gap ${gap.from}-${gap.to}` : (seq ?? 'nothing'));
  }
  return seen;
};
const all = async (over: Partial<Subscribe>): Promise<(number | string)[]> =>
  take(watch({ until: 'now', ...over }), Number.POSITIVE_INFINITY);
const epoch = (): string => store.head(ZONE_ID)?.epoch ?? '';

describe('a cursor', () => {
  beforeEach(async () => {
    for (let i = 0; i < 5; i++) await say();
  });

  test('of today goes on behind what was seen', async () => {
    expect(await all({ from: { epoch: epoch(), seq: 2 } })).toEqual([3, 4, 5]);
    expect(await all({ from: { epoch: epoch(), seq: 5 } })).toEqual([]);
    expect(await all({ from: 'start' })).toEqual([1, 2, 3, 4, 5]);
    expect(await all({ from: 'live' })).toEqual([]);
  });

  test('of another epoch begins anew, behind a gap', async () => {
    const [first, ...rest] = await all({ from: { epoch: 'another', seq: 2 } });
    expect(first).toMatch(/^gap/);
    expect(rest).toEqual([1, 2, 3, 4, 5]);
  });

  test('into a zone that is not known is refused', async () => {
    await expect(all({ zone: 'z-ffffffffffffffff' })).rejects.toMatchObject({ code: 'not-found' });
  });
});

describe('pruned segments', () => {
  beforeEach(async () => {
    for (let i = 0; i < 6; i++) await sayBig();
  });

  test('are a gap for a cursor that points into them', async () => {
    store.dropSegment(ZONE_ID, 1);
    expect(await all({ from: { epoch: epoch(), seq: 0 } })).toEqual(['gap 1-1', 2, 3, 4, 5, 6]);
    expect(await all({ from: { epoch: epoch(), seq: 3 } })).toEqual([4, 5, 6]);
  });

  test('that went while a watcher was slow are told, not passed over in silence', async () => {
    const watcher = watch();
    expect(await take(watcher, 1)).toEqual([1]);
    store.dropSegment(ZONE_ID, 2);
    store.dropSegment(ZONE_ID, 1);
    store.dropSegment(ZONE_ID, 3);
    expect(await take(watcher, 4)).toEqual(['gap 2-3', 4, 5, 6]);
  });
});

test('a cursor into a long segment is found whatever the length of its lines', async () => {
  const lengths = [3, 70_000, 300_000, 10, 500, 140_000];
  const count = 600;
  const texts = Array.from({ length: count }, (_, i) => 'x'.repeat(lengths[(i * 7) % lengths.length] ?? 1));
  for (let i = 0; i < count; i += 50) await Promise.all(texts.slice(i, i + 50).map(say));
  expect(store.segments(ZONE_ID).length).toBeGreaterThan(2);
  for (let seq = 0; seq <= count; seq += 23) {
    const [first] = await take(watch({ from: { epoch: epoch(), seq }, until: 'now' }), 1);
    expect(first).toBe(seq < count ? seq + 1 : undefined);
  }
});

test('a watcher hears what is said while it waits, once and in order', async () => {
  const watcher = watch();
  const heard = take(watcher, 300);
  for (let i = 0; i < 100; i++) await Promise.all([say(), say(), say()]);
  expect(await heard).toEqual(Array.from({ length: 300 }, (_, i) => i + 1));
});

test('a watcher that leaves is forgotten', async () => {
  const watcher = watch({ from: 'live' });
  const next = watcher.next();
  leave.abort();
  expect((await next).done).toBe(true);
});

test('a watcher that names types hears of no others, and of the end of what it waits for', async () => {
  const about = { atMs: 0, clone: 'mechanic.1', task: 'task-0000000000' };
  const state = (state: 'active' | 'done') =>
    store.write((tx) =>
      tx.emit(ZONE_ID, { ...about, event: { type: 'task', state, kind: 'act', title: '"type":"note"' } }),
    );
  const watcher = watch({ from: 'live', types: ['task'] });
  const heard = take(watcher, 2);
  await say();
  await state('active');
  for (let i = 0; i < 20; i++) await say('{"type":"task"}');
  await state('done');
  expect(await heard).toEqual([2, 23]);
  expect(await all({ types: ['task'] })).toEqual([2, 23]);
  expect(await all({ types: ['task'], task: about.task, until: 'task' })).toEqual([2, 23]);
  expect(await all({ types: ['note', 'task'], from: { epoch: epoch(), seq: 21 } })).toEqual([22, 23]);
});

describe('a watcher that wants only the newest', () => {
  const NEWEST = 100_000;
  const CLONES = ['mechanic.1', 'reviewer.1'];
  const sayAs = (clone: string, chars: number): Promise<void> =>
    store.write((tx) =>
      tx.emit(ZONE_ID, { atMs: 0, clone, event: { type: 'note', text: 'x'.repeat(chars) } }),
    );

  test('is told what was passed over, and misses nothing else, however slow it is', async () => {
    for (const [first, ...pauses] of [
      [0, 400, 30],
      [300, 0, 500],
    ] as const) {
      for (let i = 0; i < first; i++) await sayAs('mechanic.1', 2_000);
      const watcher = watch({ newest: NEWEST });
      const seen: unknown[] = [];
      for (const pause of pauses) {
        await sayAs('mechanic.1', 10);
        seen.push((await watcher.next()).value);
        await Promise.all(Array.from({ length: pause }, () => sayAs('mechanic.1', 2_000)));
      }
      const last = store.head(ZONE_ID)?.seq;
      for (let value: unknown; (value as Seen | undefined)?.seq !== last; seen.push(value))
        ({ value } = await watcher.next());
      let next = 1;
      for (const { seq, gap } of seen as Seen[]) {
        expect(gap?.from ?? seq).toBe(next);
        next = (gap?.to ?? seq ?? 0) + 1;
      }
      expect(next).toBe((last ?? 0) + 1);
      const passed = (seen as Seen[]).filter(({ gap }) => gap).length;
      expect(passed).toBeGreaterThan(0);
      expect(seen.length - passed).toBeLessThan((last ?? 0) / 2);
      expect(JSON.stringify(seen).length).toBeGreaterThan(NEWEST);
      await watcher.return(undefined);
    }
  });

  test('misses nothing of a clone that says little beside one that floods', async () => {
    const watcher = watch({ newest: NEWEST, clone: 'reviewer.1' });
    for (let i = 0; i < 200; i++) await sayAs(CLONES[i % 50 === 7 ? 1 : 0] ?? '', 5_000);
    expect(await take(watcher, 4)).toEqual([8, 58, 108, 158]);
  });

  test('is sent about as much as it asked for, whatever the length of the items', async () => {
    for (let i = 0; i < 60; i++) await sayAs('mechanic.1', 50_000);
    expect(await all({ newest: NEWEST })).toEqual(['gap 1-58', 59, 60]);
    await Promise.all(Array.from({ length: 5_000 }, () => sayAs('mechanic.1', 10)));
    const [gap, ...items] = await all({ newest: NEWEST });
    expect(gap).toMatch(/^gap 1-/);
    expect(items.at(-1)).toBe(5_060);
    const { length } = JSON.stringify({ epoch: epoch(), seq: 5_060, atMs: 0, clone: CLONES[0], event: {} });
    expect(items.length * length).toBeLessThan(3 * NEWEST);
  });

  test('hears of a quiet clone beside one that flooded to the end, and nothing is read again and again', async () => {
    for (let i = 0; i < 400; i++) await sayAs(CLONES[i % 100 === 7 ? 1 : 0] ?? '', 5_000);
    const bytes = store.segments(ZONE_ID).reduce((sum, { length }) => sum + length, 0);
    for (const until of ['now', 'never'] as const) {
      let read = 0;
      const counting: Store = {
        ...store,
        async *lines(...of) {
          for await (const lines of store.lines(...of)) {
            for (const line of lines) read += line.bytes.length;
            yield lines;
          }
        },
      };
      const sub: Subscribe = { zone: ZONE_ID, clone: 'reviewer.1', from: 'start', until, newest: NEWEST };
      const seen: (number | undefined)[] = [];
      for await (const given of follow(counting, sub, leave.signal)) {
        for (const item of apart(given)) seen.push((item as Seen).seq);
        if (until === 'never' && seen.length === 4) break;
      }
      expect(seen).toEqual([8, 108, 208, 308]);
      // Once to look back, by twice as much each time, and once to read.
      expect(read).toBeLessThan(4 * bytes);
    }
  });

  test('that lives until the end of a task sees that end', async () => {
    const about = { atMs: 0, clone: 'mechanic.1', task: 'task-0000000000' };
    for (let i = 0; i < 100; i++) await sayAs('mechanic.1', 5_000);
    const event = { type: 'task', state: 'done', kind: 'act', title: 'it' } as const;
    await store.write((tx) => tx.emit(ZONE_ID, { ...about, event }));
    for (let i = 0; i < 100; i++) await sayAs('mechanic.1', 5_000);
    expect(await all({ newest: NEWEST, task: about.task, until: 'task' })).toEqual([101]);
  });
});
