import { execFileSync } from 'node:child_process';
import { statfsSync, unlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { expect, test } from 'vitest';
import type { ZoneSpec } from '../../src/protocol/calls.ts';
import { processesOf } from '../../src/server/run-dir.ts';
import { openStore } from '../../src/server/store/store.ts';
import { findOrMakeZone } from '../../src/server/store/zones.ts';
import {
  addTask,
  answerOf,
  bringEnvironment,
  call,
  makeZone,
  POLICY,
  startServer,
  until,
  untilTask,
} from '../fixtures/server.ts';
import { smallDisk } from '../fixtures/small-disk.ts';

/** A disk that is full, and one that has room again: a small tmpfs, which only root may mount. */

const ZONE: ZoneSpec = { id: 'z-0123456789abcdef', address: 'a/b@c', branch: 'c', mode: 'local', path: '/' };
const { dir, isThere: mounted } = smallDisk('3m');

const ballast = (bytes: number): void => writeFileSync(join(dir, 'ballast'), Buffer.alloc(bytes, 1));

/** To the last byte. */
const fillUp = (): void => {
  const { bavail, bsize } = statfsSync(dir);
  try {
    ballast(bavail * bsize);
  } catch {
    // Full is full.
  }
};

test.skipIf(!mounted)(
  'a full disk refuses writes by name, keeps every acknowledged one, and takes new ones when it has room',
  async () => {
    const open = () => openStore(join(dir, 'state.db'), join(dir, 'zones'));
    let store = open();
    await store.write(() => findOrMakeZone(store, join(dir, 'zones'), ZONE, POLICY, 1));
    ballast(1_500_000);

    const kept = new Set<string>();
    const codes = new Set<string>();
    const attempt = async (i: number): Promise<void> => {
      const text = `${i} ${'x'.repeat(5_000)}`;
      const row = (): void => store.run('INSERT INTO meta VALUES (?, ?)', `k${i}`, text);
      await store
        .write((tx) => {
          row();
          tx.emit(ZONE.id, { atMs: 0, event: { type: 'note', text } });
        })
        .then(
          () => kept.add(`k${i}`),
          (error: { code: string }) => codes.add(error.code),
        );
    };
    for (let i = 0; i < 600; i++) await attempt(i);
    expect([...codes]).toEqual(['disk-low']);
    expect(kept.size).toBeGreaterThan(10);
    expect(statfsSync(dir).bavail * statfsSync(dir).bsize).toBeLessThan(100_000);

    const rows = (): string[] =>
      store
        .all<{ key: string }>("SELECT key FROM meta WHERE key LIKE 'k%' ORDER BY rowid")
        .map(({ key }) => key);
    const told = async (): Promise<string[]> => {
      const all: string[] = [];
      for await (const { seq, event } of store.items(ZONE.id, 0, { n: 0, offset: 0 })) {
        expect(seq).toBe(all.length + 1);
        all.push(event.type === 'note' ? `k${event.text.split(' ')[0]}` : '');
      }
      return all;
    };
    // Reading goes on while nothing can be written.
    expect(rows()).toEqual([...kept]);
    expect(await told()).toEqual([...kept]);

    unlinkSync(join(dir, 'ballast'));
    await attempt(1_000);
    expect(kept.has('k1000')).toBe(true);
    store.close();
    store = open();
    expect(rows()).toEqual([...kept]);
    expect(await told()).toEqual([...kept]);
    expect(store.get('PRAGMA integrity_check')).toEqual({ integrity_check: 'ok' });
    store.close();
  },
);

test.skipIf(!mounted)(
  'a server whose disk is full ends all the same when it is told to, and what it could not note is found later',
  { timeout: 90_000 },
  async () => {
    const home = join(dir, 'home');
    execFileSync('mount', ['-o', 'remount,size=160m', dir]);
    const server = await startServer({ home });
    const peer = await server.peer();
    const zone = makeZone(server);
    await bringEnvironment(peer, server, zone);
    const { task } = await addTask(peer, zone, 'echo $KHLONE_RUN');
    expect((await untilTask(peer, zone, task.id)).state).toBe('done');
    const mark = (await answerOf(peer, task.id)).answer;
    const pid = server.pid();
    fillUp();
    await expect(addTask(peer, zone, 'true')).rejects.toMatchObject({ code: 'disk-low' });
    await call(peer, 'stop', { keep: false }).catch(() => undefined);
    await until('the end of the server', () => server.pid() !== pid);
    unlinkSync(join(dir, 'ballast'));
    const next = await server.peer();
    await bringEnvironment(next, server, zone);
    const after = await addTask(next, zone, 'echo again');
    expect((await untilTask(next, zone, after.task.id)).state).toBe('done');
    expect(processesOf(mark)).toEqual([]);
    await server.dispose();
  },
);

test.skipIf(!mounted)(
  'a server whose disk fills up under a run lives on, and goes on by itself when it has room',
  { timeout: 90_000 },
  async () => {
    const home = join(dir, 'lives');
    execFileSync('mount', ['-o', 'remount,size=160m', dir]);
    const server = await startServer({ home });
    const peer = await server.peer();
    const zone = makeZone(server);
    await bringEnvironment(peer, server, zone);
    const { task } = await addTask(peer, zone, 'for i in $(seq 60); do echo tick $i; sleep 0.1; done');
    await untilTask(peer, zone, task.id, ['active']);
    const pid = server.pid();
    fillUp();
    await delay(3_000);
    expect(server.pid()).toBe(pid);
    unlinkSync(join(dir, 'ballast'));
    expect((await untilTask(peer, zone, task.id)).state).toBe('done');
    const ticks = Array.from({ length: 60 }, (_, n) => `tick ${n + 1}`);
    expect((await answerOf(peer, task.id)).answer.trim().split('\n')).toEqual(ticks);
    const after = await addTask(peer, zone, 'echo again');
    expect((await untilTask(peer, zone, after.task.id)).state).toBe('done');
    expect(server.pid()).toBe(pid);
    await server.dispose();
  },
);
