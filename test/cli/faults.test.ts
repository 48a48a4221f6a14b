import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { afterEach, describe, expect, test } from 'vitest';
import { type Entry, openOutbox } from '../../src/client/outbox.ts';
import { createWorld, type Ran, until, type World } from '../fixtures/khlone.ts';
import { waitingTask } from '../fixtures/waiting-task.ts';

/** What a person sees when hub or server die, are not there, or are out of reach. */

const worlds: World[] = [];
const begin = async (): Promise<World> => {
  const world = await createWorld();
  worlds.push(world);
  await world.khlone(['act', '--who', '@sh', '--await', 'true']);
  return world;
};
afterEach(async () => {
  await Promise.all(worlds.splice(0).map((world) => world.dispose()));
});

const ACTS = process.env.KHLONE_LONG === '1' ? 300 : 40;
const SLOW = { limitMs: 60_000 };

const idIn = (text: string): string => /task-[0-9a-z]{10}/.exec(text)?.[0] ?? 'no id';
const linesOf = (path: string): string[] => readFileSync(path, 'utf8').trim().split('\n');

describe('the hub', () => {
  test('that was killed is started again by the next command', async () => {
    const world = await begin();
    await world.kill(world.hubPid());
    expect(await world.khlone(['act', '--who', 'mechanic.1', '--await', 'echo hi'])).toMatchObject({
      stdout: 'hi\n',
    });
  });

  test('that is killed while a command waits is replaced, and the answer comes once', async () => {
    const world = await begin();
    const script = 'echo run >> runs; until [ -e go ]; do sleep 0.02; done; cat runs';
    const running = world.start(['act', '--who', 'mechanic.1', '--await', script]);
    await until('the task to run', () => running.stderr().includes('active…'));
    for (let n = 0; n < 3; n += 1) {
      const before = world.hubPid();
      await world.kill(before);
      await until('another hub', () => world.hubPid() !== undefined && world.hubPid() !== before);
    }
    writeFileSync(join(world.repo, 'go'), '');
    expect(await running.ended).toMatchObject({ code: 0, stdout: 'run\n' });
    expect(running.stderr().match(/✓ task-/g)).toHaveLength(1);
  });

  test('is one, and so is the server, when 50 first acts come at the same moment', async () => {
    const world = await createWorld();
    worlds.push(world);
    const acts = Array.from({ length: 50 }, (_, n) =>
      world.khlone(['act', '--quiet', '--who', 'mechanic@sh', `echo ${n} >> all`], { limitMs: 100_000 }),
    );
    const ran = await Promise.all(acts);
    expect(ran.filter(({ code }) => code !== 0)).toEqual([]);
    expect(new Set(ran.map(({ stdout }) => stdout)).size).toBe(50);
    const last = await world.khlone(['act', '--who', 'mechanic.1', '--await', 'sort -n all'], {
      limitMs: 100_000,
    });
    expect(last.stdout.trim().split('\n')).toEqual(Array.from({ length: 50 }, (_, n) => String(n)));
    expect(world.residents()).toEqual({ hubs: 1, servers: 1 });
  }, 120_000);
});

