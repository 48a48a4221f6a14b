import { existsSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { createWorld, until, type World } from '../fixtures/khlone.ts';

/** Waiting for tasks: the answer, and only the answer, on stdout; exit codes by the table. */

let world: World;
beforeAll(async () => {
  world = await createWorld();
  await world.khlone(['act', '--who', 'mechanic@sh', '--await', 'true']);
});
afterAll(() => world.dispose());

const act = (...args: string[]): string[] => ['act', '--who', 'mechanic.1', ...args];
const idIn = (text: string): string => /task-[0-9a-z]{10}/.exec(text)?.[0] ?? 'no id';
const queued = async (script: string): Promise<string> =>
  idIn((await world.khlone(act('--quiet', script))).stdout);

describe('--await', () => {
  test('prints the answer on stdout and all else on stderr', async () => {
    const ran = await world.khlone(act('--await', 'echo one; echo two; echo noise >&2'));
    expect(ran).toMatchObject({ code: 0, stdout: 'one\ntwo\n' });
    expect(world.mask(ran.stderr)).toMatch(
      /^✓ task-\d+ → mechanic\.1 \(@feat\/auth\)\n\[await\] mechanic\.1: active…\n\[await\] mechanic\.1: done\n$/,
    );
  });

  test('ends with 1 when the task failed, and says why and what next', async () => {
    const ran = await world.khlone(act('--await', 'echo part; echo broken >&2; exit 3'));
    expect(ran).toMatchObject({ code: 1, stdout: 'part\n' });
    expect(ran.stderr).toMatch(/\n✗ exit code 3: broken\n {2}↳ khlone retry task-\w{10}\n$/);
  });

  test('with --quiet prints the answer alone, with --json the task and its answer', async () => {
    expect(await world.says(act('--await', '--quiet', 'echo hi'))).toBe('hi\n');
    const { stdout, stderr } = await world.khlone(act('--await', '--json', 'echo hi'));
    expect(stderr).toBe('');
    expect(JSON.parse(stdout)).toMatchObject({
      state: 'done',
      answer: 'hi',
      clone: 'mechanic.1',
      kind: 'act',
    });
  });

  test('with --watch shows what is done on stderr while it is done', async () => {
    const running = world.start(
      act('--await', '--watch', 'echo begun; until [ -e seen ]; do sleep 0.02; done'),
    );
    await until('the first line', () => running.stderr().includes('[mechanic.1] begun'));
    writeFileSync(join(world.repo, 'seen'), '');
    expect(await running.ended).toMatchObject({ code: 0, stdout: 'begun\n' });
    expect(running.stderr()).toMatch(
      /\[mechanic\.1\] active\n\[mechanic\.1\] sh echo begun.*\n\[mechanic\.1\] begun\n/,
    );
  });

  test('with an answer of several MB prints all of it', async () => {
    const ran = await world.khlone(act('--await', '--quiet', 'seq 400000'));
    expect(ran.stdout.split('\n')).toHaveLength(400_001);
    expect(ran.stdout.endsWith('399999\n400000\n')).toBe(true);
  });

  test('says that the task is queued, not that it is active, while others go first', async () => {
    const first = await queued('until [ -e go-1 ]; do sleep 0.02; done');
    const running = world.start(act('--await', 'echo mine'));
    await until('the word queued', () =>
      running.stderr().includes('[await] mechanic.1: queued, 1 before it…\n'),
    );
    writeFileSync(join(world.repo, 'go-1'), '');
    expect((await running.ended).stdout).toBe('mine\n');
    expect(running.stderr()).toMatch(/queued, 1 before it…\n\[await\] mechanic\.1: active…\n/);
    expect((await world.khlone(['await', first])).code).toBe(0);
  });
});

describe('--timeout', () => {
  test('ends the waiting with 124, and the task goes on', async () => {
    const ran = await world.khlone(
      act('--await', '--timeout', '200ms', 'until [ -e go-2 ]; do sleep 0.02; done; echo x > made-2'),
    );
    expect(ran.code).toBe(124);
    expect(ran.stderr).toMatch(
      /\n✗ task-\w{10} is not done yet; it goes on\n {2}↳ khlone await task-\w{10}\n$/,
    );
    writeFileSync(join(world.repo, 'go-2'), '');
    expect(await world.khlone(['await', idIn(ran.stderr)])).toMatchObject({ code: 0 });
    expect(existsSync(join(world.repo, 'made-2'))).toBe(true);
  });
});

describe('--limit', () => {
  test('ends the task itself, with 124', async () => {
    const ran = await world.khlone(act('--await', '--limit', '300ms', 'sleep 60'));
    expect(ran.code).toBe(124);
    expect(ran.stderr).toMatch(/\n✗ the limit of the task passed\n {2}↳ khlone retry task-\w{10}\n$/);
    expect(await world.khlone(['await', idIn(ran.stderr)])).toMatchObject({ code: 124 });
  });

  test('that is no duration is refused', async () => {
    expect(await world.says(act('--limit', 'soon', 'true'))).toBe(
      '! ✗ --limit soon is not a duration\n!   ↳ such as 90s, 10m or 4h\n[exit 2]\n',
    );
  });
});

describe('Ctrl-C', () => {
  test('while the hub starts ends the command at once, and not when it is up', async () => {
    const cold = await createWorld();
    try {
      const running = cold.start(['list', 'zones'], { limitMs: 5_000 });
      await until('the hub to start', () => cold.hubPid() !== undefined);
      process.kill(cold.hubPid() ?? 0, 'SIGSTOP');
      running.signal('SIGINT');
      expect(await running.ended).toMatchObject({ code: 130, stdout: '', stderr: '' });
    } finally {
      await cold.dispose();
    }
  });

  test('ends the waiting with 130, and the task goes on', async () => {
    const running = world.start(act('--await', 'until [ -e go-3 ]; do sleep 0.02; done; echo done-3'));
    await until('the task to run', () => running.stderr().includes('active…'));
    running.signal('SIGINT');
    expect((await running.ended).code).toBe(130);
    writeFileSync(join(world.repo, 'go-3'), '');
    expect(await world.khlone(['await', idIn(running.stderr())])).toMatchObject({
      code: 0,
      stdout: 'done-3\n',
    });
  });
});

describe('await', () => {
  test('takes any unique prefix of an id, with and without "task-"', async () => {
    const id = await queued('echo by prefix');
    for (const prefix of [id, id.slice(0, 12), id.slice('task-'.length, 12)]) {
      expect(await world.khlone(['await', prefix])).toMatchObject({ code: 0, stdout: 'by prefix\n' });
    }
  });

  test('of several or of none is an error that says so', async () => {
    const firsts = new Map<string, number>();
    const shared = (): string | undefined => [...firsts].find(([, count]) => count > 1)?.[0];
    while (shared() === undefined) {
      const first = (await queued('true'))['task-'.length] ?? '';
      firsts.set(first, (firsts.get(first) ?? 0) + 1);
    }
    expect(await world.says(['await', shared() ?? ''])).toMatch(
      /^! ✗ . names several tasks\n! {3}↳ one of (task-\d+(, )?)+.*\n\[exit 2\]\n$/,
    );
    expect(await world.says(['await', 'zzzz'])).toBe(
      '! ✗ no task zzzz\n!   ↳ khlone list tasks shows the known ones\n[exit 2]\n',
    );
  });

  test.each(['', 'task-'])(
    'of a task that is not named at all ("%s") ends none, even where there is one',
    async (word) => {
      const cwd = world.repository(`lonely-${word}`);
      const env = { KHLONE_HOME: join(world.base, `home-${word}`) };
      const id = (await world.khlone(['act', '--quiet', '--who', '@sh', 'true'], { cwd, env })).stdout.trim();
      const said = '! ✗ which task?\n!   ↳ khlone list tasks shows the known ones\n[exit 2]\n';
      for (const words of [['cancel'], ['retry'], ['await'], ['queue', 'drop']]) {
        expect(await world.says([...words, word], { cwd, env })).toBe(said);
      }
      expect(id).toMatch(/^task-/);
      await world.khlone(['stop'], { cwd, env });
    },
  );

  test('of an ended task answers at once, as often as it is asked', async () => {
    const id = await queued('echo again');
    await world.khlone(['await', id]);
    expect(await world.says(['await', id])).toBe('again\n! [await] mechanic.1: done\n');
  });
});

describe('cancel', () => {
  test('takes a waiting task off its queue, and stops a running one', async () => {
    const running = await queued('echo begun; sleep 60');
    const waiting = await queued('echo never > never');
    expect(world.mask((await world.khlone(['cancel', waiting])).stderr)).toMatch(/^✓ task-\d+ cancelled\n$/);
    expect(world.mask((await world.khlone(['cancel', running])).stderr)).toMatch(
      /^✓ task-\d+ (is being stopped|cancelled)\n$/,
    );
    expect(await world.khlone(['await', running])).toMatchObject({ code: 1 });
    expect(await world.says(['await', waiting])).toBe('! ✗ cancelled\n[exit 1]\n');
    expect(existsSync(join(world.repo, 'never'))).toBe(false);
  });

  test('of a done task says that it is', async () => {
    const id = await queued('true');
    await world.khlone(['await', id]);
    expect(world.mask((await world.khlone(['cancel', id])).stderr)).toMatch(/^✓ task-\d+ is already done\n$/);
  });
});

describe('retry', () => {
  test('dispatches an ended task again, as a task of its own', async () => {
    const id = await queued('echo turn >> turns; wc -l < turns');
    await world.khlone(['await', id]);
    const again = await world.khlone(['retry', id]);
    expect(world.mask(again.stderr)).toMatch(/^✓ task-\d+ → mechanic\.1 \(@feat\/auth\) \[retry\]\n$/);
    expect(idIn(again.stderr)).not.toBe(id);
    expect((await world.khlone(['await', idIn(again.stderr)])).stdout).toBe('2\n');
  });

  test('of a task that runs is refused', async () => {
    const id = await queued('until [ -e go-4 ]; do sleep 0.02; done');
    await until('the start', async () =>
      (await world.khlone(['status', '--task', id])).stdout.includes('active'),
    );
    expect(await world.says(['retry', id])).toMatch(
      /^! ✗ task-\d+ is active\n! {3}↳ khlone await task-\d+\n\[exit 3\]\n$/,
    );
    writeFileSync(join(world.repo, 'go-4'), '');
  });
});
