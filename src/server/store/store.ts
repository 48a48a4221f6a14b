import { randomBytes, randomUUID } from 'node:crypto';
import { DatabaseSync, type SQLInputValue, type StatementSync } from 'node:sqlite';
import type { Item } from '../../protocol/calls.ts';
import { KhloneError } from '../../protocol/error.ts';
import { faultPoint } from '../../protocol/fault-point.ts';
import type { Segment } from '../journal.ts';
import { type Line, linesHere, type Position, readItems, readLines } from '../journal-lines.ts';
import { createJournals, type Journals } from './journals.ts';
import { migrate } from './schema.ts';
import { storageError } from './storage-error.ts';

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
/** Turns of the event loop that a commit waits for more writes at most: about a millisecond under full load. */
const MAX_GATHER_TURNS = 16;
/** Works share a commit for so long, or for so many times what a commit takes: a slow disk gets larger commits. */
const MIN_SLICE_MS = 1;
const SLICE_COMMITS = 4;
const COMMITS_OF_MEAN = 8;
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
  /** The same as the bytes of their lines, several at a time; they hold until the next are asked for. */
  lines(zone: string, afterSeq: number, position: Position): AsyncIterable<Line[]>;
  /** What the last commit brought, where `position` is just before it; it is behind it then. */
  here(zone: string, position: Position): readonly Line[] | undefined;
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

const PRAGMAS = [
  'journal_mode = WAL',
  'synchronous = FULL',
  'busy_timeout = 0',
  'wal_autocheckpoint = 1000',
  `journal_size_limit = ${16 * 1024 * 1024}`,
  'foreign_keys = ON',
  'trusted_schema = OFF',
];

/** The open parts of a store: everything below is a function of them. */
type Open = {
  db: DatabaseSync;
  journals: Journals;
  prepared: Map<string, StatementSync>;
  heads: Map<string, Head>;
  listeners: Set<(zones: ReadonlySet<string>) => void>;
  pending: Work[];
  commitMs: number;
};

const statement = ({ db, prepared }: Pick<Open, 'db' | 'prepared'>, sql: string): StatementSync => {
  const known = prepared.get(sql);
  if (known) return known;
  const made = db.prepare(sql);
  prepared.set(sql, made);
  return made;
};

const readHead = (open: Open, zone: string): Head | undefined =>
  statement(open, 'SELECT epoch, seq FROM zones WHERE id = ?').get(zone) as Head | undefined;

const headOf = (open: Open, zone: string): Head | undefined => {
  const known = open.heads.get(zone);
  if (known) return known;
  const head = readHead(open, zone);
  if (head) open.heads.set(zone, { epoch: head.epoch, seq: head.seq });
  return head;
};

type Outcome = { ok: boolean; value: unknown };

/** Runs one caller's work under a savepoint: its failure undoes only itself, its events included. */
const perform = (open: Open, work: Work, emitted: Map<string, NewItem[]>): Outcome => {
  const own: [string, NewItem][] = [];
  statement(open, 'SAVEPOINT one').run();
  try {
    const value = work.run({ emit: (zone, item) => void own.push([zone, item]) });
    statement(open, 'RELEASE one').run();
    for (const [zone, item] of own) {
      const items = emitted.get(zone);
      if (items) items.push(item);
      else emitted.set(zone, [item]);
    }
    return { ok: true, value };
  } catch (error) {
    // A full or broken disk makes SQLite undo everything by itself: then no caller's work was done.
    if (!open.db.isTransaction) throw error;
    open.db.exec('ROLLBACK TO one');
    open.db.exec('RELEASE one');
    return { ok: false, value: error };
  }
};

/** Writes a zone's new lines, and notes sequence and lengths in the open transaction. */
const record = (open: Open, zone: string, items: NewItem[]): Head => {
  const head = readHead(open, zone);
  if (!head) throw new KhloneError('internal', `no zone ${zone} to journal in`);
  const { epoch } = head;
  const lines = items.map((item, i) => `${JSON.stringify({ epoch, seq: head.seq + i + 1, ...item })}\n`);
  open.journals.append(zone, Buffer.from(lines.join('')), head.seq + 1);
  const seq = head.seq + items.length;
  statement(open, 'UPDATE zones SET seq = ? WHERE id = ?').run(seq, zone);
  return { epoch, seq };
};

/**
 * Runs what waits, in order, until it took several times as long as a commit does: who waits longer shares the next
 * commit, and what this one accepts is on its way to its callers while that one runs.
 */
const performSome = (open: Open, emitted: Map<string, NewItem[]>): Outcome[] => {
  const outcomes: Outcome[] = [];
  const end = performance.now() + Math.max(MIN_SLICE_MS, SLICE_COMMITS * open.commitMs);
  for (const work of open.pending) {
    outcomes.push(perform(open, work, emitted));
    if (performance.now() >= end) break;
  }
  return outcomes;
};

/** What a commit costs here, as the mean of the last few: it is the disk's sync. */
const commit = (open: Open): void => {
  const begun = performance.now();
  open.db.exec('COMMIT');
  open.commitMs += (performance.now() - begun - open.commitMs) / COMMITS_OF_MEAN;
};

