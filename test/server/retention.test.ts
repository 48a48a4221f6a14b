import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, utimesSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import type { Policy } from '../../src/protocol/calls.ts';
import { KEEP_TRANSCRIPTS_MS, prune } from '../../src/server/retention.ts';
import { endRunRow, makeRun } from '../../src/server/store/runs.ts';
import { enroll } from '../../src/server/store/zones.ts';
import { POLICY } from '../fixtures/server.ts';
import { addZone, openGround, type StoreGround, ZONE_ID as ZONE } from './store-ground.ts';

const SEGMENT_TEXT = 'x'.repeat(6 * 1024 * 1024);

let ground: StoreGround;
beforeEach(() => {
  ground = openGround();
});
afterEach(() => ground.dispose());

/** A zone whose journal has three segments: 6 MB an item, two of which fit into one. */
const makeZone = async (policy: Policy): Promise<void> => {
  await addZone(ground, { policy });
  const { store } = ground;
  for (let i = 0; i < 5; i += 1) {
    await store.write((tx) => tx.emit(ZONE, { atMs: i, event: { type: 'note', text: SEGMENT_TEXT } }));
  }
};

const segmentFile = (n: number): string =>
  join(ground.zonesDir, ZONE, 'events', `${String(n).padStart(6, '0')}.jsonl`);

it('whole segments go when the zone has more than it may keep, the newest never', async () => {
  const { store, zonesDir } = ground;
  await makeZone({ ...POLICY, retention: { transcriptsMs: KEEP_TRANSCRIPTS_MS, diskBytes: 1024 } });
  const before = store.segments(ZONE).length;
  expect(before).toBeGreaterThan(1);
  prune(store, zonesDir, Date.now());
  expect(store.segments(ZONE)).toHaveLength(1);
  expect(existsSync(segmentFile(1))).toBe(false);
  expect(existsSync(segmentFile(before))).toBe(true);
});

it('what is young and small enough stays', async () => {
  const { store, zonesDir } = ground;
  await makeZone(POLICY);
  const before = store.segments(ZONE).length;
  prune(store, zonesDir, Date.now());
  expect(store.segments(ZONE)).toHaveLength(before);
});

it('a segment that nobody wrote for longer than the zone keeps goes', async () => {
  const { store, zonesDir } = ground;
  await makeZone({ ...POLICY, retention: { transcriptsMs: 60_000, diskBytes: 1e12 } });
  const old = new Date(Date.now() - 120_000);
  utimesSync(segmentFile(1), old, old);
  const first = store.firstSeq(ZONE);
  prune(store, zonesDir, Date.now());
  expect(existsSync(segmentFile(1))).toBe(false);
  expect(store.firstSeq(ZONE)).toBeGreaterThan(first);
});

/** The pass of a process that dies at a place; the store is opened anew afterwards. */
const pruneAndDie = (fault: string): void => {
  const at = (path: string): string => JSON.stringify(join(import.meta.dirname, '../../src/server', path));
  const program = `
    import { openStore } from ${at('store/store.ts')};
    import { prune } from ${at('retention.ts')};
    const [, root] = process.argv;
    prune(openStore(root + '/state.db', root + '/zones'), root + '/zones', Date.now());
  `;
  const { signal, stderr } = spawnSync(
    process.execPath,
    ['--input-type=module', '-e', program, ground.root],
    {
      env: { ...process.env, KHLONE_FAULT: `${fault}:1` },
      encoding: 'utf8',
      timeout: 20_000,
    },
  );
  expect(signal, stderr).toBe('SIGKILL');
  ground.reopen();
};

it('a segment that was forgotten by a server that died then goes with the next pass', async () => {
  const { zonesDir } = ground;
  await makeZone({ ...POLICY, retention: { transcriptsMs: KEEP_TRANSCRIPTS_MS, diskBytes: 1024 } });
  pruneAndDie('segment-forgotten');
  expect(existsSync(segmentFile(1))).toBe(true);
  prune(ground.store, zonesDir, Date.now());
  expect(existsSync(segmentFile(1))).toBe(false);
  const [newest] = ground.store.segments(ZONE);
  expect(ground.store.segments(ZONE)).toHaveLength(1);
  expect(existsSync(segmentFile(newest?.n ?? 0))).toBe(true);
  const seqs: number[] = [];
  for await (const { seq } of ground.store.items(ZONE, 0, { n: 0, offset: 0 })) seqs.push(seq);
  expect(seqs.at(-1)).toBe(5);
});

it('a run whose files went with a server that died then is forgotten by the next pass', async () => {
  const { zonesDir } = ground;
  await makeZone(POLICY);
  const dir = join(zonesDir, ZONE, 'runs', 'mechanic.1.1');
  mkdirSync(dir, { recursive: true });
  await ground.store.write(() => {
    const { id } = enroll(ground.store, { zone: ZONE, role: 'mechanic', brain: 'sh', hero: true }, 1);
    endRunRow(ground.store, makeRun(ground.store, id, { mode: 'act', session: 's', boot: 'b' }, 1), 1);
  });
  pruneAndDie('run-removed');
  expect(existsSync(dir)).toBe(false);
  expect(ground.store.all('SELECT n FROM runs')).toHaveLength(1);
  prune(ground.store, zonesDir, Date.now());
  expect(ground.store.all('SELECT n FROM runs')).toEqual([]);
});
