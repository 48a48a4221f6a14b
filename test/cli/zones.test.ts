import { existsSync, mkdirSync, readFileSync, realpathSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { createWorld, until, type World } from '../fixtures/khlone.ts';

/** init, halt, drop, crew and sessions. */

let world: World;
beforeAll(async () => {
  world = await createWorld();
});
afterAll(() => world.dispose());

const begun = async (script: string): Promise<void> => {
  const running = world.start(['act', '--who', 'mechanic.1', '--watch', `echo begun; ${script}`]);
  await until('the task to begin', () => running.stderr().includes('] begun'));
  running.signal('SIGINT');
  await running.ended;
};

describe('init', () => {
  test('makes the zone, changes nothing the second time, and writes the binding', async () => {
    expect(await world.says(['init'])).toBe('! ✓ init @feat/auth (local)\n');
    expect(await world.says(['zone', 'set'])).toBe('! ✓ zone @feat/auth (local)\n');
    expect(await world.says(['status'])).toBe('zone @feat/auth (local)\n└─ no clones yet\n');
    const { zone, made } = JSON.parse((await world.khlone(['init', '--json'])).stdout);
    expect([zone, made]).toEqual([expect.stringMatching(/@feat\/auth$/), false]);
    expect(readFileSync(join(world.repo, '.khlone/.bind.worksite/zone.yml'), 'utf8')).toContain(`"${zone}"`);
    expect(world.git(['status', '--short'])).toBe('');
  });

  test('--branch on the branch of the zone changes nothing, nor does one that fails', async () => {
    const cwd = world.repository('same');
    await world.khlone(['act', '--who', '@sh', '--await', 'echo kept'], { cwd });
    await world.khlone(['init', '--branch'], { cwd });
    expect(await world.says(['log'], { cwd })).toContain('kept');
    writeFileSync(join(cwd, 'khlone.yml'), 'zone: [');
    expect((await world.khlone(['init', '--branch'], { cwd })).code).toBe(2);
    writeFileSync(join(cwd, 'khlone.yml'), '');
    expect(await world.says(['list', 'zones'])).toContain('same@');
    expect(await world.says(['log'], { cwd })).toContain('kept');
  });

  test('in a linked worktree keeps the binding out of git too', async () => {
    const linked = join(world.base, 'linked');
    world.git(['worktree', 'add', '-q', '-b', 'fix/two', linked]);
    expect(
      await world.says(['act', '--who', '@sh', '--await', 'git rev-parse --abbrev-ref HEAD'], {
        cwd: linked,
      }),
    ).toMatch(/^fix\/two\n! ✓ init @fix\/two → mechanic\.1\n/);
    const binding = join(linked, '.khlone/.bind.worksite/zone.yml');
    await until('the binding', () => existsSync(binding));
    expect(world.git(['status', '--short'], linked)).toBe('');
  });

  test('gives the clones the environment of this shell anew', async () => {
    const say = async (): Promise<string> =>
      (
        await world.khlone(['act', '--who', '@sh', '--await', 'echo colour: $COLOUR'], {
          env: { COLOUR: 'red' },
        })
      ).stdout;
    expect(await say()).toBe('colour:\n');
    await world.khlone(['init'], { env: { COLOUR: 'blue' } });
    await world.khlone(['crew', 'add', '--role', 'tester', '--brain', 'sh']);
    expect((await world.khlone(['act', '--who', 'tester', '--await', 'echo $COLOUR'])).stdout).toBe('blue\n');
  });
});

describe('a zone', () => {
  test('is found by its address, by a path and by KHLONE_ZONE, and receipts repeat what was typed', async () => {
    const address = `local/${world.repo.split('/').at(-1)}@feat/auth`;
    const elsewhere = { cwd: world.base };
    const pwd = ['act', '--who', 'mechanic.1', '--await', 'pwd'];
    for (const zone of [address, world.repo]) {
      const ran = await world.khlone([...pwd, '--zone', zone], elsewhere);
      expect(ran.stdout).toBe(`${realpathSync(world.repo)}\n`);
      expect(ran.stderr).toContain(`→ mechanic.1 (${address})`);
    }
    const byVariable = await world.khlone(pwd, { ...elsewhere, env: { KHLONE_ZONE: address } });
    expect(byVariable.stdout).toBe(`${realpathSync(world.repo)}\n`);
    expect((await world.khlone([...pwd, '--zone', '@feat/auth'])).stderr).toContain('(@feat/auth)');
  });

  test('is not found by the end of its address: nothing is dispatched before that is told', async () => {
    const elsewhere = { cwd: world.base };
    for (const words of [
      ['status'],
      ['act', '--who', 'mechanic.1', 'touch astray'],
      ['drop', '--force', '--yes'],
    ]) {
      const ran = await world.khlone([...words, '--zone', 'auth'], elsewhere);
      expect(ran).toMatchObject({
        code: 2,
        stdout: '',
        stderr: expect.stringMatching(/^✗ "auth" is no zone address/),
      });
    }
    expect((await world.khlone(['queue', '--all'])).stdout).not.toContain('astray');
  });

  test('of several repositories of one name is the one in the same org', async () => {
    const named = (org: string) => world.repository(`name-${org}`, { origin: `git@host:${org}/name.git` });
    const [one, two] = [named('one'), named('two')];
    for (const cwd of [one, two]) await world.khlone(['init'], { cwd });
    const says = (cwd: string) => world.says(['status', '--zone', 'name@feat/auth'], { cwd });
    expect(await says(one)).toMatch(/^zone one\/name@feat\/auth /);
    expect(await says(two)).toMatch(/^zone two\/name@feat\/auth /);
    expect(await says(world.base)).toMatch(/names several zones\n.* one\/name@.*, two\/name@/);
  });

  test('that is not known is an error with the known ones', async () => {
    expect(await world.says(['act', '--zone', '@nope', 'x'])).toMatch(
      /^! ✗ no zone @nope on this machine\n! {3}↳ known: local\/.*; khlone init in its worktree makes one\n\[exit 2\]\n$/,
    );
  });

  test('stays the same when its branch is switched; only its address changes', async () => {
    const repo = world.repository('switching');
    await world.khlone(['act', '--who', '@sh', '--await', 'true'], { cwd: repo });
    world.git(['switch', '-q', '-c', 'other'], repo);
    expect(await world.says(['act', '--who', 'mechanic.1', 'true'], { cwd: repo })).toMatch(
      /→ mechanic\.1 \(@other\)\n$/,
    );
    expect(await world.says(['status'], { cwd: repo })).toMatch(/^zone @other \(local\)\n/);
  });

  test('may lie at any path, and a clone works in it', async () => {
    for (const name of ['with space', `quo'te"s`, 'new\nline', 'ünï-☃', '-dash', '$(touch pwned)', 'a;b&c']) {
      const cwd = world.repository(name);
      mkdirSync(join(cwd, 'deep'));
      const ran = await world.khlone(['act', '--who', '@sh', '--await', 'echo hi > made; pwd'], {
        cwd: join(cwd, 'deep'),
      });
      expect(ran.stdout).toBe(`${cwd}\n`);
      expect(existsSync(join(cwd, 'made'))).toBe(true);
      expect((await world.khlone(['status'], { cwd })).stdout.split('\n')).toHaveLength(3);
    }
    expect(existsSync(join(world.base, 'pwned'))).toBe(false);
  });
});

describe('halt', () => {
  test('ends what runs, keeps the queue, and an act there queues and names the command that starts it', async () => {
    const repo = world.repository('halting');
    const at = { cwd: repo };
    await world.khlone(['act', '--who', '@sh', '--await', 'true'], at);
    expect(await world.says(['halt'], at)).toBe('! ✓ halted @feat/auth; khlone init starts it again\n');
    expect(await world.says(['act', '--who', 'mechanic.1', 'echo woken'], at)).toMatch(
      /^! ✓ task-\d+ → mechanic\.1 \(@feat\/auth\)\n! {3}the zone is halted: khlone init starts it again\n$/,
    );
    expect(await world.says(['status'], at)).toBe(
      [
        'zone @feat/auth (local) — halted',
        '├─ ◌ mechanic.1  sh  —  echo woken (halted)  1 task',
        '└─ queue  1 task',
        '',
      ].join('\n'),
    );
    expect(await world.says(['init'], at)).toBe('! ✓ zone @feat/auth (local)\n');
    const waiting = JSON.parse((await world.khlone(['list', 'tasks', '--json'], at)).stdout);
    const id = waiting.find((task: { title: string }) => task.title === 'echo woken').id;
    expect((await world.khlone(['await', id])).stdout).toBe('woken\n');
  });
});

describe('drop', () => {
  test('refuses while a task runs, and with --force ends it; the worktree stays', async () => {
    await begun('sleep 60');
    expect(await world.says(['drop'])).toMatch(
      /^! ✗ local\/repo-\w+@feat\/auth has 1 task that did not end\n! {3}↳ khlone queue, or khlone zone del --force\n\[exit 3\]\n$/,
    );
    expect(await world.says(['zone', 'del', '--force'])).toMatch(
      /^! ✓ deleted zone local\/repo-\w+@feat\/auth\n$/,
    );
    expect(existsSync(join(world.repo, 'README.md'))).toBe(true);
    expect(existsSync(join(world.repo, '.khlone/.bind.worksite'))).toBe(false);
    expect(await world.says(['crew'])).toMatch(/^! ✗ .* has no zone yet\n/);
    expect(await world.says(['act', '--who', '@sh', 'true'])).toContain('✓ init @feat/auth');
  });
});

describe('crew', () => {
  test('add enrolls, get shows, del lets go; a busy clone needs --force', async () => {
    const cwd = world.repository('crewed');
    const says = (...args: string[]): Promise<string> => world.says(args, { cwd });
    expect(await says('crew', 'add', '--role', 'tester', '--brain', 'sh')).toBe(
      '! ✓ enrolled tester.1 on sh\n',
    );
    expect(await says('crew', 'add', '--role', 'reviewer', '--brain', 'sh', '--quiet')).toBe('reviewer.1\n');
    expect(await says('crew')).toBe('○ reviewer.1  sh  —  —\n○ tester.1    sh  —  —\n');
    expect(JSON.parse(await says('crew', 'get', '--json'))).toMatchObject([
      { name: 'reviewer.1' },
      { name: 'tester.1', role: 'tester', brain: 'sh', state: 'idle', queued: 0 },
    ]);
    await world.khlone(['act', '--who', 'tester.1', 'sleep 60'], { cwd });
    expect(await says('crew', 'del', 'tester.1')).toBe(
      '! ✗ tester.1 has 1 task\n!   ↳ khlone crew del tester.1 --force cancels them\n[exit 3]\n',
    );
    expect(await says('crew', 'del', 'tester.1', '--force')).toBe('! ✓ let go: tester.1\n');
    expect(await says('crew', 'del', '--role', 'reviewer', '--all')).toBe('! ✓ let go: reviewer.1\n');
    expect(await says('crew')).toBe('! no clones yet: khlone act "…" enrolls one\n');
    expect(await says('crew', 'del', 'tester.1')).toMatch(/^! ✗ no clone tester\.1 in this zone\n/);
    // Indices are never used again.
    expect(await says('crew', 'add', '--role', 'tester', '--brain', 'sh', '--quiet')).toBe('tester.2\n');
  });

  test('with words that mean nothing says what it wants', async () => {
    expect(await world.says(['crew', 'del'])).toMatch(/^! ✗ which clone\?\n/);
    expect(await world.says(['crew', 'del', 'tester.1', 'mech'])).toBe(
      `! ✗ "mech" is no clone's name\n!   ↳ khlone crew shows the names; khlone crew del NAME, or --role ROLE --all\n[exit 2]\n`,
    );
    expect(await world.says(['crew', 'add'])).toBe(
      '! ✗ crew add needs --role\n!   ↳ khlone crew add --help\n[exit 2]\n',
    );
    expect(await world.says(['crew', 'add', '--role', 'plumber', '--brain', 'sh'])).toMatch(
      /^! ✗ no role named plumber\n! {3}↳ known roles: foreman, /,
    );
  });
});

describe('the session of a task', () => {
  const sessionOf = async (args: string[], env: Record<string, string> = {}): Promise<string> => {
    const given = ['act', '--who', '@sh', '--await', '--json', 'true', ...args];
    return JSON.parse((await world.khlone(given, { env })).stdout).session;
  };

  test('is that of the flag, of the variable, of the shell, of the worktree, or a new one, in this order', async () => {
    const all = { KHLONE_SESSION: 'by-variable', KHLONE_SHELL: 'shell-1' };
    expect(await sessionOf(['--session', 'by-flag'], all)).toBe('by-flag');
    expect(await sessionOf([], all)).toBe('by-variable');
    const own = await sessionOf([], { KHLONE_SHELL: 'shell-1' });
    expect(await sessionOf([], { KHLONE_SHELL: 'shell-1' })).toBe(own);
    expect(await sessionOf([])).toBe(own);
    const fresh = world.repository('fresh-session');
    const given = ['act', '--who', '@sh', '--await', '--json', 'true'];
    const made = JSON.parse((await world.khlone(given, { cwd: fresh })).stdout).session;
    expect(made).toMatch(/^s-[0-9a-f]{10}$/);
    expect(made).not.toBe(own);
  });

  test('is left in the mailbox of the shell that dispatched', async () => {
    await sessionOf([], { KHLONE_SHELL: 'shell-2' });
    const mail = readFileSync(join(world.home.root, 'shell/mail/shell-2'), 'utf8');
    const [generation, session] = mail.trim().split('\t');
    expect(Number(generation)).toBeGreaterThan(0);
    expect(await sessionOf([])).toBe(session);
  });

  test('has a name that no shell and no file minds', async () => {
    expect(await world.says(['act', '--session', '../x', 'true'])).toMatch(
      /^! ✗ --session is not a session name: /,
    );
    expect(await world.says(['act', 'true'], { env: { KHLONE_SESSION: 'a b' } })).toMatch(
      /^! ✗ KHLONE_SESSION is not a session name: /,
    );
  });
});

describe('a place without a zone', () => {
  test('that is no repository is said to be none', async () => {
    expect(await world.says(['act', 'x'], { cwd: world.person })).toBe(
      '! ✗ not inside a git repository: ~~/person\n!   ↳ cd into one, or name a zone with --zone\n[exit 2]\n',
    );
    const bare = join(world.base, 'bare.git');
    world.git(['init', '-q', '--bare', bare]);
    expect(await world.says(['act', 'x'], { cwd: bare })).toMatch(
      /^! ✗ a bare repository has no files to work on/,
    );
    writeFileSync(join(world.base, 'gone'), '');
  });
});
