import { DatabaseSync } from 'node:sqlite';
import { afterEach, expect, test } from 'vitest';
import { processesWith } from '../fixtures/server.ts';
import { type Ground, makeGround, seeded, tokensIn } from './torture-ground.ts';

/**
 * Whatever dies at whatever moment: no receipt is lost, no act runs twice, nothing is told twice or not at all.
 * KHLONE_LONG=1 runs it at its nightly size, KHLONE_SEED repeats one run.
 */

const LONG = process.env.KHLONE_LONG === '1';
const HOMES = LONG ? 20 : 2;
const ROUNDS = LONG ? 100 : 50;
const SEED = Number(process.env.KHLONE_SEED ?? Math.floor(Math.random() * 2 ** 31));
const SETTLE_MS = 30_000;

let ground: Ground;
afterEach(() => ground.dispose());

type Row = { id: string; state: string; attempt: number; ord: number; hold: string | null };
const rowsOf = ({ server }: Ground): Row[] => {
  const db = new DatabaseSync(server.home.stateDb, { readOnly: true });
  const rows = db
    .prepare('SELECT id, state, attempt, ord, hold, message FROM tasks ORDER BY ord')
    .all() as Row[];
  expect(db.prepare('PRAGMA integrity_check').get()).toEqual({ integrity_check: 'ok' });
  expect(db.prepare('SELECT sum(live) AS live FROM clones').get()).toEqual({
    live: rows.filter(({ state }) => !['done', 'failed', 'cancelled'].includes(state)).length,
  });
  db.close();
  return rows;
};

const ENDED = ['done', 'failed', 'cancelled', 'unknown'];
const orderOf = (tokens: readonly string[], wanted: ReadonlySet<string>): string[] =>
  tokens.filter((token) => wanted.has(token));

const checkTasks = (made: Ground): Record<string, number> => {
  const rows = rowsOf(made);
  const sent = made.lines.flatMap((line) => line.sent);
  expect(rows.map(({ id }) => id).sort()).toEqual(sent.map(({ id }) => id).sort());
  const stateOf = new Map(rows.map(({ id, state }) => [id, state]));
  const notEnded = rows.filter(({ state }) => !ENDED.includes(state));
  expect(notEnded).toEqual([]);
  for (const { zone, who, sent: all } of made.lines) {
    const tokens = tokensIn(zone).filter((token) => token.startsWith(`${who}-`));
    expect(
      tokens.filter((token, i) => tokens.indexOf(token) !== i),
      'an act ran twice',
    ).toEqual([]);
    const done = all
      .filter(({ id, kind }) => kind === 'act' && stateOf.get(id) === 'done')
      .map((t) => t.token);
    expect(orderOf(tokens, new Set(done)), 'what is done ran once, in the order of the receipts').toEqual(
      done,
    );
  }
  return Object.fromEntries(ENDED.map((state) => [state, rows.filter((row) => row.state === state).length]));
};

const checkJournal = ({ watched }: Ground): void => {
  for (const { seqs, gaps, ends } of watched) {
    expect(gaps).toBe(0);
    expect(seqs, 'every event once, in order').toEqual(seqs.map((_, i) => i + 1));
    // Unknown is no end of its own: a cancel may follow it.
    const twice = [...ends].filter(([, states]) => states.filter((state) => state !== 'unknown').length > 1);
    expect(twice, 'a task ended twice').toEqual([]);
  }
};

test.each(Array.from({ length: HOMES }, (_, i) => SEED + i))(
  'random kills, seed %i',
  { timeout: ROUNDS * 800 + SETTLE_MS + 30_000 },
  async (seed) => {
    ground = await makeGround(seeded(seed));
    for (let i = 0; i < ROUNDS; i++) await ground.round();
    await ground.settle(SETTLE_MS);
    await ground.server.stop(false);
    const states = checkTasks(ground);
    checkJournal(ground);
    expect(processesWith(`TMPDIR=${ground.server.home.zonesDir}`), 'processes left behind').toEqual([]);
    const tasks = ground.lines.reduce((sum, line) => sum + line.sent.length, 0);
    console.log(
      `seed ${seed}: ${JSON.stringify(ground.kills)} kills, ${tasks} tasks: ${JSON.stringify(states)}`,
    );
    expect(states.done).toBeGreaterThan(ROUNDS / 4);
  },
);
