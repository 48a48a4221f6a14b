import { randomBytes, randomUUID } from 'node:crypto';
import { join } from 'node:path';
import { DatabaseSync, type SQLInputValue, type StatementSync } from 'node:sqlite';
import type { Item } from '../../protocol/calls.ts';
import { KhloneError } from '../../protocol/error.ts';
import { type Appender, openAppender, type Position, readItems, type Segment } from '../journal.ts';
import { MIGRATIONS } from './schema.ts';

/**
 * The server's memory: one SQLite connection (WAL, synchronous FULL) and the zones' journals, committed together.
 * All writes of one event-loop turn share one commit; whoever awaits `write` hears back after it is on disk.
 */

export type NewItem = Omit<Item, 'epoch' | 'seq'>;
export type Tx = {
  /** Appends an event to a zone's journal within the same commit. */
  emit(zone: string, item: NewItem): void;
};

type Work = { run: (tx: Tx) => unknown; resolve: (value: unknown) => void; reject: (why: unknown) => void };
export type Head = { epoch: string; seq: number };

/** Writes that wait for the next commit; more means the disk does not keep up, and callers are told. */
const MAX_PENDING_WRITES = 20_000;
/** WAL mode corrupted databases under two connections before this SQLite; we hold one, and refuse the old ones anyway. */
const MIN_SQLITE = [3, 51, 3];

export type Row = Record<string, unknown>;
export type Store = {
  readonly uuid: string;
  write<T>(run: (tx: Tx) => T): Promise<T>;
  all<T extends Row>(sql: string, ...values: SQLInputValue[]): T[];
  get<T extends Row>(sql: string, ...values: SQLInputValue[]): T | undefined;
  run(sql: string, ...values: SQLInputValue[]): void;
  head(zone: string): Head | undefined;
  /** Committed items after a sequence number; `position` is the reader's own and starts at {n: 0, offset: 0}. */
  items(zone: string, afterSeq: number, position: Position): AsyncIterable<Item>;
  firstSeq(zone: string): number;
  /** Called after each commit with the zones that got new items. Returns the way to stop. */
  onCommit(listener: (zones: ReadonlySet<string>) => void): () => void;
  /** Removes whole segments; the last one always stays. */
  dropSegment(zone: string, n: number): void;
  segments(zone: string): readonly Segment[];
  close(): void;
};

const assertSqlite = (db: DatabaseSync): void => {
  const { v } = db.prepare('SELECT sqlite_version() AS v').get() as { v: string };
  const have = v.split('.').map(Number);
  const older = MIN_SQLITE.findIndex((n, i) => (have[i] ?? 0) !== n);
  if (older >= 0 && (have[older] ?? 0) < (MIN_SQLITE[older] ?? 0)) {
    throw new KhloneError('start-failed', `SQLite ${v} is too old`, 'use Node 24.9 or newer');
  }
};

const migrate = (db: DatabaseSync): void => {
  const { user_version: at } = db.prepare('PRAGMA user_version').get() as { user_version: number };
  if (at > MIGRATIONS.length) {
    throw new KhloneError(
      'version',
      'the state was written by a newer khlone',
      'upgrade khlone on this machine',
    );
  }
  for (const [i, sql] of MIGRATIONS.entries()) {
    if (i < at) continue;
    db.exec('BEGIN IMMEDIATE');
    db.exec(sql);
    db.exec(`PRAGMA user_version = ${i + 1}`);
    db.exec('COMMIT');
  }
};

