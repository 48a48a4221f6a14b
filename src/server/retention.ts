import { existsSync, readdirSync, rmSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { faultPoint } from '../protocol/fault-point.ts';
import { fileOf } from './journal.ts';
import type { Store } from './store/store.ts';
import { policyOf, zoneRow } from './store/zones.ts';

/** What is kept and for how long: whole journal segments and the directories of ended runs, oldest first. */

export const KEEP_TRANSCRIPTS_MS = 90 * 24 * 3600_000;
export const KEEP_RAW_MS = 30 * 24 * 3600_000;
export const MAX_EVENTS_BYTES = 5 * 1024 ** 3;
const EVERY_MS = 3600_000;
/** Rows and directories looked at per pass, so that a pass never holds the event loop for long. */
const PER_PASS = 200;

const eventsDir = (zonesDir: string, zone: string): string => join(zonesDir, zone, 'events');

/** A server that died between forgetting a segment and removing its file left the file: nobody else would find it. */
const removeForgotten = (store: Store, zonesDir: string, zone: string): void => {
  const dir = eventsDir(zonesDir, zone);
  const [first] = store.segments(zone);
  if (!first || !existsSync(dir)) return;
  for (const name of readdirSync(dir)) {
    const n = /^(\d{6,15})\.jsonl$/.exec(name)?.[1];
    if (n !== undefined && Number(n) < first.n) rmSync(join(dir, name), { force: true });
  }
};

/** Removes the oldest segments of a zone over the size, or whose file was last written too long ago. */
const pruneSegments = (store: Store, zonesDir: string, zone: string, nowMs: number): number => {
  const segments = [...store.segments(zone)];
  let total = segments.reduce((sum, s) => sum + s.length, 0);
  let removed = 0;
  const row = zoneRow(store, zone);
  const asked = row && policyOf(row).retention;
  const keepMs = asked?.transcriptsMs ?? KEEP_TRANSCRIPTS_MS;
  const maxBytes = asked?.diskBytes ?? MAX_EVENTS_BYTES;
  for (const segment of segments.slice(0, -1)) {
    const file = fileOf(eventsDir(zonesDir, zone), segment.n);
    const old = existsSync(file) && nowMs - statSync(file).mtimeMs > keepMs;
    if (!old && total <= maxBytes) break;
    store.dropSegment(zone, segment.n);
    total -= segment.length;
    removed += 1;
  }
  removeForgotten(store, zonesDir, zone);
  return removed;
};

/** Removes raw output of runs that ended long ago: what they said is in the journal. */
const pruneRuns = (store: Store, zonesDir: string, nowMs: number): number => {
  const rows = store.all<{ clone: number; n: number; zone: string; role: string; idx: number }>(
    `SELECT r.clone, r.n, c.zone, c.role, c.idx FROM runs r JOIN clones c ON c.id = r.clone
     WHERE r.live = 0 AND r.ended_ms < ? ORDER BY r.ended_ms LIMIT ?`,
    nowMs - KEEP_RAW_MS,
    PER_PASS,
  );
  for (const row of rows) {
    rmSync(join(zonesDir, row.zone, 'runs', `${row.role}.${row.idx}.${row.n}`), {
      recursive: true,
      force: true,
    });
    faultPoint('run-removed');
    store.run('DELETE FROM runs WHERE clone = ? AND n = ?', row.clone, row.n);
  }
  return rows.length;
};

const pruneTasks = (store: Store, nowMs: number): void =>
  store.run(
    `DELETE FROM tasks WHERE ord IN (SELECT ord FROM tasks WHERE state IN ('done', 'failed', 'cancelled')
       AND ended_ms < ? LIMIT ?)`,
    nowMs - KEEP_TRANSCRIPTS_MS,
    PER_PASS,
  );

/** One pass over everything. Returns how many segments and run directories went. */
export const prune = (store: Store, zonesDir: string, nowMs: number): number => {
  const zones = existsSync(zonesDir) ? readdirSync(zonesDir) : [];
  const known = zones.filter((zone) => store.head(zone) !== undefined);
  const segments = known.reduce((sum, zone) => sum + pruneSegments(store, zonesDir, zone, nowMs), 0);
  pruneTasks(store, nowMs);
  return segments + pruneRuns(store, zonesDir, nowMs);
};

/** A pass that fails (a full or a broken disk) is told and tried again: it may not end the server. */
export const startRetention = (store: Store, zonesDir: string, log: (line: string) => void): (() => void) => {
  const pass = (): void => {
    try {
      prune(store, zonesDir, Date.now());
    } catch (thrown) {
      log(`retention: ${thrown instanceof Error ? thrown.message : thrown}`);
    }
  };
  const timer = setInterval(pass, EVERY_MS);
  timer.unref();
  return () => clearInterval(timer);
};
