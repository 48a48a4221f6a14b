import { spawn } from 'node:child_process';
import { appendFileSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { findBrain } from '../../src/brains/registry.ts';
import { startRetention } from '../../src/server/retention.ts';
import { type LiveRun, placeOf, type RunDeps } from '../../src/server/run.ts';
import { bootId, makeRunDir } from '../../src/server/run-dir.ts';
import { makeRun } from '../../src/server/store/runs.ts';
import { openStore, type Store } from '../../src/server/store/store.ts';
import { advance, insertTask, taskRow } from '../../src/server/store/tasks.ts';
import { anyClone, enroll, findOrMakeZone } from '../../src/server/store/zones.ts';
import { followTurn } from '../../src/server/turn.ts';
import { POLICY } from '../fixtures/server.ts';

/** Faults that come once, in the middle of a step: what the next try finds must be as if they had not come. */

let root: string;
let zonesDir: string;
let store: Store;
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'khlone-guards-'));
  zonesDir = join(root, 'zones');
  mkdirSync(zonesDir);
  store = openStore(join(root, 'state.db'), zonesDir);
});
afterEach(() => {
  store.close();
  rmSync(root, { recursive: true, force: true });
});

const ZONE = { id: 'z-0123456789abcdef', address: 'a/b@main', branch: 'main', mode: 'local' as const };
const ID = 'task-0123456789';
const UUID = '6b1f2c34-0000-4000-8000-000000000000';

/** A task in the middle of its turn, with a run directory whose output is written by the test. */
const turn = async (): Promise<{ deps: RunDeps; run: LiveRun }> => {
  const deps = { store, zonesDir, boot: bootId() } as unknown as RunDeps;
  const row = await store.write((tx) => {
    findOrMakeZone(store, zonesDir, { ...ZONE, path: root }, POLICY, 1);
    const clone = enroll(store, { zone: ZONE.id, role: 'mechanic', brain: 'sh', hero: true }, 1);
    const task = {
      ...{ id: ID, hash: 'h', zone: ZONE.id, kind: 'act' as const, prompt: 'true', title: 'true', clone },
      ...{ session: 's', limit_ms: null, uuid: UUID, retry_of: null, prioritized: false, repeatable: false },
    };
    insertTask(store, tx, task, 1);
    advance(store, tx, ID, { type: 'dispatch' }, 1);
    return makeRun(store, clone.id, { mode: 'act', session: 's', boot: bootId() }, 1);
  });
  const clone = anyClone(store, row.clone);
  if (!clone) throw new Error('no clone');
  const run = { ...placeOf(deps, clone, row), brain: findBrain('sh').brain };
  makeRunDir(run.dir, {});
  return { deps, run };
};

const lineOf = (line: object): string => `${JSON.stringify({ uuid: UUID, ...line })}\n`;
const OUTPUT =
  lineOf({ type: 'start', script: 'true' }) +
  lineOf({ type: 'stdout', text: 'said' }) +
  lineOf({ type: 'end', ran: true, outcome: 'done', text: 'said' });

test('lines whose commit failed are read again by the next look at the same run', async () => {
  const { deps, run } = await turn();
  appendFileSync(join(run.dir, 'out.jsonl'), OUTPUT);
  const broken = {
    ...deps,
    store: { ...store, write: () => Promise.reject(new Error('a disk that failed once')) },
  };
  const row = taskRow(store, ID);
  if (!row) throw new Error('no task');
  const control = {
    ...{ cancelled: () => false, stopped: () => false, limitAtMs: undefined, verify: undefined },
    nudge: () => new AbortController().signal,
  };
  await expect(followTurn(broken, run, row, control)).rejects.toThrow('failed once');
  expect(await followTurn(deps, run, row, control)).toBe('ended');
  expect(taskRow(store, ID)).toMatchObject({ state: 'done' });
  const told: unknown[] = [];
  for await (const { event } of store.items(ZONE.id, 0, { n: 0, offset: 0 })) told.push(event.type);
  expect(told.filter((type) => type === 'text')).toHaveLength(1);
});

test('a pass of the retention that fails is told, and the next one comes all the same', () => {
  vi.useFakeTimers();
  try {
    const said: string[] = [];
    const broken = {
      ...store,
      head: () => {
        throw new Error('the disk is broken');
      },
    };
    mkdirSync(join(zonesDir, ZONE.id));
    const stop = startRetention(broken as Store, zonesDir, (line) => said.push(line));
    vi.advanceTimersByTime(2.5 * 3600_000);
    expect(said).toEqual(['retention: the disk is broken', 'retention: the disk is broken']);
    stop();
    vi.advanceTimersByTime(3600_000);
    expect(said).toHaveLength(2);
  } finally {
    vi.useRealTimers();
  }
});

describe('where the machine has no watch left', () => {
  /** Holds every descriptor but the one that the file itself takes, so that the watch beside it gets none. */
  const program = `
    import { openSync, closeSync } from 'node:fs';
    import { openTail } from ${JSON.stringify(join(import.meta.dirname, '../../src/server/tail.ts'))};
    const tail = async () => {
      const held = [];
      try { for (;;) held.push(openSync('/dev/null')); } catch {}
      closeSync(held.pop());
      return openTail(process.argv[1], 'out.jsonl', 0);
    };
    const open = await tail();
    process.stdout.write('open\\n');
    for (;;) {
      const chunk = await open.read();
      if (chunk) { process.stdout.write(chunk.lines.join('|') + '\\n'); break; }
      await open.changed(new AbortController().signal);
    }
    process.exit(0);
  `;

  test('a growing file is looked at by the clock', async () => {
    writeFileSync(join(root, 'out.jsonl'), '');
    const child = spawn(
      'sh',
      ['-c', 'ulimit -n 64; exec "$@"', 'sh', process.execPath, '--input-type=module', '-e', program, root],
      { stdio: ['ignore', 'pipe', 'inherit'] },
    );
    let said = '';
    child.stdout.setEncoding('utf8').on('data', (text: string) => {
      if (said === '') appendFileSync(join(root, 'out.jsonl'), 'one\ntwo\n');
      said += text;
    });
    const code = await new Promise((resolve) => child.once('close', resolve));
    expect({ code, said }).toEqual({ code: 0, said: 'open\none|two\n' });
  });
});
