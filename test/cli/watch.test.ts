import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { createWorld, type Running, until, type World } from '../fixtures/khlone.ts';

/** `khlone watch` in a pipe: whose events, how many of them, and in which form. */

let world: World;
beforeAll(async () => {
  world = await createWorld();
  for (const who of ['mechanic@sh', 'reviewer@sh'])
    await world.khlone(['act', '--who', who, '--await', 'true']);
});
afterAll(() => world.dispose());

const act = (who: string, script: string, cwd = world.repo) =>
  world.khlone(['act', '--who', who, '--await', script], { cwd });

const begin = async (flags: readonly string[], zones = 1): Promise<Running> => {
  const running = world.start(['watch', ...flags], { limitMs: 60_000 });
  await until('all zones', () => running.stderr().split('watching ').length > zones);
  return running;
};

/** Watches while something is done, until the last of it is told; what was printed. */
const watched = async (
  flags: readonly string[],
  last: string,
  doing: () => Promise<unknown>,
): Promise<string> => {
  const running = await begin(flags);
  await doing();
  await until(last, () => running.stdout().includes(last));
  running.signal('SIGINT');
  expect((await running.ended).code).toBe(130);
  return world.mask(running.stdout());
};

const two = async (): Promise<void> => {
  await act('mechanic.1', 'echo "of one"; echo "of two"');
  await act('reviewer.1', 'echo "of three"; exit 2');
};