/** Opens state.db and the journals below `zonesDir`. One process at a time: the caller holds the life lock. */
export const openStore = (path: string, zonesDir: string): Store => {
  const db = new DatabaseSync(path);
  assertSqlite(db);
  for (const pragma of [
    'journal_mode = WAL',
    'synchronous = FULL',
    'busy_timeout = 0',
    'wal_autocheckpoint = 1000',
    `journal_size_limit = ${16 * 1024 * 1024}`,
    'foreign_keys = ON',
    'trusted_schema = OFF',
  ])
    db.exec(`PRAGMA ${pragma}`);
  migrate(db);

  const prepared = new Map<string, StatementSync>();
  const statement = (sql: string): StatementSync => {
    const known = prepared.get(sql);
    if (known) return known;
    const made = db.prepare(sql);
    prepared.set(sql, made);
    return made;
  };
  const get = <T extends Row>(sql: string, ...values: SQLInputValue[]) =>
    statement(sql).get(...values) as T | undefined;
  const all = <T extends Row>(sql: string, ...values: SQLInputValue[]) =>
    statement(sql).all(...values) as T[];
  const run = (sql: string, ...values: SQLInputValue[]): void => void statement(sql).run(...values);

  run('INSERT OR IGNORE INTO meta VALUES (?, ?)', 'uuid', randomUUID());
  const uuid = get<{ value: string }>("SELECT value FROM meta WHERE key = 'uuid'")?.value ?? '';

  const dirOf = (zone: string): string => join(zonesDir, zone, 'events');
  const appenders = new Map<string, Appender>();
  const appenderOf = (zone: string): Appender => {
    const known = appenders.get(zone);
    if (known) return known;
    const rows = all<{ n: number; first_seq: number; length: number }>(
      'SELECT n, first_seq, length FROM segments WHERE zone = ? ORDER BY n',
      zone,
    );
    const made = openAppender(
      dirOf(zone),
      rows.map((r) => ({ n: r.n, firstSeq: r.first_seq, length: r.length })),
    );
    appenders.set(zone, made);
    return made;
  };

  const heads = new Map<string, Head>();
  const head = (zone: string): Head | undefined => {
    const known = heads.get(zone);
    if (known) return known;
    const row = get<{ epoch: string; seq: number }>('SELECT epoch, seq FROM zones WHERE id = ?', zone);
    if (row) heads.set(zone, { epoch: row.epoch, seq: row.seq });
    return row;
  };

  const listeners = new Set<(zones: ReadonlySet<string>) => void>();
  let pending: Work[] = [];

  /** Runs one caller's work under a savepoint: its failure undoes only itself, its events included. */
  const perform = (work: Work, emitted: Map<string, NewItem[]>): { ok: boolean; value: unknown } => {
    const own: [string, NewItem][] = [];
    db.exec('SAVEPOINT one');
    try {
      const value = work.run({ emit: (zone, item) => void own.push([zone, item]) });
      db.exec('RELEASE one');
      for (const [zone, item] of own) emitted.set(zone, [...(emitted.get(zone) ?? []), item]);
      return { ok: true, value };
    } catch (error) {
      db.exec('ROLLBACK TO one');
      db.exec('RELEASE one');
      return { ok: false, value: error };
    }
  };

  /** Appends and syncs a zone's new lines, then notes sequence and lengths in the open transaction. */
  const record = (zone: string, items: NewItem[]): Head => {
    const row = get<{ epoch: string; seq: number }>('SELECT epoch, seq FROM zones WHERE id = ?', zone);
    if (!row) throw new KhloneError('internal', `no zone ${zone} to journal in`);
    const lines = items.map(
      (item, i) => `${JSON.stringify({ epoch: row.epoch, seq: row.seq + i + 1, ...item })}\n`,
    );
    const segment = appenderOf(zone)
      .append(lines.join(''), row.seq + 1)
      .at(-1);
    const seq = row.seq + items.length;
    run('UPDATE zones SET seq = ? WHERE id = ?', seq, zone);
    if (segment) {
      run(
        'INSERT INTO segments VALUES (?, ?, ?, ?) ON CONFLICT (zone, n) DO UPDATE SET length = excluded.length',
        zone,
        segment.n,
        segment.firstSeq,
        segment.length,
      );
    }
    return { epoch: row.epoch, seq };
  };

  const flush = (): void => {
    const works = pending;
    pending = [];
    const emitted = new Map<string, NewItem[]>();
    const next = new Map<string, Head>();
    let outcomes: { ok: boolean; value: unknown }[] = [];
    try {
      db.exec('BEGIN IMMEDIATE');
      outcomes = works.map((work) => perform(work, emitted));
      for (const [zone, items] of emitted) next.set(zone, record(zone, items));
      db.exec('COMMIT');
    } catch (error) {
      if (db.isTransaction) db.exec('ROLLBACK');
      for (const zone of emitted.keys()) appenders.get(zone)?.settle(false);
      for (const work of works) work.reject(storageError(error));
      return;
    }
    for (const [zone, at] of next) {
      appenders.get(zone)?.settle(true);
      heads.set(zone, at);
    }
    works.forEach((work, i) => {
      const outcome = outcomes[i];
      if (outcome?.ok) work.resolve(outcome.value);
      else work.reject(outcome?.value);
    });
    if (next.size > 0) for (const listener of listeners) listener(new Set(next.keys()));
  };

  const write = <T>(runIt: (tx: Tx) => T): Promise<T> =>
    new Promise<T>((resolve, reject) => {
      if (pending.length >= MAX_PENDING_WRITES) {
        reject(
          new KhloneError('rate-limited', 'the server has too many writes waiting', 'try again in a moment'),
        );
        return;
      }
      if (pending.length === 0) setImmediate(flush);
      pending.push({ run: runIt, resolve: resolve as (value: unknown) => void, reject });
    });

  return {
    uuid,
    write,
    all,
    get,
    run,
    head,
    items: (zone, afterSeq, position) =>
      readItems(dirOf(zone), appenderOf(zone).segments(), afterSeq, position),
    firstSeq: (zone) => appenderOf(zone).segments()[0]?.firstSeq ?? 1,
    segments: (zone) => appenderOf(zone).segments(),
    onCommit: (listener) => {
      listeners.add(listener);
      return () => void listeners.delete(listener);
    },
    dropSegment: (zone, n) => {
      run('DELETE FROM segments WHERE zone = ? AND n = ?', zone, n);
      appenderOf(zone).drop(n);
    },
    close: () => {
      if (pending.length > 0) flush();
      for (const appender of appenders.values()) appender.close();
      db.close();
    },
  };
};

/** A new journal's name: a cursor of another epoch never matches by accident. */
export const newEpoch = (): string => randomBytes(8).toString('hex');

const storageError = (error: unknown): KhloneError => {
  if (error instanceof KhloneError) return error;
  const message = error instanceof Error ? error.message : String(error);
  const full = /disk is full|ENOSPC|disk I\/O/i.test(message);
  return full
    ? new KhloneError('disk-low', 'the disk is full: nothing was accepted', 'free some space, then try again')
    : new KhloneError('internal', `the state could not be written: ${message}`);
};
