import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { createWorld, until, type World } from '../fixtures/khlone.ts';

/** The command between other programs: pipes that close, input that is missing, signals. */

let world: World;
beforeAll(async () => {
  world = await createWorld();
  await world.khlone(['act', '--who', '@sh', '--await', 'true']);
});
afterAll(() => world.dispose());

const tasks = async (): Promise<{ title: string; state: string }[]> =>
  JSON.parse((await world.khlone(['list', 'tasks', '--json'])).stdout);

describe('a command', () => {
  test('whose output nobody reads still does its work', async () => {
    expect(await world.shellSays('khlone act --who mechanic.1 "true closed" >&- 2>&-; echo $?')).toBe('0\n');
    expect(await world.shellSays('khlone status >&-; echo $?')).toBe('0\n');
    await until('the task', async () =>
      (await tasks()).some((t) => t.title === 'true closed' && t.state === 'done'),
    );
  });

  test('whose input is closed takes its words', async () => {
    expect(await world.shellSays('khlone act --quiet --who mechanic.1 true <&- | wc -l')).toMatch(/^\s*1\n$/);
    expect(await world.shellSays('khlone act --who mechanic.1 <&-')).toMatch(/^! ✗ act what\?\n/);
  });

  test('whose reader goes away ends without a complaint', async () => {
    const line = 'khlone act --who mechanic.1 --await --quiet "seq 300000" | head -1';
    expect(await world.shellSays(line)).toBe('1\n');
    expect(await world.shellSays('khlone log | head -1 | wc -l')).toMatch(/^\s*1\n$/);
  });

  test('in $(…) on a cold machine returns at once, though it starts hub and server', async () => {
    const cold = await createWorld();
    const ran = await cold.sh('x=$(khlone act --who @sh "sleep 30" 2>&1); echo "$x" | wc -l');
    expect(ran.stdout.trim()).toBe('3');
    expect(ran.ms).toBeLessThan(15_000);
    await cold.dispose();
  });

  test('that waits for its input ends at Ctrl-C', async () => {
    const running = world.start(['act', '--who', 'mechanic.1'], { tty: { columns: 80 }, env: {} });
    expect((await running.ended).stdout).toMatch(/✗ act what\?/);
    const piped = world.sh('(sleep 20 & echo $! > pid; wait) | khlone act --who mechanic.1; echo $?');
    await until('the hub to wait for input', async () => {
      const pid = (
        await world.sh(
          'pgrep -f "[b]in/khlone act --who mechanic.1$" || pgrep -f "[k]hlone act --who mechanic.1$"',
        )
      ).stdout
        .trim()
        .split('\n')[0];
      if (!pid) return false;
      process.kill(Number(pid), 'SIGINT');
      return true;
    });
    await world.sh('kill $(cat pid)');
    expect((await piped).stdout.trim()).toBe('130');
  });

  test('never takes git’s variables of its caller for its own', async () => {
    const env = { GIT_DIR: '/nonexistent', GIT_WORK_TREE: '/', GIT_INDEX_FILE: '/dev/null' };
    const ran = await world.khlone(['act', '--who', 'mechanic.1', '--await', 'git status --short | wc -l'], {
      env,
    });
    expect(ran).toMatchObject({ code: 0 });
    expect(ran.stderr).toContain('(@feat/auth)');
  });

  test('at a narrow terminal keeps its lines whole, one below the other', async () => {
    await world.khlone(['act', '--who', 'mechanic.1', `true ${'long '.repeat(30)}`]);
    const { stdout } = await world.khlone(['queue', '--all'], { tty: { columns: 30 } });
    for (const line of stdout.trimEnd().split('\r\n')) expect([...line].length).toBeLessThanOrEqual(30);
  });
});
