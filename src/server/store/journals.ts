import { join } from 'node:path';
import type { StatementSync } from 'node:sqlite';
import { type Appender, openAppender, type Piece } from '../journal.ts';

/** The journals of all zones, and the rows by which they share a commit with everything else. */

export type Journals = {
  of(zone: string): Appender;
  dirOf(zone: string): string;
  /**
   * Appends lines, and has the open transaction make them durable: with it, or by a sync before it. One sync per
   * commit is what a receipt waits for.
   */
  append(zone: string, bytes: Uint8Array, firstSeq: number): void;
  /** What the last commit appended, where it is short: watchers that are up to date need no file for it. */
  last(zone: string): Piece | undefined;
  /** The transaction was committed, or not. */
  settle(zone: string, committed: boolean): void;
  close(): void;
};

/** Bytes that a commit carries along at most: for more of them a sync of their own is cheaper than writing them twice. */
export const KEEP_MAX_BYTES = 64 * 1024;
/** A segment is synced when the database holds so many of its bytes. */
export const KEEP_ALL_MAX_BYTES = 256 * 1024;

const SEGMENTS = 'SELECT n, first_seq AS firstSeq, length FROM segments WHERE zone = ? ORDER BY n';
const NOTE_SEGMENT =
  'INSERT INTO segments VALUES (?, ?, ?, ?) ON CONFLICT (zone, n) DO UPDATE SET length = excluded.length';
const KEPT = 'SELECT n, off AS offset, bytes FROM unsynced WHERE zone = ? ORDER BY id';
const KEPT_BYTES = 'SELECT coalesce(sum(length(bytes)), 0) AS sum FROM unsynced WHERE zone = ?';
const KEEP = 'INSERT INTO unsynced (zone, n, off, bytes) VALUES (?, ?, ?, ?)';
const LET_GO = 'DELETE FROM unsynced WHERE zone = ?';

export const createJournals = (statement: (sql: string) => StatementSync, zonesDir: string): Journals => {
  const appenders = new Map<string, Appender>();
  /** By zone: how many bytes of its last segment only the database has for certain. */
  const keptBytes = new Map<string, number>();
  const latest = new Map<string, { piece: Piece; committed: boolean }>();
  const dirs = new Map<string, string>();
  const dirOf = (zone: string): string => {
    const dir = dirs.get(zone) ?? join(zonesDir, zone, 'events');
    dirs.set(zone, dir);
    return dir;
  };

  const of = (zone: string): Appender => {
    const known = appenders.get(zone);
    if (known) return known;
    const segments = statement(SEGMENTS).all(zone) as { n: number; firstSeq: number; length: number }[];
    const made = openAppender(dirOf(zone), segments, statement(KEPT).all(zone) as Piece[]);
    appenders.set(zone, made);
    return made;
  };

  const countKept = (zone: string): number => (statement(KEPT_BYTES).get(zone) as { sum: number }).sum;

  const append = (zone: string, bytes: Uint8Array, firstSeq: number): void => {
    const total = (keptBytes.get(zone) ?? countKept(zone)) + bytes.length;
    const isKept = bytes.length <= KEEP_MAX_BYTES && total <= KEEP_ALL_MAX_BYTES;
    const { segment, offset, synced } = of(zone).append(bytes, firstSeq, !isKept);
    if (synced) statement(LET_GO).run(zone);
    if (isKept) statement(KEEP).run(zone, segment.n, offset, bytes);
    keptBytes.set(zone, isKept ? (synced ? bytes.length : total) : 0);
    statement(NOTE_SEGMENT).run(zone, segment.n, segment.firstSeq, segment.length);
    if (isKept) latest.set(zone, { piece: { n: segment.n, offset, bytes }, committed: false });
    else latest.delete(zone);
  };

  const settle = (zone: string, committed: boolean): void => {
    appenders.get(zone)?.settle(committed);
    // Counted anew: what was kept or let go is as it was before.
    if (!committed) keptBytes.delete(zone);
    const entry = latest.get(zone);
    if (committed && entry) entry.committed = true;
    else latest.delete(zone);
  };
  const last = (zone: string): Piece | undefined => {
    const entry = latest.get(zone);
    return entry?.committed ? entry.piece : undefined;
  };

  const close = (): void => {
    for (const appender of appenders.values()) appender.close();
  };
  return { of, dirOf, append, last, settle, close };
};
