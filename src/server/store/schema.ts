import type { DatabaseSync } from 'node:sqlite';
import { KhloneError } from '../../protocol/error.ts';

/**
 * The tables of state.db. Migrations only go forward: each entry lifts user_version by one and is never edited once
 * released. Events are not here: they lie in JSONL segments, of which this database holds the committed lengths.
 */
export const MIGRATIONS: readonly string[] = [
  `
  CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;

  CREATE TABLE zones (
    id TEXT PRIMARY KEY, address TEXT NOT NULL, branch TEXT NOT NULL, mode TEXT NOT NULL, path TEXT NOT NULL,
    state TEXT NOT NULL, policy TEXT NOT NULL, epoch TEXT NOT NULL, seq INTEGER NOT NULL DEFAULT 0,
    paused INTEGER NOT NULL DEFAULT 0, made_ms INTEGER NOT NULL, cost_usd REAL NOT NULL DEFAULT 0,
    tokens INTEGER NOT NULL DEFAULT 0, deleted_ms INTEGER
  ) STRICT;

  CREATE TABLE clones (
    id INTEGER PRIMARY KEY, zone TEXT NOT NULL REFERENCES zones(id), role TEXT NOT NULL, idx INTEGER NOT NULL,
    brain TEXT NOT NULL, hero INTEGER NOT NULL DEFAULT 0, runs INTEGER NOT NULL DEFAULT 0,
    plan_done INTEGER, plan_total INTEGER, made_ms INTEGER NOT NULL, gone_ms INTEGER, UNIQUE (zone, role, idx)
  ) STRICT;

  CREATE TABLE tasks (
    ord INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, hash TEXT NOT NULL,
    zone TEXT NOT NULL REFERENCES zones(id), clone INTEGER NOT NULL REFERENCES clones(id), kind TEXT NOT NULL,
    prompt TEXT NOT NULL, title TEXT NOT NULL, session TEXT NOT NULL, prioritized INTEGER NOT NULL, rank REAL NOT NULL,
    limit_ms INTEGER, uuid TEXT NOT NULL, state TEXT NOT NULL, attempt INTEGER NOT NULL DEFAULT 0,
    effect INTEGER NOT NULL DEFAULT 0, repeatable INTEGER NOT NULL, hold TEXT, wake_ms INTEGER, error TEXT,
    message TEXT, hint TEXT, run INTEGER, tree TEXT, answer TEXT, usage TEXT, retry_of TEXT,
    created_ms INTEGER NOT NULL, started_ms INTEGER, ended_ms INTEGER
  ) STRICT;
  CREATE INDEX tasks_live ON tasks (clone, prioritized DESC, rank) WHERE state NOT IN ('done', 'failed', 'cancelled');
  CREATE INDEX tasks_zone ON tasks (zone, ord);

  CREATE TABLE runs (
    clone INTEGER NOT NULL REFERENCES clones(id), n INTEGER NOT NULL, mode TEXT NOT NULL, session TEXT NOT NULL,
    brain_session TEXT, live INTEGER NOT NULL DEFAULT 1, in_size INTEGER NOT NULL DEFAULT 0,
    out_offset INTEGER NOT NULL DEFAULT 0, cost_total REAL NOT NULL DEFAULT 0, made_ms INTEGER NOT NULL,
    ended_ms INTEGER, PRIMARY KEY (clone, n)
  ) STRICT;

  CREATE TABLE inputs (
    clone INTEGER NOT NULL, run INTEGER NOT NULL, off INTEGER NOT NULL, bytes BLOB NOT NULL,
    PRIMARY KEY (clone, run, off)
  ) STRICT;

  CREATE TABLE brain_sessions (
    session TEXT NOT NULL, clone INTEGER NOT NULL, id TEXT NOT NULL, PRIMARY KEY (session, clone)
  ) STRICT;

  CREATE TABLE segments (
    zone TEXT NOT NULL, n INTEGER NOT NULL, first_seq INTEGER NOT NULL, length INTEGER NOT NULL,
    PRIMARY KEY (zone, n)
  ) STRICT;
  `,
  `
  -- How many live tasks a clone has is asked by every enqueue: counting them would make a long queue slow.
  ALTER TABLE clones ADD COLUMN live INTEGER NOT NULL DEFAULT 0;
  UPDATE clones SET live = (SELECT count(*) FROM tasks t
    WHERE t.clone = clones.id AND t.state NOT IN ('done', 'failed', 'cancelled'));
  -- The files of a run are not synced: after a power cut only this row can tell that it began before it.
  ALTER TABLE runs ADD COLUMN boot TEXT NOT NULL DEFAULT '';
  CREATE INDEX tasks_running ON tasks (clone) WHERE state IN ('dispatching', 'active', 'pausing', 'cancelling');
  CREATE INDEX tasks_ended ON tasks (ended_ms) WHERE ended_ms IS NOT NULL;
  CREATE INDEX runs_live ON runs (clone) WHERE live = 1;
  `,
  `
  -- Bytes of segments that are durable here only, until a sync of their segment has covered them.
  CREATE TABLE unsynced (
    id INTEGER PRIMARY KEY, zone TEXT NOT NULL, n INTEGER NOT NULL, off INTEGER NOT NULL, bytes BLOB NOT NULL
  ) STRICT;
  -- What waits for a person is asked at each view of a zone: a long queue must not be read through for it.
  CREATE INDEX tasks_waiting ON tasks (zone, state, ord) WHERE state IN ('held', 'unknown');
  `,
  `
  -- A task's limit counts the time of its attempts: when the running one began, and what the earlier ones took.
  ALTER TABLE tasks ADD COLUMN since_ms INTEGER;
  ALTER TABLE tasks ADD COLUMN ran_ms INTEGER NOT NULL DEFAULT 0;
  UPDATE tasks SET since_ms = started_ms;
  `,
];

/** Brings the tables to this build's shape. Throws `version` where a newer build wrote them. */
export const migrate = (db: DatabaseSync): void => {
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
