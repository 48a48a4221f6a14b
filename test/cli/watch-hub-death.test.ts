import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { createWorld, until, type World } from '../fixtures/khlone.ts';

/** Watching while hubs are killed: each line comes once and in its place, whatever it was that printed it. */

/** A command whose hubs die at once more often than this gives up. */
const KILLS = 6;
const ROUNDS = process.env.KHLONE_LONG === '1' ? 10 : 1;
const LINES = KILLS * 3;

let world: World;
beforeAll(async () => {
  world = await createWorld();
  await world.khlone(['act', '--who', 'mechanic@sh', '--await', 'true']);
});
afterAll(() => world.dispose());

/** Prints numbered lines, and half of one now and then; each third waits for a file. */
const script = (name: string): string =>
  `n=0; while [ $n -lt ${LINES} ]; do n=$((n+1)); printf 'line %s ' $n; ` +
  `[ $((n % 3)) = 1 ] && until [ -e ${name}-$n ]; do sleep 0.01; done; echo of ${name}; done`;

const numbered = (text: string, name: string): number[] =>
  [...text.matchAll(new RegExp(`line (\\d+) of ${name}$`, 'gm'))].map((found) => Number(found[1]));

const NAMES = Array.from({ length: ROUNDS }, (_, n) => `act${n}`);
const EACH = Array.from({ length: LINES }, (_, n) => n + 1);

/** Lets the script go on step by step, and kills a hub while each step is on its way. */
const goOnUnderKills = async (name: string, told: () => string): Promise<void> => {
  for (let n = 1; n <= LINES; n += 3) {
    await until(`the lines before ${n}`, () => numbered(told(), name).length >= n - 1);
    writeFileSync(join(world.repo, `${name}-${n}`), '');
    await new Promise((resolve) => setTimeout(resolve, Math.random() * 60));
    await until('a hub', () => world.hubPid() !== undefined);
    await world.kill(world.hubPid());
  }
};

describe('while hubs are killed', () => {
  test.each(NAMES)(
    'act --watch tells each line of progress once, and the answer too (%s)',
    async (name) => {
      const running = world.start(['act', '--who', 'mechanic.1', '--watch', '--await', script(name)], {
        limitMs: 60_000,
      });
      await goOnUnderKills(name, running.stderr);
      const { code, stdout, stderr } = await running.ended;
      expect(numbered(stderr, name)).toEqual(EACH);
      expect(numbered(stdout, name)).toEqual(EACH);
      expect(stderr.match(/^\[mechanic\.1\] active$/gm)).toHaveLength(1);
      expect(stderr.match(/^\[await\] mechanic\.1: done$/gm)).toHaveLength(1);
      expect(code).toBe(0);
    },
    90_000,
  );

  test.each([['watch'], ['log', '--follow', '--who', 'mechanic.1']])(
    '%s tells each line once',
    async (...words) => {
      const name = words[0] ?? '';
      const running = world.start(words, { limitMs: 60_000 });
      if (name === 'watch') await until('the view', () => running.stderr().includes('watching '));
      const id = (await world.khlone(['act', '--quiet', '--who', 'mechanic.1', script(name)])).stdout.trim();
      await goOnUnderKills(name, running.stdout);
      expect((await world.khlone(['await', id])).code).toBe(0);
      await until('the end', () =>
        new RegExp(`line ${LINES} of ${name}\\n[^]*(1: done|✓ done)`).test(running.stdout()),
      );
      running.signal('SIGINT');
      const { code, stdout, stderr } = await running.ended;
      expect(numbered(stdout, name)).toEqual(EACH);
      expect(stdout.split(id)).toHaveLength(name === 'watch' ? 4 : 2);
      expect(stderr.split('watching ').length).toBeLessThanOrEqual(2);
      expect(code).toBe(130);
    },
    90_000,
  );
});
