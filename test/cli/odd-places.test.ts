import { mkdirSync, readdirSync, utimesSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { createWorld, type World } from '../fixtures/khlone.ts';

/** Homes, folders and words that nobody means, and that happen. */

let world: World;
beforeAll(async () => {
  world = await createWorld();
  await world.khlone(['act', '--who', '@sh', '--await', 'true']);
});
afterAll(() => world.dispose());

describe('a home', () => {
  test('whose path no socket can have runs tasks, as confined as any other', async () => {
    const KHLONE_HOME = join(world.base, 'x'.repeat(150), 'y'.repeat(100));
    mkdirSync(KHLONE_HOME, { recursive: true });
    const env = { KHLONE_HOME };
    const short = await world.khlone(['doctor', '--json']);
    try {
      const ran = await world.khlone(['act', '--who', '@sh', '--await', 'true'], { env, limitMs: 30_000 });
      expect(ran.stderr).toContain('mechanic.1: done');
      const long = await world.khlone(['doctor', '--json'], { env });
      const viewIn = (text: string): unknown =>
        (JSON.parse(text) as { what: string; ok: boolean }[]).find(({ what }) => /view|sandbox/.test(what))
          ?.ok;
      expect(viewIn(long.stdout)).toBe(viewIn(short.stdout));
    } finally {
      await world.khlone(['stop'], { env });
    }
  }, 60_000);

  test('that is a file is told as such', async () => {
    const KHLONE_HOME = join(world.base, 'file');
    writeFileSync(KHLONE_HOME, '');
    expect(await world.says(['status'], { env: { KHLONE_HOME } })).toMatch(
      /^! ✗ .*file.*\n! {3}↳ (set KHLONE_HOME|chmod)/,
    );
  });
});

test('the mailboxes of shells that are long gone go with the next hub', async () => {
  const mail = join(world.env.KHLONE_HOME ?? '', 'shell', 'mail');
  mkdirSync(mail, { recursive: true, mode: 0o700 });
  for (const name of ['gone', 'there']) writeFileSync(join(mail, name), '1\ts\n', { mode: 0o600 });
  utimesSync(join(mail, 'gone'), 1, 1);
  await world.khlone(['stop']);
  await world.khlone(['status']);
  expect(readdirSync(mail)).toEqual(['there']);
});

test('a zone that was deleted and made again over a linked worktree may commit there', async () => {
  const commit = 'git -c user.name=n -c user.email=n@e.invalid commit -q --allow-empty -m made';
  const act = `khlone act --who @sh --await '${commit}; git log --format=%s'`;
  const made = `git init -q -b main main && cd main && ${commit} && cd .. && git init -q -b main place`;
  expect((await world.sh(`${made} && cd place && ${commit} && ${act}`)).stdout).toBe('made\nmade\n');
  const again = 'cd place && khlone zone del --force && cd .. && rm -rf place';
  const linked = 'git -C main worktree add -q -b linked ../place && cd place';
  expect((await world.sh(`${again} && ${linked} && ${act}`)).stdout).toBe('made\nmade\n');
}, 60_000);

describe('a command', () => {
  test('takes ten thousand words', async () => {
    const ran = await world.sh('khlone act --quiet --who @sh -- true $(seq 10000) | wc -l');
    expect(ran.stdout.trim()).toBe('1');
  });

  test('from a folder that is gone says so', async () => {
    const said = await world.shellSays('mkdir gone && cd gone && rmdir ../gone && khlone status');
    expect(said).toMatch(/^! ✗ the folder that this shell stands in is gone\n/);
  });
});
