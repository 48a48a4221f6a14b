import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import type { Policy, ZoneSpec } from '../../protocol/calls.ts';
import { newEpoch, type Row, type Store } from './store.ts';

/** Zones and their crews, as rows. Every function here runs inside a `write`, or only reads. */

export type ZoneRow = Row & {
  id: string;
  address: string;
  branch: string;
  mode: ZoneSpec['mode'];
  path: string;
  state: 'preparing' | 'ready' | 'halted';
  policy: string;
  epoch: string;
  seq: number;
  paused: number;
  cost_usd: number;
  tokens: number;
};

export type CloneRow = Row & {
  id: number;
  zone: string;
  role: string;
  idx: number;
  brain: string;
  hero: number;
  runs: number;
  /** How many of its tasks did not end. */
  live: number;
  plan_done: number | null;
  plan_total: number | null;
  gone_ms: number | null;
};

export const zoneRow = (store: Store, id: string): ZoneRow | undefined =>
  store.get<ZoneRow>('SELECT * FROM zones WHERE id = ? AND deleted_ms IS NULL', id);

export const zoneRows = (store: Store): ZoneRow[] =>
  store.all<ZoneRow>('SELECT * FROM zones WHERE deleted_ms IS NULL ORDER BY made_ms, id');

/** What the clone's client allows, as it was last told. */
export const policyOf = (zone: ZoneRow): Policy => JSON.parse(zone.policy) as Policy;

/** A clone by its row number, those that were deleted too. */
export const anyClone = (store: Store, id: number): CloneRow | undefined =>
  store.get<CloneRow>('SELECT * FROM clones WHERE id = ?', id);

/** Without the policy, which may hold the briefs of many roles and comes with every task: SQLite compares it. */
const KNOWN_ZONE = `SELECT id, address, branch, mode, path, state, epoch, seq, paused, cost_usd, tokens, deleted_ms,
  policy = ? AS same FROM zones WHERE id = ?`;
type KnownZone = Omit<ZoneRow, 'policy'> & { deleted_ms: number | null; same: number };

/**
 * Finds the zone or makes it, and takes over the address (a branch was switched or renamed) and the policy as the
 * client has them now. A deleted zone that is named again begins anew; its journal goes on, for what was said stays.
 */
export const findOrMakeZone = (
  store: Store,
  zonesDir: string,
  spec: ZoneSpec,
  policy: Policy,
  nowMs: number,
): { zone: ZoneRow; made: boolean } => {
  const policyText = JSON.stringify(policy);
  const known = store.get<KnownZone>(KNOWN_ZONE, policyText, spec.id);
  if (known && known.deleted_ms === null) {
    if (known.address !== spec.address || known.branch !== spec.branch || known.same !== 1) {
      store.run(
        'UPDATE zones SET address = ?, branch = ?, policy = ? WHERE id = ?',
        spec.address,
        spec.branch,
        policyText,
        spec.id,
      );
    }
    const { same: _same, deleted_ms: _deleted, ...row } = known;
    const zone = { ...row, address: spec.address, branch: spec.branch, policy: policyText };
    return { zone: zone as ZoneRow, made: false };
  }
  const state = spec.mode === 'local' && !spec.carried ? 'ready' : 'preparing';
  const epoch = newEpoch();
  mkdirSync(join(zonesDir, spec.id), { recursive: true, mode: 0o700 });
  if (known) {
    store.run(
      'UPDATE zones SET address = ?, branch = ?, mode = ?, path = ?, state = ?, policy = ?, paused = 0, cost_usd = 0, tokens = 0, deleted_ms = NULL, made_ms = ? WHERE id = ?',
      ...[spec.address, spec.branch, spec.mode, spec.path, state, policyText, nowMs, spec.id],
    );
  } else {
    store.run(
      'INSERT INTO zones (id, address, branch, mode, path, state, policy, epoch, made_ms) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)',
      ...[spec.id, spec.address, spec.branch, spec.mode, spec.path, state, policyText, epoch, nowMs],
    );
  }
  const zone = zoneRow(store, spec.id);
  if (!zone) throw new Error('the zone that was just written is not there');
  return { zone, made: true };
};

export const crewRows = (store: Store, zone: string): CloneRow[] =>
  store.all<CloneRow>('SELECT * FROM clones WHERE zone = ? AND gone_ms IS NULL ORDER BY role, idx', zone);

export type CrewMember = { id: number; role: string; idx: number; brain: string; hero: number; live: number };

/** The crew as a choice among it needs it: read with every task. */
export const crewOf = (store: Store, zone: string): CrewMember[] =>
  store.all<CrewMember>(
    'SELECT id, role, idx, brain, hero, live FROM clones WHERE zone = ? AND gone_ms IS NULL ORDER BY role, idx',
    zone,
  );

export const cloneRow = (store: Store, id: number): CloneRow | undefined =>
  store.get<CloneRow>('SELECT * FROM clones WHERE id = ? AND gone_ms IS NULL', id);

export const cloneByName = (store: Store, zone: string, role: string, index: number): CloneRow | undefined =>
  store.get<CloneRow>(
    'SELECT * FROM clones WHERE zone = ? AND role = ? AND idx = ? AND gone_ms IS NULL',
    zone,
    role,
    index,
  );

/** Enrolls a clone with the next index of its role: indices are never reused, so gone clones count too. */
export const enroll = (
  store: Store,
  clone: { zone: string; role: string; brain: string; hero: boolean },
  nowMs: number,
): CloneRow => {
  const { next } = store.get<{ next: number }>(
    'SELECT coalesce(max(idx), 0) + 1 AS next FROM clones WHERE zone = ? AND role = ?',
    clone.zone,
    clone.role,
  ) ?? { next: 1 };
  store.run(
    'INSERT INTO clones (zone, role, idx, brain, hero, made_ms) VALUES (?, ?, ?, ?, ?, ?)',
    ...[clone.zone, clone.role, next, clone.brain, clone.hero ? 1 : 0, nowMs],
  );
  const row = cloneByName(store, clone.zone, clone.role, next);
  if (!row) throw new Error('the clone that was just written is not there');
  return row;
};
