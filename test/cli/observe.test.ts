import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { createWorld, until, type World } from '../fixtures/khlone.ts';

/** status, queue, list and log over one crew at work. */

let world: World;
const ids: string[] = [];
const act = async (who: string, script: string): Promise<void> => {
  ids.push((await world.khlone(['act', '--quiet', '--who', who, script])).stdout.trim());
};

beforeAll(async () => {
  world = await createWorld();
  await act('mechanic@sh++', 'echo begun; until [ -e go ]; do sleep 0.02; done; echo over');
  await act('mechanic.1', 'echo second');
  await act('mechanic.1', 'echo third');
  await act('reviewer@sh', 'printf "looks "; echo good');
  await world.khlone(['await', ids[3] ?? '']);
  await until('the first to begin', async () => (await world.khlone(['status'])).stdout.includes('●'));
});
afterAll(() => world.dispose());

describe('status', () => {
  test('shows who works, who is idle, and what waits', async () => {
    expect(await world.says(['status'])).toBe(
      [
        'zone @feat/auth (local)',
        '├─ ● mechanic.1  sh  —  echo begun; until [ -e go ]; do sleep 0.02; done; echo over  3 tasks',
        '├─ ○ reviewer.1  sh  —  —',
        '└─ queue  2 tasks',
        '',
      ].join('\n'),
    );
  });

  test('uses letters where the terminal speaks no UTF-8, and cuts lines at its width', async () => {
    const ran = await world.khlone(['status'], { tty: { columns: 40 }, env: { LANG: 'C' } });
    expect(ran.stdout.replaceAll('\r\n', '\n')).toBe(
      [
        'zone @feat/auth (local)',
        '|- * mechanic.1  sh  -  echo begun; unt~',
        '|- o reviewer.1  sh  -  -',
        '`- queue  2 tasks',
        '',
      ].join('\n'),
    );
  });

  test('outside of the worktree names zones by their whole address', async () => {
    const whole = /^zone local\/repo-[0-9a-f]{4}@feat\/auth \(local\)\n/;
    expect(await world.says(['status'], { cwd: world.base })).toMatch(whole);
    expect(await world.says(['status', '--all'])).toMatch(/^zone @feat/);
    const other = world.repository('other');
    await world.khlone(['act', '--who', '@sh', 'true'], { cwd: other });
    expect(await world.says(['status', '--all'])).toMatch(/zone local\/other@feat\/auth/);
    expect(await world.says(['status', '--zone', 'local/other@feat/auth'])).toMatch(/^zone local\/other@/);
    expect(await world.says(['status', 'site'], { cwd: other })).toMatch(/^zone @feat\/auth/);
  });

  test('of a worktree of the same site shows the zones of the site', async () => {
    const origin = 'git@github.com:acme/app.git';
    const [a, b] = [world.repository('a', { origin }), world.repository('b', { origin, branch: 'main' })];
    await world.khlone(['act', '--who', '@sh', 'true'], { cwd: a });
    expect(await world.says(['status'], { cwd: b })).toMatch(/^zone acme\/app@feat\/auth \(local\)\n/);
  });

  test('of one clone and of one task', async () => {
    expect(await world.says(['status', '--who', 'reviewer'])).toMatch(
      /^zone @feat\/auth \(local\)\n├─ ○ reviewer\.1 {2}sh {2}— {2}—\n|└─/,
    );
    const nobody = '! ✗ no clone tester\n!   ↳ the crew: mechanic.1, reviewer.1\n[exit 2]\n';
    expect(await world.says(['status', '--who', 'tester'])).toBe(nobody);
    expect(await world.says(['status', '--who', 'mechanic.1'])).not.toContain('reviewer');
    expect(await world.says(['status', '--task', ids[0] ?? ''])).toMatch(
      /^task-\d+ active\n {2}act by mechanic\.1: echo begun; until .*\n$/,
    );
    expect(await world.says(['status', '--task', 'zzzz'])).toMatch(/^! ✗ no task zzzz\n/);
  });

  test('with --json gives what a script needs', async () => {
    const [{ view, link }] = JSON.parse((await world.khlone(['status', '--json'])).stdout);
    expect(link).toBe('connected');
    expect(view).toMatchObject({ state: 'ready', paused: false, branch: 'feat/auth' });
    expect(view.crew[0]).toMatchObject({ name: 'mechanic.1', state: 'active', queued: 2, task: ids[0] });
  });

  test('of something else is an error', async () => {
    expect(await world.says(['status', 'frob'])).toBe(
      '! ✗ status of what? frob\n!   ↳ orchestrator, site or zone\n[exit 2]\n',
    );
  });

  test('before any zone says how to make one', async () => {
    const fresh = world.repository('fresh');
    expect(await world.says(['status'], { cwd: fresh })).toBe(
      '! no zones yet: khlone act "…" in a repository makes one\n',
    );
    const none = (name: string): string =>
      `! ✗ local/fresh@feat/auth has no zone yet\n!   ↳ khlone init, or the first khlone act makes it\n[exit 2]\n${name.slice(99)}`;
    for (const name of ['log', 'queue', 'crew']) {
      expect(await world.says([name], { cwd: fresh })).toBe(none(name));
    }
  });
});

