import { DatabaseSync } from 'node:sqlite';
import { addTask, bringEnvironment, call, makeZone, POLICY, startServer } from '../test/fixtures/server.ts';
import { median, type Row } from './row.ts';

/** From the start of a server, after a kill -9, to its first answer about a zone with 100,000 tasks. */

const TASKS = 100_000;
const WAITING = 2_000;
const ROUNDS = 5;
const REACH_MS = 500;

/** Multiplies the one task of the store: most have ended, as after months of work, and some wait. */
const fill = (file: string): void => {
  const db = new DatabaseSync(file);
  const names = db
    .prepare(
      "SELECT name FROM pragma_table_info('tasks') WHERE name NOT IN ('ord', 'id', 'state', 'ended_ms')",
    )
    .all()
    .map((row) => String(row.name))
    .join(', ');
  db.exec(`WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ${TASKS})
    INSERT INTO tasks (id, state, ended_ms, ${names})
    SELECT 'task-' || printf('%010d', i), iif(i > ${TASKS - WAITING}, 'queued', 'done'),
      iif(i > ${TASKS - WAITING}, NULL, created_ms), ${names.replace('uuid', "printf('%036d', i)")}
    FROM n, (SELECT * FROM tasks LIMIT 1)`);
  db.exec(`UPDATE clones SET live = (SELECT count(*) FROM tasks t
    WHERE t.clone = clones.id AND t.state NOT IN ('done', 'failed', 'cancelled'))`);
  db.close();
};

export const benchRestart = async (): Promise<Row[]> => {
  const server = await startServer();
  try {
    const first = await server.peer();
    const zone = makeZone(server);
    await bringEnvironment(first, server, zone);
    await call(first, 'zone.open', { zone, policy: POLICY });
    await call(first, 'queue.pause', { zone: zone.id, paused: true });
    await addTask(first, zone, 'true');
    await server.kill9();
    fill(server.home.stateDb);
    const times: number[] = [];
    for (let round = 0; round < ROUNDS; round += 1) {
      const begun = performance.now();
      const peer = await server.peer();
      await call(peer, 'zone.get', { zone: zone.id });
      times.push(performance.now() - begun);
      await server.kill9();
    }
    const value = median(times);
    const name = 'restart to ready with 100,000 tasks, after kill -9';
    return [{ name, value, unit: 'ms', anchor: '–', target: `< ${REACH_MS} ms`, ok: value < REACH_MS }];
  } finally {
    await server.dispose();
  }
};
