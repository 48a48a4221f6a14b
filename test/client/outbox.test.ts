import fs, { mkdtempSync, readdirSync, readFileSync, readlinkSync, rmSync, writeFileSync } from 'node:fs';
import { syncBuiltinESMExports } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { openOutbox } from '../../src/client/outbox.ts';
import { unreadableLine } from '../../src/client/render/status.ts';
import { KhloneError } from '../../src/protocol/error.ts';
import { waitingTask as task } from '../fixtures/waiting-task.ts';

/** What was accepted here and not sent yet: nothing is lost by another build, and nothing is queued twice. */

let dir: string;
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'khlone-outbox-'));
});
afterEach(() => rmSync(dir, { recursive: true }));

const files = (): string[] => readdirSync(dir).filter((name) => /^\d+\.json$/.test(name));
const change = (file: string, edit: (entry: Record<string, never>) => unknown): void => {
  const path = join(dir, file);
  writeFileSync(path, JSON.stringify(edit(JSON.parse(readFileSync(path, 'utf8')))));
};

test('what waits is there again in its order when the outbox is opened anew', () => {
  const outbox = openOutbox(dir);
  for (const n of [1, 2, 3]) outbox.put(task(n));
  outbox.remove(outbox.put(task(4)));
  expect(openOutbox(dir).list()).toEqual(outbox.list());
  expect(openOutbox(dir).list()).toHaveLength(3);
});

test('a task that waits already is not queued again, not even by the next hub', () => {
  const first = openOutbox(dir).put(task(1));
  const outbox = openOutbox(dir);
  outbox.put(task(2));
  expect(outbox.put({ ...task(1), queuedMs: 99 })).toEqual(first);
  expect(files()).toHaveLength(2);
  outbox.remove(first);
  expect(outbox.put(task(1)).file).not.toBe(first.file);
});

test('an entry with what only a newer version knows is kept and sent', () => {
  const { file } = openOutbox(dir).put(task(1));
  change(file, (entry: Record<string, never>) => {
    const { params } = entry.call as unknown as { params: Record<string, Record<string, unknown>> };
    Object.assign(params, { newer: true });
    for (const inner of [params.zone, params.policy, params.policy?.retention])
      Object.assign(inner ?? {}, { newer: 1 });
    return { ...entry, newer: { deep: 1 } };
  });
  const outbox = openOutbox(dir);
  expect(outbox.unreadable()).toEqual([]);
  expect(outbox.first('box')?.entry).toEqual({ version: 1, ...task(1) });
});

test('an entry that cannot be read is kept, passed over and named', () => {
  const outbox = openOutbox(dir);
  const [odd, torn] = [outbox.put(task(1)).file, outbox.put(task(2)).file];
  outbox.put(task(3));
  change(odd, (entry) => ({ ...entry, version: 2 }));
  writeFileSync(join(dir, torn), '{');
  const next = openOutbox(dir);
  expect(next.unreadable()).toEqual([join(dir, odd), join(dir, torn)]);
  expect(next.first('box')?.entry.say).toBe('act 3');
  expect(Number.parseInt(next.put(task(4)).file, 10)).toBe(4);
  expect(files()).toHaveLength(4);
  expect(unreadableLine(next.unreadable())).toBe(
    `queued by another version of khlone and kept for it: ${join(dir, odd)} and 1 more`,
  );
  expect(unreadableLine([])).toBeUndefined();
});

test('what its server refused is told once, however often it was refused', () => {
  const outbox = openOutbox(dir);
  for (const message of ['no', 'still no']) {
    outbox.refuse(outbox.put(task(1)), new KhloneError('queue-full', message, 'wait'));
  }
  expect(openOutbox(dir).refused()).toMatchObject([
    { message: 'still no', code: 'queue-full', hint: 'wait' },
  ]);
  expect(files()).toEqual([]);
});

/** What is synced while `work` is done, by path, and with it what lay in the folder at that moment. */
const synced = (work: () => void): { path: string; there: string[] }[] => {
  const seen: { path: string; there: string[] }[] = [];
  const real = fs.fsyncSync;
  fs.fsyncSync = (fd) => {
    seen.push({ path: readlinkSync(`/proc/self/fd/${fd}`), there: files() });
    real(fd);
  };
  syncBuiltinESMExports();
  try {
    work();
  } finally {
    fs.fsyncSync = real;
    syncBuiltinESMExports();
  }
  return seen;
};

test('what a receipt or a person relies on is on the disk when it is told, the name of its file too', () => {
  const outbox = openOutbox(dir);
  const put = synced(() => outbox.put(task(1)));
  expect(put.map(({ path }) => path)).toEqual([expect.stringContaining(`${dir}/.`), dir]);
  expect(put.at(-1)?.there).toHaveLength(1);
  const [queued] = outbox.list();
  if (!queued) throw new Error('nothing is queued');
  // What was taken back may not come again after a power cut: no server would know that it is old.
  expect(synced(() => outbox.remove(queued))).toEqual([{ path: dir, there: [] }]);
  const sent = outbox.put({ ...task(2), sentTo: 'a server' });
  // Its server has it: sent again it would be known there, so nobody waits for the disk.
  expect(synced(() => outbox.remove(sent))).toEqual([]);
  const held = outbox.put({ ...task(3), sentTo: 'a server that is gone', held: true });
  expect(synced(() => outbox.remove(held))).toEqual([{ path: dir, there: [] }]);
});