describe('queue', () => {
  test('lists what runs and what waits, in order', async () => {
    expect(await world.says(['queue'])).toMatch(
      /^task-\d+ {2}mechanic\.1 {2}active {2}echo begun.*\ntask-\d+ {2}mechanic\.1 {2}queued {2}echo second\ntask-\d+ {2}mechanic\.1 {2}queued {2}echo third\n$/,
    );
  });

  test('move puts a task in its place, drop takes it away', async () => {
    const [first = '', second = '', third = ''] = ids;
    expect(world.mask((await world.khlone(['queue', 'move', third, '1'])).stderr)).toMatch(
      /^✓ task-\d+ is at place 1\n$/,
    );
    const order = async (): Promise<string[]> =>
      [...(await world.khlone(['queue'])).stdout.matchAll(/echo (begun|second|third)/g)].map(
        (m) => m[1] ?? '',
      );
    expect(await order()).toEqual(['begun', 'third', 'second']);
    expect(await world.says(['queue', 'move', second, '0'])).toBe(
      '! ✗ 0 is not a place\n!   ↳ khlone queue move TASK 1\n[exit 2]\n',
    );
    expect(await world.says(['queue', 'move', first, '1'])).toMatch(
      /is active and cannot be moved\n[\s\S]*\[exit 3\]\n$/,
    );
    expect(world.mask((await world.khlone(['queue', 'drop', third])).stderr)).toMatch(
      /^✓ task-\d+ cancelled\n$/,
    );
    expect(await order()).toEqual(['begun', 'second']);
  });

  test('pause lets what runs go on and starts nothing else, until resume', async () => {
    const [first = '', second = ''] = ids;
    expect(await world.says(['queue', 'pause'])).toBe('! ✓ queue paused: what runs goes on\n');
    writeFileSync(join(world.repo, 'go'), '');
    expect((await world.khlone(['await', first])).stdout).toBe('begun\nover\n');
    expect(await world.says(['status'])).toBe(
      [
        'zone @feat/auth (local)',
        '├─ ◌ mechanic.1  sh  —  echo second (queue paused)  1 task',
        '├─ ○ reviewer.1  sh  —  —',
        '└─ queue  1 task, paused',
        '',
      ].join('\n'),
    );
    expect(await world.says(['await', second, '--timeout', '100ms'])).toContain('[exit 124]');
    expect(await world.says(['queue', 'resume'])).toBe('! ✓ queue goes on\n');
    expect((await world.khlone(['await', second])).stdout).toBe('second\n');
    expect(await world.says(['queue'])).toBe('! nothing is queued\n');
  });
});