describe('watch', () => {
  test('ends with its zone, and tells of one that is made again once, from its beginning', async () => {
    const cwd = world.repository('gone');
    await act('@sh', 'echo before', cwd);
    const one = world.start(['watch'], { cwd });
    await until('one zone', () => one.stderr().includes('watching '));
    const running = await begin(['--all'], 2);
    await world.khlone(['zone', 'del', '--force', '--yes'], { cwd });
    expect(await one.ended).toMatchObject({
      code: 2,
      stderr: expect.stringContaining('has no zone any more'),
    });
    await until('the end of it', () => running.stderr().includes('was deleted'));
    await act('@sh', 'echo again', cwd);
    await until('the new one', () => running.stdout().includes('] again\n'));
    await act('@sh', 'echo last', cwd);
    await until('what came last', () => running.stdout().includes('] last\n'));
    running.signal('SIGINT');
    const { stdout } = await running.ended;
    expect(stdout).not.toContain('before');
    expect(stdout.match(/\] (again|last)$/gm)).toHaveLength(2);
  });

  test('tells in a pipe what each clone does, and what becomes of its task', async () => {
    expect(await watched([], '✗', two)).toMatch(
      new RegExp(
        [
          '^\\[mechanic\\.1\\] ◌ queued {2}act (task-\\d+) echo "of one"; echo "of two"',
          '\\[mechanic\\.1\\] ● active {2}act \\1 echo .*',
          '\\[mechanic\\.1\\] sh echo "of one"; echo "of two"',
          '\\[mechanic\\.1\\] of one',
          '\\[mechanic\\.1\\] of two',
          '\\[mechanic\\.1\\] ✓ done {2}act \\1 echo .*',
          '\\[reviewer\\.1\\] ◌ queued {2}act (task-\\d+) echo .*',
          '\\[reviewer\\.1\\] ● active {2}act \\2 echo .*',
          '\\[reviewer\\.1\\] sh echo .*',
          '\\[reviewer\\.1\\] of three',
          '\\[reviewer\\.1\\] failed: exit code 2',
          '\\[reviewer\\.1\\] ✗ failed: exit code 2 {2}act \\2 echo .*\n$',
        ].join('\n'),
      ),
    );
  });

  test('of one clone or one role passes over the others', async () => {
    for (const who of ['reviewer', 'reviewer.1']) {
      const text = await watched(['--who', who], '✗', two);
      expect(text).toContain('[reviewer.1] of three\n');
      expect(text).not.toContain('mechanic');
    }
  });

  test('of a name that nobody has says who is here, and of no name at all how one looks', async () => {
    const running = await begin(['--who', 'mecanic']);
    await until('the word', () =>
      running.stderr().includes('⚠ no such clone here yet; the crew: mechanic.1, reviewer.1\n'),
    );
    running.signal('SIGINT');
    await running.ended;
    expect(await world.says(['watch', '--who', '@sh'])).toBe(
      '! ✗ "@sh" names no clone to watch\n!   ↳ a clone, a role or the hero: mechanic.1, mechanic, hero\n[exit 2]\n',
    );
  });

  test('of the hero tells what the hero does, by either of its names, also where it is enrolled meanwhile', async () => {
    const cwd = world.repository('heroic');
    await world.khlone(['config', 'set', 'default-brain', 'sh']);
    await world.khlone(['act', '--who', 'reviewer', '--await', 'true'], { cwd });
    for (const name of ['hero', 'clone.0']) {
      const running = world.start(['watch', '--who', name], { cwd });
      await until('the view', () => running.stderr().includes('watching '));
      await act('reviewer.1', 'echo of another', cwd);
      await world.khlone(['act', '--await', 'echo of the hero'], { cwd });
      await until('the end', () => running.stdout().includes('✓ done'));
      running.signal('SIGINT');
      await running.ended;
      expect(running.stdout()).toContain('[mechanic.1] of the hero\n');
      expect(running.stdout()).not.toContain('reviewer');
      expect(await world.says(['log', '--who', name], { cwd })).toMatch(/^ {2}of the hero$/m);
    }
    expect(await world.says(['log', '--who', 'hero'], { cwd })).not.toContain('reviewer');
    expect(await world.says(['log', '--who', 'reviewer'], { cwd })).not.toContain('hero');
    expect(await world.says(['log', '--who', 'nobody.1'], { cwd })).toBe(
      '! ⚠ no such clone here; the crew: mechanic.1, reviewer.1\n',
    );
    await world.khlone(['config', 'unset', 'default-brain']);
  });

  test('tells less and more, by its flag and by the setting', async () => {
    const lines = async (...flags: string[]): Promise<number> =>
      (await watched(flags, '✗', two)).trim().split('\n').length;
    const normal = await lines();
    expect(await watched(['--verbosity', 'quiet'], '✗', two)).toMatch(
      /^\[mechanic\.1\] ✓ done .*\n\[reviewer\.1\] ✗ failed: exit code 2 .*\n$/,
    );
    expect(await lines('--verbosity', 'verbose')).toBeGreaterThan(normal);
    await world.khlone(['config', 'set', 'verbosity', 'quiet']);
    expect(await lines()).toBe(2);
    await world.khlone(['config', 'unset', 'verbosity']);
    expect(await world.says(['watch', '--verbosity', 'loud'])).toBe(
      '! ✗ --verbosity loud?\n!   ↳ quiet, normal, verbose, raw\n[exit 2]\n',
    );
  });

  test('gives a script every event as a line of JSON with its zone', async () => {
    const text = await watched(['--json'], '"failed"', two);
    const items = text
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line));
    expect(new Set(items.map(({ zone }) => zone))).toEqual(new Set([expect.stringMatching(/@feat\/auth$/)]));
    const seqs: number[] = items.map(({ seq }) => seq);
    expect(seqs).toEqual(seqs.map((_, n) => (seqs[0] ?? 0) + n));
  });

  test('of all zones names each one’s lines after it', async () => {
    const other = world.repository('other', { branch: 'main' });
    await world.khlone(['act', '--who', '@sh', '--await', 'true'], { cwd: other });
    const running = await begin(['--all'], 2);
    await act('mechanic.1', 'echo here');
    await act('mechanic.1', 'echo there', other);
    await until('both', () => running.stdout().split('✓').length === 3);
    const third = world.repository('third', { branch: 'main' });
    await world.khlone(['act', '--who', '@sh', '--await', 'echo later'], { cwd: third });
    await until('one that was made since', () => running.stdout().split('✓').length === 4);
    expect(running.stdout()).toMatch(/^\[third@main mechanic\.1\] ◌ queued/m);
    running.signal('SIGINT');
    await running.ended;
    expect(running.stdout()).toMatch(/^\[repo-[0-9a-f]{4}@feat\/auth mechanic\.1\] here$/m);
    expect(running.stdout()).toMatch(/^\[other@main mechanic\.1\] there$/m);
  });

  test('ends when its reader has gone, and the work goes on', async () => {
    const piped = world.sh('khlone watch --verbosity quiet 2>begun | head -1');
    await until('the view', async () => (await world.sh('cat begun')).stdout.includes('watching'));
    const doing = async (): Promise<void> => {
      for (let ended = false; !ended; ) {
        await act('mechanic.1', 'true');
        ended = await Promise.race([
          piped.then(() => true),
          new Promise<boolean>((r) => setImmediate(r, false)),
        ]);
      }
    };
    await doing();
    expect((await piped).stdout).toMatch(/^\[mechanic\.1\] ✓ done .*\n$/);
  });

  test('where there is no zone says how to make one', async () => {
    const fresh = world.repository('fresh');
    expect(await world.says(['watch'], { cwd: fresh })).toBe(
      '! ✗ local/fresh@feat/auth has no zone yet\n!   ↳ khlone init, or the first khlone act makes it\n[exit 2]\n',
    );
  });

  test('goes on when the server dies, with a word and without a gap', async () => {
    const running = await begin([]);
    await act('mechanic.1', 'echo before');
    await until('the first', () => running.stdout().includes('] before'));
    await world.kill(world.serverPid());
    await until('the word', () => running.stderr().includes('⚠ reconnecting to khlone-server'));
    await act('mechanic.1', 'echo after');
    await until('the second', () => running.stdout().includes('] after'));
    running.signal('SIGINT');
    await running.ended;
    expect(running.stderr()).toMatch(
      /⚠ reconnecting to khlone-server: .*\n✓ reconnected to khlone-server\n$/,
    );
    expect(running.stdout().match(/\] (before|after)$/gm)).toEqual(['] before', '] after']);
  });
});