describe('the server', () => {
  test('that is killed while a command waits is started again, and the task goes on', async () => {
    const world = await begin();
    const script = 'echo run >> runs; until [ -e go ]; do sleep 0.02; done; cat runs';
    const running = world.start(['act', '--who', 'mechanic.1', '--await', script]);
    await until('the task to run', () => running.stderr().includes('active…'));
    await world.kill(world.serverPid());
    await until('the word of it', () => running.stderr().includes('reconnected to local'));
    writeFileSync(join(world.repo, 'go'), '');
    expect(await running.ended).toMatchObject({ code: 0, stdout: 'run\n' });
    expect(running.stderr()).toMatch(
      /\[await\] mechanic\.1: reconnecting to local: the task goes on there\n/,
    );
  });

  test('that cannot start leaves acts queued here, in order, sent once when it can, and refused in sight', async () => {
    const world = await begin();
    await world.khlone(['stop']);
    // Whoever holds the life lock keeps every server from starting.
    const lock = new DatabaseSync(world.home.serverLock, { timeout: 5_000 });
    lock.exec('BEGIN EXCLUSIVE');
    const act = (who: string, script: string): Promise<Ran> =>
      world.khlone(['act', '--who', who, script], SLOW);
    const acts = [
      await act('mechanic.1', 'echo one >> order'),
      await act('mechanic.1', 'echo two >> order'),
      await act('reviewer.7', 'true'),
    ];
    for (const { code, stderr } of acts) {
      expect(code).toBe(0);
      expect(world.mask(stderr)).toMatch(
        /^⚠ task-\d+ → \S+ \(@feat\/auth\) \[queued here: local unreachable\]\n {2}khlone could not be started: /,
      );
    }
    const [first = '', , refused = ''] = acts.map(({ stderr }) => idIn(stderr));
    expect(await world.says(['status', '--task', first], SLOW)).toMatch(
      /^task-\d+ queued here for local: act echo one/,
    );
    lock.close();
    expect(await world.khlone(['act', '--who', 'mechanic.1', '--await', 'cat order'], SLOW)).toMatchObject({
      code: 0,
      stdout: 'one\ntwo\n',
    });
    expect(await world.khlone(['await', first])).toMatchObject({ code: 0 });
    const status = await world.says(['status']);
    expect(status).not.toContain('queued here');
    expect(status).toMatch(/✗ task-\d+ \(act [^)]*\) was refused: no clone reviewer\.7 in this zone/);
    expect(await world.says(['await', refused])).toMatch(
      /^! ✗ no clone reviewer\.7 in this zone\n[\s\S]*\[exit 2\]\n$/,
    );
  }, 120_000);

  test('that forgot the environment, as the hub did, holds the task until a command from the worktree brings it', async () => {
    const world = await begin();
    await world.khlone(['queue', 'pause']);
    const id = (await world.khlone(['act', '--quiet', '--who', 'mechanic.1', 'echo awake'])).stdout.trim();
    await world.kill(world.hubPid());
    await world.kill(world.serverPid());
    // A command from elsewhere starts both; it has no environment for this zone.
    const away = { cwd: world.base };
    await world.khlone(['status'], away);
    const resume = ['queue', 'resume', '--zone', world.repo];
    await world.khlone(resume, away);
    await until('the task to be done, or to say what it needs', async () => {
      const said = (await world.khlone(['status'], away)).stdout;
      return said.includes('needs its environment');
    });
    expect(await world.says(['status'], away)).toMatch(
      /◐ task-\d+ needs its environment.* ↳ any khlone command from a shell in the zone brings it/,
    );
    await world.khlone(['status']);
    expect(await world.khlone(['await', id])).toMatchObject({ code: 0, stdout: 'awake\n' });
  });
});

/** As long as an act takes on a machine that starts hub and server anew for it. */
const KILL_WITHIN_MS = 300;

const killSoon = async (find: () => number | undefined): Promise<void> => {
  await new Promise((resolve) => setTimeout(resolve, Math.random() * KILL_WITHIN_MS));
  try {
    const pid = find();
    if (pid !== undefined) process.kill(pid, 'SIGKILL');
  } catch {
    // It ended by itself in between.
  }
};

test('a task that is sent again after a server was lost, and is refused, is not told as retried', async () => {
  const world = await begin();
  const zone = JSON.parse((await world.khlone(['list', 'tasks', '--json'])).stdout)[0].zone;
  await world.kill(world.hubPid());
  const { call, ...entry } = waitingTask(1, 'local');
  const spec = { id: zone, address: 'local/x@b', branch: 'b', mode: 'local' as const, path: world.repo };
  const params = { ...call.params, zone: spec, who: 'mechanic.9' };
  openOutbox(join(world.home.root, 'outbox')).put({
    ...{ ...entry, sentTo: 'a server that is gone' },
    call: { name: 'task.add', params } as Entry['call'],
  });
  const { id } = params as { id: string } & typeof params;
  await world.khlone(['reconnect', 'local']);
  expect((await world.khlone(['status'])).stdout).toContain(`khlone retry ${id}`);
  expect(await world.khlone(['retry', id])).toMatchObject({
    ...{ code: 2, stdout: '' },
    stderr: expect.stringMatching(/^✗ .*mechanic\.9/),
  });
});

describe('kills at random', () => {
  test('of hub and server lose and double no act of the command line', async () => {
    const world = await begin();
    const ran: Ran[] = [];
    for (let n = 0; n < ACTS; n += 1) {
      const act = world.khlone(['act', '--quiet', '--who', 'mechanic.1', `echo ${n} >> tokens`], SLOW);
      // Somewhere in the middle of this act, or right after it.
      await Promise.all([act, killSoon(() => world.hubPid()), n % 2 && killSoon(() => world.serverPid())]);
      ran.push(await act);
    }
    expect(ran.filter(({ code }) => code !== 0)).toEqual([]);
    await world.khlone(['reconnect', 'local'], SLOW);
    for (const { stdout } of ran) await world.khlone(['await', stdout.trim()], SLOW);
    const tokens = linesOf(join(world.repo, 'tokens'));
    expect(tokens).toEqual([...new Set(tokens)]);
    // An act whose outcome nobody can prove waits for a person: it is neither lost nor run again.
    const { stdout } = await world.khlone(['list', 'tasks', '--json']);
    const states = JSON.parse(stdout).map((task: { state: string }) => task.state);
    const known = states.filter((state: string) => state === 'done' || state === 'unknown');
    expect(known).toHaveLength(states.length);
    expect(tokens.length).toBe(ACTS);
  }, 900_000);
});