describe('list', () => {
  test('shows sites, zones, crews and tasks in columns, as records for scripts', async () => {
    expect(await world.says(['list', 'zones'])).toMatch(
      /^local\/repo-[0-9a-f]{4}@feat\/auth {2,}local {2}~~\/repo/m,
    );
    expect(await world.says(['list', 'sites'])).toMatch(/^acme\/app$/m);
    expect(await world.says(['list', 'crews'])).toMatch(/@feat\/auth +reviewer\.1 +sh +idle$/m);
    expect(await world.says(['list', 'tasks'])).toMatch(/^task-\d+ +mechanic\.1 +done +echo begun/m);
    const zones = JSON.parse((await world.khlone(['list', '--json'])).stdout);
    expect(zones[0]).toMatchObject({ mode: 'local', host: 'local', root: world.repo });
    expect(await world.says(['list', 'frob'])).toBe(
      '! ✗ list frob?\n!   ↳ sites, zones, crews or tasks\n[exit 2]\n',
    );
  });
});

describe('log', () => {
  const timeless = (text: string): string => text.replace(/\d{4}-\d\d-\d\d \d\d:\d\d:\d\d/g, 'TIME');

  test('of a task shows what was done for it', async () => {
    expect(timeless(await world.says(['log', '--task', ids[0] ?? '']))).toMatch(
      /^\nTIME {2}mechanic\.1 {2}act task-\d+ {2}echo begun; .*\n {2}\$ sh echo begun; .*\n {2}begun\n {2}over\nTIME {2}mechanic\.1: done\n$/,
    );
  });

  test('of the session tells the tasks in the order of the work, each below its own heading', async () => {
    const text = timeless(await world.says(['log']));
    const order = [...text.matchAll(/^TIME {2}(\S+) {2}act|^ {2}(begun|looks good|over|second)$/gm)];
    expect(order.map((m) => m[1] ?? m[2])).toEqual([
      // The dropped task has a heading too, and after it that of the first is repeated.
      ...['mechanic.1', 'begun', 'reviewer.1', 'looks good', 'mechanic.1'],
      ...['mechanic.1', 'over', 'mechanic.1', 'second'],
    ]);
  });

  test('of a clone, of no clone, and as lines of JSON', async () => {
    expect(await world.says(['log', '--who', 'reviewer.1'])).toContain('looks good');
    expect(await world.says(['log', '--who', 'reviewer.1'])).not.toContain('second');
    const lines = (await world.khlone(['log', '--json'])).stdout
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line));
    const seqs = lines.map((line) => line.seq);
    expect(seqs).toEqual([...seqs].sort((a, b) => a - b));
  });

  test('of a session in which nothing was said says so, and where to look', async () => {
    expect(await world.says(['log', '--session', 'elsewhere'])).toBe(
      '! nothing in session elsewhere of this zone; khlone log --all shows every session\n',
    );
  });

  test('with --follow goes on until it is interrupted', async () => {
    const running = world.start(['log', '--follow']);
    await until('the past', () => running.stdout().includes('second'));
    await act('mechanic.1', 'echo fresh-news');
    await until('the present', () => /^ {2}fresh-news$/m.test(running.stdout()));
    running.signal('SIGINT');
    expect((await running.ended).code).toBe(130);
  });

  test('with --follow of one task ends when it has ended', async () => {
    await act('mechanic.1', 'echo begun; until [ -e go-on ]; do sleep 0.05; done; echo over');
    const id = ids.at(-1) ?? '';
    const running = world.start(['log', '--follow', '--task', id]);
    await until('its words', () => /^ {2}begun$/m.test(running.stdout()));
    expect(running.stdout()).not.toMatch(/^ {2}over$/m);
    writeFileSync(join(world.repo, 'go-on'), '');
    const { code, stdout } = await running.ended;
    expect([code, /^ {2}over$/m.test(stdout)]).toEqual([0, true]);
    expect((await world.khlone(['log', '--follow', '--task', id])).stdout).toBe(stdout);
  });
});
