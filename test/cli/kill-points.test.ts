import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { afterAll, describe, expect, test } from 'vitest';
import { HUB_FAULTS } from '../../src/protocol/fault-point.ts';
import { createWorld, type Ran, type World } from '../fixtures/khlone.ts';

/** The hub dies exactly between two steps of a dispatch: a receipt stays true, and what it promised is done once. */

const TIMES = process.env.KHLONE_LONG === '1' ? 20 : 1;
const SLOW = { limitMs: 60_000 };

const worlds: World[] = [];
afterAll(async () => {
  await Promise.all(worlds.map((world) => world.dispose()));
});

const ids = (text: string): string[] => text.match(/task-[0-9a-z]{10}/g) ?? [];

/** A world whose hub dies once at a place, and its commands with what they printed. */
const play = async (fault: string, mark: number) => {
  const world = await createWorld();
  worlds.push(world);
  await world.khlone(['act', '--who', '@sh', '--await', 'true'], SLOW);
  let lock: DatabaseSync | undefined;
  const died = join(world.base, `died-${mark}`);
  const act = (n: number, words: string[] = []): Promise<Ran> =>
    world.khlone(['act', '--quiet', ...words, '--who', 'mechanic.1', `echo ${n} >> tokens`], SLOW);
  return {
    world,
    died,
    act,
    /** From here on hubs are started with the fault. */
    arm: async (): Promise<void> => {
      // It may be on its way out already.
      if (world.hubPid() !== undefined) await world.kill(world.hubPid()).catch(() => {});
      world.env.KHLONE_FAULT = `${fault}:1:${died}`;
    },
    /** No server can be started while its life lock is held: acts go to the outbox. */
    shutServer: async (): Promise<void> => {
      await world.khlone(['stop']);
      lock = new DatabaseSync(world.home.serverLock, { timeout: 5_000 });
      lock.exec('BEGIN EXCLUSIVE');
    },
    openServer: (): void => lock?.close(),
  };
};

const check = async (world: World, died: string, ran: Ran[]): Promise<void> => {
  expect(ran.map(({ code }) => code)).toEqual(ran.map(() => 0));
  const tasks = ran.map(({ stdout }) => ids(stdout));
  // The id that is printed is what its command promised, once.
  expect(tasks.map((found) => new Set(found).size)).toEqual(ran.map(() => 1));
  for (const [id = ''] of tasks) expect(await world.khlone(['await', id], SLOW)).toMatchObject({ code: 0 });
  expect(readFileSync(join(world.repo, 'tokens'), 'utf8')).toBe(ran.map((_, n) => `${n}\n`).join(''));
  expect(existsSync(died), 'the place was passed').toBe(true);
  const { stdout } = await world.khlone(['status'], SLOW);
  expect(stdout).not.toContain('queued here');
};

describe('a hub that dies', () => {
  test.concurrent.each(Array.from({ length: TIMES }, (_, i) => i))(
    'after its server took a task tells of it once (%i)',
    { timeout: 120_000 },
    async (mark) => {
      const { world, died, act, arm } = await play('server-answered', mark);
      await arm();
      const ran = [];
      for (let n = 0; n < 4; n++) ran.push(await act(n));
      await check(world, died, ran);
    },
  );

  const places = HUB_FAULTS.filter((name) => name.startsWith('outbox'));
  const cases = places.flatMap((place) => Array.from({ length: TIMES }, (_, mark) => ({ place, mark })));
  test.concurrent.each(cases)(
    'at $place keeps the queue whole and in order ($mark)',
    { timeout: 240_000 },
    async ({ place, mark }) => {
      const { world, died, act, arm, shutServer, openServer } = await play(place, mark);
      await shutServer();
      await arm();
      const ran = [];
      for (let n = 0; n < 3; n++) ran.push(await act(n));
      openServer();
      ran.push(await act(3));
      await world.khlone(['reconnect', 'local'], SLOW);
      await check(world, died, ran);
    },
  );
});
