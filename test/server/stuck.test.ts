import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { afterEach, expect, test } from 'vitest';
import type { ZoneSpec } from '../../src/protocol/calls.ts';
import type { Peer } from '../../src/protocol/peer.ts';
import { processesOf } from '../../src/server/run-dir.ts';
import {
  addTask,
  bringEnvironment,
  kill9,
  startZone,
  type TestServer,
  until,
  untilTask,
} from '../fixtures/server.ts';

/** Whatever of a run is gone: no task waits for what can no longer come. */

let server: TestServer;
let peer: Peer;
let zone: ZoneSpec;
afterEach(() => server.dispose());

const begin = async (env: Record<string, string> = {}): Promise<void> => {
  ({ server, peer, zone } = await startZone({ env }));
};
const restart = async (): Promise<void> => {
  await server.kill9();
  peer = await server.peer();
  await bringEnvironment(peer, server, zone);
};
const file = (name: string): string => join(zone.path, name);
const lines = (name: string): string[] => readFileSync(file(name), 'utf8').trim().split('\n');
const runDir = (n: number): string => join(server.home.zonesDir, zone.id, 'runs', `mechanic.1.${n}`);

const LONG = 'echo $KHLONE_RUN > mark; echo x >> tries; until test -e go; do sleep 0.02; done';

/** An act that runs while its server is dead; answers with its id. */
const orphan = async (): Promise<string> => {
  const { task } = await addTask(peer, zone, LONG);
  await until('the effect', () => existsSync(file('tries')));
  await server.kill9();
  return task.id;
};

test('an act whose files are gone is unknown, its processes are ended, and what is behind it runs', async () => {
  await begin();
  const id = await orphan();
  rmSync(runDir(1), { recursive: true });
  await restart();
  const behind = await addTask(peer, zone, 'true');
  expect(await untilTask(peer, zone, id)).toMatchObject({
    state: 'unknown',
    message: expect.stringContaining('files of its run are gone'),
  });
  expect(processesOf(lines('mark')[0] ?? '')).toEqual([]);
  expect((await untilTask(peer, zone, behind.task.id)).state).toBe('done');
  expect(lines('tries')).toHaveLength(1);
});

test('an act on a brain that the configuration no longer knows is unknown, and is not followed for ever', async () => {
  await begin();
  const id = await orphan();
  const db = new DatabaseSync(server.home.stateDb);
  db.exec("UPDATE clones SET brain = 'gone-brain'");
  db.close();
  await restart();
  expect(await untilTask(peer, zone, id)).toMatchObject({
    state: 'unknown',
    message: expect.stringContaining('gone-brain'),
  });
  expect(processesOf(lines('mark')[0] ?? '')).toEqual([]);
});

/** The brain's own process: the one that reads the input and writes the output. */
const brainOf = (mark: string): number =>
  processesOf(mark).find((pid) => {
    const argv = readFileSync(`/proc/${pid}/cmdline`, 'latin1').split('\0');
    return argv.at(-2) === 'brain-sh' && argv[0]?.endsWith('node');
  }) ?? 0;

test('a brain that no longer hears and does not end is replaced, and its turn is sent to the next one', async () => {
  await begin();
  await untilTask(peer, zone, (await addTask(peer, zone, 'echo $KHLONE_RUN > mark')).task.id);
  const mark = lines('mark')[0] ?? '';
  const brain = brainOf(mark);
  process.kill(brain, 'SIGSTOP');
  const { task } = await addTask(peer, zone, 'echo x >> tries');
  await untilTask(peer, zone, task.id, ['dispatching']);
  kill9([Number(readFileSync(join(runDir(1), 'tail.pid'), 'utf8'))]);
  expect((await untilTask(peer, zone, task.id, undefined, 30_000)).state).toBe('done');
  expect(lines('tries')).toHaveLength(1);
  expect(processesOf(mark)).toEqual([]);
}, 60_000);

test('a process whose input was cut off gets no next task', async () => {
  await begin();
  await untilTask(peer, zone, (await addTask(peer, zone, 'echo $KHLONE_RUN > mark')).task.id);
  const mark = lines('mark')[0] ?? '';
  const tail = Number(readFileSync(join(runDir(1), 'tail.pid'), 'utf8'));
  process.kill(brainOf(mark), 'SIGSTOP');
  kill9([tail]);
  const { task } = await addTask(peer, zone, 'echo $KHLONE_RUN > next');
  process.kill(brainOf(mark), 'SIGCONT');
  const ended = await untilTask(peer, zone, task.id);
  expect(ended).toMatchObject({ state: 'done', attempt: 1 });
  expect(lines('next')).not.toEqual([mark]);
});

test('one death of tmux costs a task no more than a moment', async () => {
  await begin();
  await untilTask(peer, zone, (await addTask(peer, zone, 'true')).task.id);
  for (let i = 0; i < 3; i++) {
    kill9([server.tmuxPid() ?? 0]);
    const { task } = await addTask(peer, zone, 'true', { session: `another-${i}` });
    expect((await untilTask(peer, zone, task.id, undefined, 8_000)).state).toBe('done');
  }
  expect(readdirSync(join(server.home.zonesDir, zone.id, 'runs')).length).toBeGreaterThan(3);
});

test('an act whose runner left no proof of itself is judged by the absence of any process of it', async () => {
  await begin();
  const id = await orphan();
  const mark = lines('mark')[0] ?? '';
  await until('the end of the run', () => {
    kill9(processesOf(mark));
    return processesOf(mark).length === 0;
  });
  for (const name of ['meta.json', 'exit']) rmSync(join(runDir(1), name), { force: true });
  await restart();
  expect((await untilTask(peer, zone, id)).state).toBe('unknown');
});

/** A tmux that cannot be reached the first times. It sees no variable but PATH. */
const FAILING_TMUX = `#!/bin/sh
tries=\${0%/*}/tries
case "$*" in
  *' -C '*) echo x >> "$tries"; [ "$(wc -l < "$tries")" -gt 4 ] || exit 1 ;;
esac
exec /usr/bin/tmux "$@"
`;

test('a start that fails is tried again soon, and leaves no run that is taken for a living one', async () => {
  const bin = mkdtempSync(join(tmpdir(), 'khlone-bin-'));
  writeFileSync(join(bin, 'tmux'), FAILING_TMUX, { mode: 0o755 });
  await begin({ PATH: `${bin}:${process.env.PATH}` });
  const { task } = await addTask(peer, zone, 'true');
  await untilTask(peer, zone, task.id, ['held']);
  const { state, attempt } = await untilTask(peer, zone, task.id, undefined, 8_000);
  expect({ state, attempt }).toEqual({ state: 'done', attempt: 1 });
  const db = new DatabaseSync(server.home.stateDb, { readOnly: true });
  expect(db.prepare('SELECT n, live FROM runs ORDER BY n').all()).toEqual([
    { n: 1, live: 0 },
    { n: 2, live: 1 },
  ]);
  db.close();
  rmSync(bin, { recursive: true });
});
