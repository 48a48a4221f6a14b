import { spawn } from 'node:child_process';
import { appendFileSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { findBrain } from '../../src/brains/registry.ts';
import { startRetention } from '../../src/server/retention.ts';
import { type LiveRun, placeOf, type RunDeps } from '../../src/server/run.ts';
import { bootId, makeRunDir } from '../../src/server/run-dir.ts';
import { makeRun } from '../../src/server/store/runs.ts';
import type { Store } from '../../src/server/store/store.ts';
import { advance, taskRow } from '../../src/server/store/tasks.ts';
import { anyClone } from '../../src/server/store/zones.ts';
import { followTurn } from '../../src/server/turn.ts';
import { addTask, addZone, openGround, type StoreGround, ZONE_ID } from './store-ground.ts';

/** Faults that come once, in the middle of a step: what the next try finds must be as if they had not come. */

let ground: StoreGround;
beforeEach(() => {
  ground = openGround();
});
afterEach(() => ground.dispose());

const UUID = '6b1f2c34-0000-4000-8000-000000000000';

/** A task in the middle of its turn, with a run directory whose output is written by the test. */
const turn = async (): Promise<{ deps: RunDeps; run: LiveRun; id: string }> => {
  const { store, zonesDir } = ground;
  const deps = { store, zonesDir, boot: bootId() } as unknown as RunDeps;
  await addZone(ground);
  const { id, clone: made } = await addTask(ground, UUID);
  const row = await store.write((tx) => {
    advance(store, tx, id, { type: 'dispatch' }, 1);
    return makeRun(store, made.id, { mode: 'act', session: 's', boot: bootId() }, 1);
  });
  const clone = anyClone(store, row.clone);
  if (!clone) throw new Error('no clone');
  const run = { ...placeOf(deps, clone, row), brain: findBrain('sh').brain };
  makeRunDir(run.dir, {});
  return { deps, run, id };
};

const lineOf = (line: object): string => `${JSON.stringify({ uuid: UUID, ...line })}\n`;
const OUTPUT =
  lineOf({ type: 'start', script: 'true' }) +
  lineOf({ type: 'stdout', text: 'said' }) +
  lineOf({ type: 'end', ran: true, outcome: 'done', text: 'said' });

test('lines whose commit failed are read again by the next look at the same run', async () => {
  const { deps, run, id } = await turn();
  const { store } = ground;
  appendFileSync(join(run.dir, 'out.jsonl'), OUTPUT);
  const broken = {
    ...deps,
    store: { ...store, write: () => Promise.reject(new Error('a disk that failed once')) },
  };
  const row = taskRow(store, id);
  if (!row) throw new Error('no task');
  const control = {
    ...{ cancelled: () => false, stopped: () => false, timeIsOver: () => false, verify: undefined },
    nudge: () => new AbortController().signal,
  };
  await expect(followTurn(broken, run, row, control)).rejects.toThrow('failed once');
  expect(await followTurn(deps, run, row, control)).toBe('ended');
  expect(taskRow(store, id)).toMatchObject({ state: 'done' });
  const told: unknown[] = [];
  for await (const { event } of store.items(ZONE_ID, 0, { n: 0, offset: 0 })) told.push(event.type);
  expect(told.filter((type) => type === 'text')).toHaveLength(1);
});

test('a pass of the retention that fails is told, and the next one comes all the same', () => {
  vi.useFakeTimers();
  try {
    const said: string[] = [];
    const broken = {
      ...ground.store,
      head: () => {
        throw new Error('the disk is broken');
      },
    };
    mkdirSync(join(ground.zonesDir, ZONE_ID));
    const stop = startRetention(broken as Store, ground.zonesDir, (line) => said.push(line));
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
    writeFileSync(join(ground.root, 'out.jsonl'), '');
    const child = spawn(
      'sh',
      [
        '-c',
        'ulimit -n 64; exec "$@"',
        'sh',
        process.execPath,
        '--input-type=module',
        '-e',
        program,
        ground.root,
      ],
      { stdio: ['ignore', 'pipe', 'inherit'] },
    );
    let said = '';
    child.stdout.setEncoding('utf8').on('data', (text: string) => {
      if (said === '') appendFileSync(join(ground.root, 'out.jsonl'), 'one\ntwo\n');
      said += text;
    });
    const code = await new Promise((resolve) => child.once('close', resolve));
    expect({ code, said }).toEqual({ code: 0, said: 'open\none|two\n' });
  });
});
