import { readFileSync } from 'node:fs';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { createWorld, until, type World } from '../fixtures/khlone.ts';

/** Whoever stops `khlone watch` while a clone prints without a pause: the hub holds little of what is not read. */

const LONG = process.env.KHLONE_LONG === '1';
const FLOOD_MB = LONG ? 100 : 24;
/** 125 were measured with 24 MB, 138 with 100, of which 50 are the program of Node itself. */
const MOST_HUB_MB = 150;
const LIMIT_MS = LONG ? 600_000 : 120_000;

let world: World;
beforeAll(async () => {
  world = await createWorld();
  await world.khlone(['act', '--who', '@sh', '--await', 'true']);
});
afterAll(() => world.dispose());

const mostMb = (pid: number | undefined): number =>
  Number(/^VmHWM:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, 'latin1'))?.[1]) / 1024;

test('a stopped watch, in a pipe and at a terminal, costs the hub no memory and others no time', {
  timeout: 2 * LIMIT_MS,
}, async () => {
  const piped = world.start(['watch'], { limitMs: 2 * LIMIT_MS });
  const seen = world.start(['watch'], { limitMs: 2 * LIMIT_MS, tty: { columns: 100 } });
  await until('both to watch', () => piped.stderr().includes('watching ') && seen.stdout().length > 0);
  for (const one of [piped, seen]) one.signal('SIGSTOP');
  const hub = world.hubPid();
  const flood = `yes ${'x'.repeat(99)} | head -c ${FLOOD_MB}000000; echo the end`;
  const { code } = await world.khlone(['act', '--who', '@sh', '--await', flood], { limitMs: LIMIT_MS });
  expect(code).toBe(0);
  expect((await world.khlone(['status'])).code).toBe(0);
  expect(world.hubPid()).toBe(hub);
  expect(mostMb(hub)).toBeLessThan(MOST_HUB_MB);
  for (const one of [piped, seen]) one.signal('SIGCONT');
  await until('the end, at last', () => piped.stdout().includes('] the end\n'), LIMIT_MS);
  expect(mostMb(hub)).toBeLessThan(MOST_HUB_MB);
  for (const one of [piped, seen]) one.signal('SIGINT');
  await Promise.all([piped.ended, seen.ended]);
});
