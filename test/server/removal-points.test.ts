import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, describe, expect, test } from 'vitest';
import type { ZoneSpec } from '../../src/protocol/calls.ts';
import type { FaultName } from '../../src/protocol/fault-point.ts';
import type { Peer } from '../../src/protocol/peer.ts';
import { processesOf } from '../../src/server/run-dir.ts';
import {
  addTask,
  answerOf,
  bringEnvironment,
  call,
  kill9,
  makeZone,
  startServer,
  type TestServer,
  until,
  untilTask,
} from '../fixtures/server.ts';

/** Clones and zones that are deleted: by a server that dies in the middle of it, and while others send tasks to them. */

let server: TestServer;
let peer: Peer;
let zone: ZoneSpec;
afterEach(() => server.dispose());

const LONG = 'echo $KHLONE_RUN > mark; while :; do sleep 0.1; done';
/** What is stopped hears no gentle word: it goes only when it is killed, seconds later. */
const freeze = (mark: string): void => {
  for (const pid of processesOf(mark)) process.kill(pid, 'SIGSTOP');
};

const begin = async (fault?: FaultName): Promise<{ id: string; mark: string; waiting: string }> => {
  server = await startServer();
  if (fault) server.env.KHLONE_FAULT = `${fault}:1:${join(server.work, 'died')}`;
  peer = await server.peer();
  zone = makeZone(server);
  await bringEnvironment(peer, server, zone);
  const { task } = await addTask(peer, zone, LONG, { who: 'reviewer++' });
  const waiting = await addTask(peer, zone, 'touch never', { who: 'reviewer.1' });
  const file = join(zone.path, 'mark');
  await until('the mark', () => existsSync(file) && readFileSync(file, 'utf8').endsWith('\n'));
  return { id: task.id, mark: readFileSync(file, 'utf8').trim(), waiting: waiting.task.id };
};
const delClone = () => call(peer, 'crew.del', { zone: zone.id, clones: ['reviewer.1'], force: true });
const delZone = () => call<{ deleted: boolean }>(peer, 'zone.del', { zone: zone.id, force: true });
const cancelled = async (...ids: string[]): Promise<void> => {
  for (const id of ids) expect((await untilTask(peer, zone, id)).state).toBe('cancelled');
  expect(existsSync(join(zone.path, 'never'))).toBe(false);
};

describe('a server that dies', () => {
  test('after a clone left its crew ends what the clone had', async () => {
    const { id, mark, waiting } = await begin('clone-left');
    await expect(delClone()).rejects.toMatchObject({ code: 'unreachable' });
    peer = await server.peer();
    await cancelled(id, waiting);
    expect(processesOf(mark)).toEqual([]);
    await expect(delClone()).rejects.toMatchObject({ code: 'not-found' });
  });

  test.each(['zone-halted', 'zone-removed'] as const)(
    'at %s of a deletion starts nothing of the zone, and the deletion can be repeated',
    async (fault) => {
      const { id, mark, waiting } = await begin(fault);
      await expect(delZone()).rejects.toMatchObject({ code: 'unreachable' });
      peer = await server.peer();
      await bringEnvironment(peer, server, zone);
      // Whatever ran there may end now: nothing begins in its stead.
      kill9(processesOf(mark));
      await cancelled(id, waiting);
      expect(await delZone()).toMatchObject({ deleted: true });
      await cancelled(id, waiting);
      expect(processesOf(mark)).toEqual([]);
      expect(await call(peer, 'zone.get', { zone: zone.id })).toEqual({});
    },
  );
});

describe('a task that is sent', () => {
  test('while its clone is deleted goes to another clone, or is refused where that one was meant', async () => {
    const { id, mark, waiting } = await begin();
    freeze(mark);
    const deletion = delClone();
    await untilTask(peer, zone, waiting, ['cancelled']);
    await expect(addTask(peer, zone, 'true', { who: 'reviewer.1' })).rejects.toMatchObject({
      code: 'not-found',
    });
    const other = await addTask(peer, zone, 'echo other', { who: 'reviewer' });
    expect(other).toMatchObject({ enrolled: true, task: { clone: 'reviewer.2' } });
    expect((await untilTask(peer, zone, other.task.id)).state).toBe('done');
    expect(processesOf(mark)).not.toEqual([]);
    await deletion;
    await cancelled(id, waiting);
  });

  test('while its zone is deleted goes with it, and the next one makes it anew', async () => {
    const { id, mark, waiting } = await begin();
    freeze(mark);
    const deletion = delZone();
    await untilTask(peer, zone, waiting, ['cancelled']);
    const during = await addTask(peer, zone, 'touch never');
    const enrolled = await addTask(peer, zone, 'touch never', { who: 'researcher++' });
    expect(processesOf(mark)).not.toEqual([]);
    expect(await deletion).toMatchObject({ deleted: true });
    await cancelled(id, waiting, during.task.id, enrolled.task.id);
    await bringEnvironment(peer, server, zone);
    const again = await addTask(peer, zone, 'echo again');
    expect(again.zoneMade).toBe(true);
    expect((await untilTask(peer, zone, again.task.id)).state).toBe('done');
    expect((await answerOf(peer, again.task.id)).answer).toBe('again');
  });
});
