import {
  appendFileSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import type { Item, ZoneSpec } from '../../src/protocol/calls.ts';
import { SEGMENT_MAX_BYTES } from '../../src/server/journal.ts';
import { KEEP_ALL_MAX_BYTES, KEEP_MAX_BYTES } from '../../src/server/store/journals.ts';
import { MIGRATIONS } from '../../src/server/store/schema.ts';
import { openStore, type Store } from '../../src/server/store/store.ts';
import { glance, insertTask, liveTasks, taskRow } from '../../src/server/store/tasks.ts';
import { crewRows, enroll, findOrMakeZone } from '../../src/server/store/zones.ts';
import { newId, POLICY } from '../fixtures/server.ts';

/** The store on a real disk: what is committed stays, what is not never was. */

let root = '';
let store: Store;
const ZONE: ZoneSpec = { id: 'z-0123456789abcdef', address: 'a/b@c', branch: 'c', mode: 'local', path: '/' };

const open = (): Store => openStore(join(root, 'state.db'), join(root, 'zones'));
const reopen = (): void => {
  store.close();
  store = open();
};
const journalFile = (n: number): string => join(root, 'zones', ZONE.id, 'events', `00000${n}.jsonl`);
const note = (text: string) => ({ atMs: 0, event: { type: 'note' as const, text } });
const say = (text: string): Promise<void> => store.write((tx) => tx.emit(ZONE.id, note(text)));
const told = async (afterSeq = 0): Promise<[number, string][]> => {
  const items: Item[] = [];
  for await (const item of store.items(ZONE.id, afterSeq, { n: 0, offset: 0 })) items.push(item);
  return items.map((item) => [item.seq, item.event.type === 'note' ? item.event.text : item.event.type]);
};

beforeEach(async () => {
  root = mkdtempSync(join(tmpdir(), 'khlone-store-'));
  store = open();
  await store.write(() => findOrMakeZone(store, join(root, 'zones'), ZONE, POLICY, 1));
});
afterEach(() => {
  store.close();
  rmSync(root, { recursive: true, force: true });
});

describe('writes of one turn', () => {
  test('share commits, keep their order, and are told only once they are on disk', async () => {
    let commits = 0;
    const heard = new Promise<void>((done) => {
      store.onCommit(() => {
        commits += 1;
        done();
      });
    });
    await Promise.all(Array.from({ length: 50 }, (_, i) => say(String(i))));
    await heard;
    expect(commits).toBeLessThan(10);
    expect((await told()).map(([, text]) => text)).toEqual(Array.from({ length: 50 }, (_, i) => String(i)));
  });

  test('that take long do not wait for each other: those that are done have their commit first', async () => {
    const told: string[] = [];
    const slow = (text: string): Promise<void> =>
      store.write((tx) => {
        for (const end = performance.now() + 100; performance.now() < end; );
        told.push(text);
        tx.emit(ZONE.id, note(text));
      });
    const first = slow('1').then(() => told.push('committed'));
    await Promise.all([first, slow('2'), slow('3')]);
    expect(told).toEqual(['1', 'committed', '2', '3']);
  });

  test('do not undo each other: one that fails takes back its own rows and events only', async () => {
    const writes = [0, 1, 2, 3, 4].map((i) =>
      store.write((tx) => {
        enroll(store, { zone: ZONE.id, role: 'mechanic', brain: 'sh', hero: false }, i);
        tx.emit(ZONE.id, note(String(i)));
        if (i === 2) throw new Error('no');
        return i;
      }),
    );
    const settled = await Promise.allSettled(writes);
    expect(settled.map((one) => one.status)).toEqual(
      [0, 1, 2, 3, 4].map((i) => (i === 2 ? 'rejected' : 'fulfilled')),
    );
    expect(await told()).toEqual([
      [1, '0'],
      [2, '1'],
      [3, '3'],
      [4, '4'],
    ]);
    expect(crewRows(store, ZONE.id)).toHaveLength(4);
  });

  test('are there after the store was opened again', async () => {
    await say('one');
    reopen();
    await say('two');
    expect(await told()).toEqual([
      [1, 'one'],
      [2, 'two'],
    ]);
  });

  test('into a zone that is not there fail together with nothing but themselves kept back', async () => {
    const wrong = store.write((tx) => tx.emit('z-none', note('x')));
    await expect(wrong).rejects.toMatchObject({ code: 'internal' });
    await say('after');
    expect(await told()).toEqual([[1, 'after']]);
  });
});

describe('the journal', () => {
  test('is cut to what was committed: bytes of a commit that never came disappear', async () => {
    await say('one');
    store.close();
    const line = `${JSON.stringify({ epoch: 'x', seq: 2, ...note('never committed') })}\n`;
    const torn = `${line.repeat(5)}{"torn`;
    appendFileSync(journalFile(1), torn);
    store = open();
    // No reader passes the committed end, even before the first write cuts the file.
    expect(await told()).toEqual([[1, 'one']]);
    await say('two');
    expect(await told()).toEqual([
      [1, 'one'],
      [2, 'two'],
    ]);
    expect(readFileSync(journalFile(1), 'utf8')).not.toContain('never committed');
  });

  test('is whole after a power cut: bytes that never reached its file are written there again', async () => {
    await say('one');
    await say('two');
    store.close();
    // The file is as the disk may have it: without its last bytes, or with holes where they were.
    writeFileSync(journalFile(1), Buffer.alloc(40));
    store = open();
    const whole = [
      [1, 'one'],
      [2, 'two'],
    ];
    expect(await told()).toEqual(whole);
    reopen();
    await say('three');
    store.close();
    rmSync(journalFile(1));
    store = open();
    expect(await told()).toEqual([...whole, [3, 'three']]);
  });

  test('is kept in the database only until a sync of its file covers it', async () => {
    const kept = (): number =>
      store.get<{ sum: number }>('SELECT coalesce(sum(length(bytes)), 0) AS sum FROM unsynced')?.sum ?? -1;
    const line = 'x'.repeat(KEEP_MAX_BYTES / 2);
    for (let i = 0; i < 7; i++) await say(line);
    expect(kept()).toBeGreaterThan(6 * line.length);
    await say(line);
    expect(kept()).toBe(0);
    await say('short');
    expect(kept()).toBeGreaterThan(0);
    // Too long to be written twice.
    await say('x'.repeat(KEEP_MAX_BYTES));
    expect(kept()).toBe(0);
    reopen();
    for (let i = 0; i < 40; i++) {
      await say(line);
      expect(kept()).toBeLessThanOrEqual(KEEP_ALL_MAX_BYTES);
    }
    expect((await told()).length).toBe(50);
  });

  test('keeps nothing of a full segment behind, whose file was synced when it ended', async () => {
    const big = 'x'.repeat(SEGMENT_MAX_BYTES - 100_000);
    await say(big);
    await say('short');
    await say('x'.repeat(KEEP_MAX_BYTES - 1_000).repeat(2));
    await say('first of the second');
    const rows = store.all<{ n: number }>('SELECT DISTINCT n FROM unsynced');
    expect(store.segments(ZONE.id)).toHaveLength(2);
    expect(rows).toEqual([{ n: 2 }]);
  });

  test('goes on in a new segment when one is full, and is read across them from any place', async () => {
    const big = 'x'.repeat(SEGMENT_MAX_BYTES / 5);
    for (let i = 1; i <= 11; i++) await say(`${i} ${big}`);
    const numbers = async (after: number) =>
      (await told(after)).map(([seq, text]) => [seq, Number(text.split(' ')[0])]);
    const wanted = Array.from({ length: 11 }, (_, i) => [i + 1, i + 1]);
    expect(store.segments(ZONE.id).map((segment) => segment.firstSeq)).toEqual([1, 5, 9]);
    for (const after of [0, 3, 4, 5, 8, 10, 11]) expect(await numbers(after)).toEqual(wanted.slice(after));
    reopen();
    expect(await numbers(0)).toEqual(wanted);
    const files = readdirSync(join(root, 'zones', ZONE.id, 'events'));
    for (const file of files) {
      expect(statSync(join(root, 'zones', ZONE.id, 'events', file)).size).toBeLessThanOrEqual(
        SEGMENT_MAX_BYTES,
      );
    }
  });

  test('takes a line that is longer than a segment', async () => {
    await say('x'.repeat(SEGMENT_MAX_BYTES + 10));
    await say('after');
    expect((await told(1)).at(-1)).toEqual([2, 'after']);
  });

  test('begins behind segments that were dropped', async () => {
    const big = 'x'.repeat(SEGMENT_MAX_BYTES / 2);
    for (let i = 0; i < 5; i++) await say(big);
    store.dropSegment(ZONE.id, 1);
    expect(store.firstSeq(ZONE.id)).toBe(2);
    expect((await told()).map(([seq]) => seq)).toEqual([2, 3, 4, 5]);
    reopen();
    expect(store.firstSeq(ZONE.id)).toBe(2);
  });
});

describe('tasks', () => {
  const add = (over: { prioritized?: boolean; prompt?: string } = {}) =>
    store.write((tx) => {
      const [clone] = crewRows(store, ZONE.id);
      if (!clone) throw new Error('no clone');
      const rest = {
        ...{ hash: 'h', kind: 'act' as const, title: 't', session: 's' },
        limit_ms: null,
        uuid: 'u',
      };
      return insertTask(
        store,
        tx,
        {
          ...rest,
          id: newId(),
          zone: ZONE.id,
          clone,
          prompt: 'p',
          prioritized: false,
          repeatable: false,
          retry_of: null,
          ...over,
        },
        1,
      );
    });

  beforeEach(() =>
    store.write(() => enroll(store, { zone: ZONE.id, role: 'mechanic', brain: 'sh', hero: true }, 1)),
  );

  test('come back from an insert as they are read from the disk', async () => {
    const row = await add();
    expect(taskRow(store, row.id)).toEqual(row);
  });

  test('are counted by their clone', async () => {
    await Promise.all([add(), add(), add()]);
    expect(crewRows(store, ZONE.id)[0]?.live).toBe(3);
    expect(liveTasks(store, crewRows(store, ZONE.id)[0]?.id ?? 0)).toHaveLength(3);
  });

  test('are told at a glance as by a walk through the whole queue', async () => {
    const states = ['done', 'queued', 'held', 'unknown', 'active', 'queued', 'held'];
    const look = (): void => {
      const [clone] = crewRows(store, ZONE.id);
      if (!clone) throw new Error('no clone');
      const tasks = liveTasks(store, clone.id).filter((task) => task.state !== 'unknown');
      const held = tasks.find((task) => task.state === 'held');
      expect(glance(store, clone)).toEqual({ head: tasks[0], held, count: tasks.length });
    };
    look();
    for (const [i, state] of states.entries()) {
      const { id, clone } = await add({ prioritized: i % 3 === 2 });
      store.run('UPDATE tasks SET state = ? WHERE id = ?', state, id);
      if (state === 'done') store.run('UPDATE clones SET live = live - 1 WHERE id = ?', clone);
      look();
    }
  });

  test('are listed without their prompts, which may have megabytes each', async () => {
    await add({ prompt: 'x'.repeat(2_000_000) });
    const [row] = liveTasks(store, crewRows(store, ZONE.id)[0]?.id ?? 0);
    expect(JSON.stringify(row).length).toBeLessThan(2_000);
  });
});

describe('the state of an older khlone', () => {
  test('is taken over: what it queued is counted', () => {
    const path = join(root, 'old.db');
    const db = new DatabaseSync(path);
    db.exec(MIGRATIONS[0] ?? '');
    db.exec(`PRAGMA user_version = 1;
      INSERT INTO zones (id, address, branch, mode, path, state, policy, epoch, made_ms)
        VALUES ('${ZONE.id}', 'a', 'b', 'local', '/', 'ready', '{}', 'e', 1);
      INSERT INTO clones (id, zone, role, idx, brain, made_ms) VALUES (7, '${ZONE.id}', 'mechanic', 1, 'sh', 1);`);
    for (const [id, state] of ['queued', 'held', 'unknown', 'done', 'failed'].entries()) {
      db.exec(`INSERT INTO tasks (id, hash, zone, clone, kind, prompt, title, session, prioritized, rank, uuid, state,
        repeatable, created_ms) VALUES ('${id}', '', '${ZONE.id}', 7, 'act', '', '', '', 0, 1, '', '${state}', 0, 1)`);
    }
    db.close();
    const upgraded = openStore(path, join(root, 'zones'));
    expect(crewRows(upgraded, ZONE.id)[0]?.live).toBe(3);
    expect(upgraded.get('PRAGMA user_version')).toEqual({ user_version: MIGRATIONS.length });
    upgraded.close();
  });

  test('of a newer one is refused and left as it is', () => {
    const path = join(root, 'new.db');
    const db = new DatabaseSync(path);
    db.exec(`PRAGMA user_version = ${MIGRATIONS.length + 1}`);
    db.close();
    expect(() => openStore(path, join(root, 'zones'))).toThrow(expect.objectContaining({ code: 'version' }));
  });
});