/** One commit for the writes of the turn: journals first, then the database, then the answers. */
const flush = (open: Open): void => {
  const emitted = new Map<string, NewItem[]>();
  const next = new Map<string, Head>();
  let outcomes: Outcome[] = [];
  try {
    open.db.exec('BEGIN IMMEDIATE');
    outcomes = performSome(open, emitted);
    for (const [zone, items] of emitted) next.set(zone, record(open, zone, items));
    if (next.size > 0) faultPoint('journal-synced');
    commit(open);
  } catch (error) {
    if (open.db.isTransaction) open.db.exec('ROLLBACK');
    for (const zone of emitted.keys()) open.journals.settle(zone, false);
    for (const work of open.pending.splice(0)) work.reject(storageError(error));
    return;
  }
  faultPoint('committed');
  for (const [zone, head] of next) {
    open.journals.settle(zone, true);
    open.heads.set(zone, head);
  }
  const works = open.pending.splice(0, outcomes.length);
  works.forEach((work, i) => {
    const outcome = outcomes[i];
    if (outcome?.ok) work.resolve(outcome.value);
    else work.reject(outcome?.value);
  });
  if (open.pending.length > 0) setImmediate(gather, open, 1);
  // Two turns later: the answers of this commit leave first.
  if (next.size > 0) setImmediate(() => setImmediate(tell, open, new Set(next.keys())));
};

const tell = (open: Open, zones: ReadonlySet<string>): void => {
  for (const listener of open.listeners) listener(zones);
};

/**
 * Commits once a turn of the event loop brought nothing more: requests that are on their way already share the commit,
 * whose two syncs are its whole cost.
 */
const gather = (open: Open, turns: number, before = 0): void => {
  const { length } = open.pending;
  if (length === 0) return;
  if (length === before || turns > MAX_GATHER_TURNS) flush(open);
  else setImmediate(gather, open, turns + 1, length);
};

const enqueue = <T>(open: Open, run: (tx: Tx) => T): Promise<T> =>
  new Promise<T>((resolve, reject) => {
    if (open.pending.length >= MAX_PENDING_WRITES) {
      reject(
        new KhloneError('rate-limited', 'the server has too many writes waiting', 'try again in a moment'),
      );
      return;
    }
    if (open.pending.length === 0) setImmediate(gather, open, 1);
    open.pending.push({ run, resolve: resolve as (value: unknown) => void, reject });
  });

const close = (open: Open): void => {
  while (open.pending.length > 0) flush(open);
  open.journals.close();
  open.db.close();
};

const ownUuid = (open: Open): string => {
  statement(open, 'INSERT OR IGNORE INTO meta VALUES (?, ?)').run('uuid', randomUUID());
  return (statement(open, "SELECT value FROM meta WHERE key = 'uuid'").get() as { value: string }).value;
};

/** Opens state.db and the journals below `zonesDir`. One process at a time: the caller holds the life lock. */
export const openStore = (path: string, zonesDir: string): Store => {
  const db = new DatabaseSync(path);
  assertSqlite(db);
  for (const pragma of PRAGMAS) db.exec(`PRAGMA ${pragma}`);
  migrate(db);
  const prepared = new Map<string, StatementSync>();
  const journals = createJournals((sql) => statement({ db, prepared }, sql), zonesDir);
  const open: Open = {
    db,
    prepared,
    journals,
    heads: new Map(),
    listeners: new Set(),
    pending: [],
    commitMs: 1,
  };
  const from = (zone: string, ...reader: [afterSeq: number, position: Position]) =>
    [journals.dirOf(zone), journals.of(zone).segments(), ...reader, journals.last(zone)] as const;
  return {
    uuid: ownUuid(open),
    write: (run) => enqueue(open, run),
    get: <T extends Row>(sql: string, ...values: SQLInputValue[]) =>
      statement(open, sql).get(...values) as T | undefined,
    all: <T extends Row>(sql: string, ...values: SQLInputValue[]) =>
      statement(open, sql).all(...values) as T[],
    run: (sql, ...values) => void statement(open, sql).run(...values),
    head: (zone) => headOf(open, zone),
    items: (...reader) => readItems(...from(...reader)),
    lines: (...reader) => readLines(...from(...reader)),
    here: (zone, position) => linesHere(position, journals.last(zone)),
    firstSeq: (zone) => journals.of(zone).segments()[0]?.firstSeq ?? 1,
    segments: (zone) => journals.of(zone).segments(),
    onCommit: (listener) => {
      open.listeners.add(listener);
      return () => void open.listeners.delete(listener);
    },
    dropSegment: (zone, n) => {
      statement(open, 'DELETE FROM segments WHERE zone = ? AND n = ?').run(zone, n);
      faultPoint('segment-forgotten');
      journals.of(zone).drop(n);
    },
    close: () => close(open),
  };
};

/** A new journal's name: a cursor of another epoch never matches by accident. */
export const newEpoch = (): string => randomBytes(8).toString('hex');
