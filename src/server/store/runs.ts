import type { Row, Store } from './store.ts';

/** Runs (a brain's processes) and what was said to them, as rows. */

export type RunRow = Row & {
  clone: number;
  n: number;
  mode: 'ask' | 'act';
  session: string;
  /** The boot it was started in. */
  boot: string;
  brain_session: string | null;
  live: number;
  in_size: number;
  out_offset: number;
  cost_total: number;
};

export const runRow = (store: Store, clone: number, n: number): RunRow | undefined =>
  store.get<RunRow>('SELECT * FROM runs WHERE clone = ? AND n = ?', clone, n);

/** The runs of a clone that are not known to have ended, latest first. */
export const liveRuns = (store: Store, clone: number): RunRow[] =>
  store.all<RunRow>('SELECT * FROM runs WHERE clone = ? AND live = 1 ORDER BY n DESC', clone);

/** A new run of a clone: numbers are never reused, so a directory is never written by two processes. */
export const makeRun = (
  store: Store,
  clone: number,
  run: { mode: 'ask' | 'act'; session: string; boot: string },
  nowMs: number,
): RunRow => {
  store.run('UPDATE clones SET runs = runs + 1 WHERE id = ?', clone);
  const { runs } = store.get<{ runs: number }>('SELECT runs FROM clones WHERE id = ?', clone) ?? { runs: 1 };
  store.run(
    'INSERT INTO runs (clone, n, mode, session, boot, made_ms) VALUES (?, ?, ?, ?, ?, ?)',
    ...[clone, runs, run.mode, run.session, run.boot, nowMs],
  );
  const row = runRow(store, clone, runs);
  if (!row) throw new Error('the run that was just written is not there');
  return row;
};

export const endRunRow = (store: Store, run: RunRow, nowMs: number): void => {
  store.run('UPDATE runs SET live = 0, ended_ms = ? WHERE clone = ? AND n = ?', nowMs, run.clone, run.n);
  store.run('DELETE FROM inputs WHERE clone = ? AND run = ?', run.clone, run.n);
};

/** Notes bytes to be written at the end of the input, before they are: a repeat after a crash is the same write. */
export const noteInput = (store: Store, run: RunRow, bytes: Uint8Array): number => {
  const off = runRow(store, run.clone, run.n)?.in_size ?? 0;
  store.run('INSERT INTO inputs VALUES (?, ?, ?, ?)', run.clone, run.n, off, bytes);
  store.run('UPDATE runs SET in_size = ? WHERE clone = ? AND n = ?', off + bytes.length, run.clone, run.n);
  return off;
};

export const inputsOf = (store: Store, run: RunRow): { off: number; bytes: Uint8Array }[] =>
  store.all('SELECT off, bytes FROM inputs WHERE clone = ? AND run = ? ORDER BY off', run.clone, run.n);

/** Once a turn ended its input can no longer be needed again. */
export const dropInputs = (store: Store, run: RunRow): void =>
  store.run('DELETE FROM inputs WHERE clone = ? AND run = ?', run.clone, run.n);

export const brainSession = (store: Store, session: string, clone: number): string | undefined =>
  store.get<{ id: string }>('SELECT id FROM brain_sessions WHERE session = ? AND clone = ?', session, clone)
    ?.id;

export const keepBrainSession = (store: Store, session: string, clone: number, id: string): void =>
  store.run(
    'INSERT INTO brain_sessions VALUES (?, ?, ?) ON CONFLICT (session, clone) DO UPDATE SET id = excluded.id',
    ...[session, clone, id],
  );

export const forgetBrainSession = (store: Store, session: string, clone: number): void =>
  store.run('DELETE FROM brain_sessions WHERE session = ? AND clone = ?', session, clone);
