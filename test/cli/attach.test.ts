import { execFileSync } from 'node:child_process';
import { cpSync, existsSync, mkdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { khloneProgram } from '../fixtures/built.ts';
import { createWorld, until, type World } from '../fixtures/khlone.ts';
import { openPersonTerminal, type PersonTerminal, type TerminalWish } from '../fixtures/person-terminal.ts';

/** Looking into a local zone from a person's own terminal, which is a tmux: so this is a tmux in a tmux as well. */

let world: World;
const terminals: PersonTerminal[] = [];
const open = async (wish?: TerminalWish): Promise<PersonTerminal> => {
  const at = await openPersonTerminal(world, wish);
  terminals.push(at);
  return at;
};

beforeAll(async () => {
  world = await createWorld();
  await world.khlone(['act', '--who', 'mechanic@sh', '--await', 'echo hello from the clone']);
});
afterAll(async () => {
  for (const at of terminals) await at.end();
  await world.dispose();
});

const VIEW = /hello from the clone[\s\S]*idle/;

/** Looks at a clone, and says with which code it ended. */
const lookAt = async (at: PersonTerminal, words = 'mechanic.1', khlone = 'khlone'): Promise<void> => {
  await at.line(`clear; ${khlone} attach ${words}; echo "code=$?"`);
};

/** The same program where node-pty is not beside it. */
const withoutPty = (): string => {
  const [plain, name] = [join(world.base, 'plain'), join(world.base, 'k')];
  if (existsSync(plain)) return name;
  const built = dirname(dirname(khloneProgram()));
  for (const part of ['bin', 'dist']) cpSync(join(built, part), join(plain, part), { recursive: true });
  symlinkSync(join(plain, 'bin/khlone'), name);
  return name;
};

/** The prompt of the zone's shell: the person's own looks alike, and stands there until the other screen is shown. */
const prompted = async (at: PersonTerminal): Promise<void> => {
  const end = performance.now() + 15_000;
  while ((await at.fact('#{alternate_on}')) !== '1') {
    if (performance.now() > end) throw new Error(`no shell is shown:\n${await at.screen()}`);
  }
  await at.until(/[$#]/);
};

/** What a person would notice of a terminal that was not put back. */
const stateOf = async (at: PersonTerminal): Promise<string> => {
  const flags = await at.fact(
    '#{alternate_on} #{cursor_flag} #{mouse_any_flag} #{keypad_flag} #{keypad_cursor_flag} #{insert_flag} #{wrap_flag}',
  );
  await at.line('clear; stty -g; echo ok');
  const said = await at.until(/\nok/);
  return `${flags}\n${said.split('\n').find((line) => /^[0-9a-f]+:/.test(line))}`;
};

const signalled = async (at: PersonTerminal, signal: NodeJS.Signals): Promise<void> => {
  const [pid = 0] = await at.children('attach');
  process.kill(pid, signal);
};

describe('a view', () => {
  test('shows the work, and each way out leaves the terminal as it was', async () => {
    const at = await open();
    const before = await stateOf(at);
    for (const leave of [() => at.type('~.'), () => at.press('C-d'), () => at.press('C-b', 'd')]) {
      await lookAt(at);
      await at.until(VIEW);
      expect(await at.fact('#{alternate_on}')).toBe('1');
      await leave();
      const after = await at.until(/code=0/);
      expect(after).toMatch(/^✓ detached from mechanic\.1; it goes on\ncode=0/);
      expect(await stateOf(at)).toBe(before);
    }
  });

  test('goes on live, and two terminals look in their own sizes', async () => {
    const [one, two] = [await open(), await open({ columns: 60, rows: 12 })];
    for (const at of [one, two]) {
      await lookAt(at);
      await at.until(VIEW);
    }
    await world.khlone(['act', '--who', 'mechanic.1', '--await', 'echo news']);
    for (const at of [one, two]) await at.until(/\n {2}news/);
    await one.type('~.');
    await one.until(/code=0/);
    await two.until(/idle/);
    await two.press('C-d');
    await two.until(/code=0/);
  });

  test('tells its keys, and draws itself again over them', async () => {
    const at = await open();
    await lookAt(at);
    await at.until(VIEW);
    await at.type('~?');
    await at.until(/~\. leaves/);
    await at.type('x');
    await at.until(/^(?![\s\S]*~\. leaves)[\s\S]*idle/);
    await at.type('~.');
    await at.until(/code=0/);
  });

  test('fits a terminal of few cells, and one that nobody knows', async () => {
    const at = await open({ columns: 22, rows: 5 });
    await lookAt(at);
    await at.until(/idle/);
    await at.type('~?');
    await at.until(/~\. leaves/);
    await at.type('~.');
    await at.until(/code=0/);
    await at.resize(100, 24);
    await at.line('TERM=quux-9000 khlone attach mechanic.1; echo "again=$?"');
    await at.until(VIEW);
    await at.press('C-d');
    await at.until(/again=0/);
  });
});

describe('a shell', () => {
  test('stands in the worktree, follows the size, and ends with its own code', async () => {
    const at = await open();
    await lookAt(at, '--shell');
    await prompted(at);
    await at.line('pwd; stty size');
    await at.until(new RegExp(`${world.repo}\\n24 100`));
    await at.resize(80, 20);
    // A key may be faster than the size that was set before it.
    await until('the new size is there', async () => {
      await at.line('clear; stty size');
      return /^20 80/m.test(await at.until(/^\d+ \d+/m));
    });
    await at.line('exit 7');
    expect(await at.until(/code=7/)).toMatch(/✓ the shell of @feat\/auth ended/);
  });

  test('gets Ctrl-D, and a ~ in the middle of a line', async () => {
    const at = await open();
    await lookAt(at, '--shell');
    await prompted(at);
    await at.line('echo a~.b');
    await at.until(/\na~\.b/);
    await at.type('~~');
    await at.until(/[$#] ~\n/);
    await at.press('C-c');
    await at.until(/[$#] ~\S*\^C/);
    await at.press('C-d');
    await at.until(/code=\d+/);
  });
});

describe('whatever dies', () => {
  test('hub and server may be killed, and a local view goes on', async () => {
    const at = await open();
    await lookAt(at);
    await at.until(VIEW);
    await world.kill(world.hubPid());
    await world.kill(world.serverPid());
    await world.khlone(['act', '--who', 'mechanic.1', '--await', 'echo after the deaths']);
    await at.until(/\n {2}after the deaths/);
    await at.press('C-d');
    expect(await at.until(/code=0/)).toContain('detached from mechanic.1');
  });

  test.each(['SIGTERM', 'SIGINT', 'SIGHUP', 'SIGKILL'] as const)(
    '%s puts the terminal back',
    async (signal) => {
      const at = await open();
      const before = await stateOf(at);
      await lookAt(at);
      await at.until(VIEW);
      await signalled(at, signal);
      // What a shell says of a death by SIGKILL may still go to the screen that is about to close.
      if (signal !== 'SIGKILL') await at.until(/code=130/);
      await until('the screen of before', async () => (await at.fact('#{alternate_on}')) === '0');
      expect(await stateOf(at)).toBe(before);
    },
  );
});

/** The shell has the terminal, its job stopped; what is on the screen now is wiped by the next line. */
const stopped = async (at: PersonTerminal): Promise<void> => {
  await at.until(/Stopped/);
  await until('the screen of before', async () => (await at.fact('#{alternate_on}')) === '0');
};

const BASH = 'PS1="$ " exec bash --norc --noediting';

describe.each(['with', 'without'])('a job that is stopped, %s node-pty,', (way) => {
  const program = (): string => (way === 'with' ? 'khlone' : withoutPty());

  test('gives the terminal back meanwhile, and goes on with all of the picture in the size of then', async () => {
    const at = await open();
    await at.line(BASH);
    const before = await stateOf(at);
    for (const stop of [() => at.type('~\u001a'), async () => signalled(at, 'SIGTSTP')]) {
      await lookAt(at, 'mechanic.1', program());
      await at.until(VIEW);
      await stop();
      await stopped(at);
      expect(await stateOf(at)).toBe(before);
      await at.resize(90, 20);
      await at.line('clear; fg');
      const drawn = await at.until(VIEW);
      expect(drawn).not.toMatch(/fg|Stopped/);
      expect(await at.fact('#{alternate_on} #{mouse_any_flag}')).toBe('1 1');
      await at.type('~.');
      await at.until(/detached from mechanic\.1/);
      expect(await stateOf(at)).toBe(before);
      await at.resize(100, 24);
    }
  });

  test('leaves every key to the shell, and has them again', async () => {
    const at = await open();
    await at.line(BASH);
    await lookAt(at, '--shell', program());
    await prompted(at);
    for (const round of [1, 2, 3]) {
      await at.line(`echo in${round}`);
      await at.until(new RegExp(`\\nin${round}`));
      // A sign that leaves stands at the start of a line, and the prompt is one only after Enter.
      await at.press('Enter');
      await at.type('~\u001a');
      await stopped(at);
      const keys = 'the shell has all of them';
      await at.line(`clear; echo "${keys.split(' ').join('" "')}"`);
      await at.until(new RegExp(`^${keys}`));
      await at.line('clear; fg');
      await at.until(new RegExp(`\\nin${round}`));
    }
    await at.line('exit 7');
    await at.until(/ended/);
  });

  test('by a signal that nobody can catch is drawn anew, and its keys work', async () => {
    const at = await open();
    await at.line(BASH);
    const before = await stateOf(at);
    await lookAt(at, 'mechanic.1', program());
    await at.until(VIEW);
    await signalled(at, 'SIGSTOP');
    await at.until(/Stopped/);
    await at.line('clear; fg');
    await at.until(VIEW);
    await at.type('~.');
    await at.until(/detached from mechanic\.1/);
    expect(await stateOf(at)).toBe(before);
  });

  test('in the background waits until it is fetched', async () => {
    const at = await open();
    await at.line(BASH);
    await lookAt(at, 'mechanic.1', program());
    await at.until(VIEW);
    await at.type('~\u001a');
    await stopped(at);
    await at.line('clear; bg');
    // A shell tells it with its next prompt.
    await until('the job is stopped again', async () => {
      await at.line('clear; jobs');
      return /Stopped.*attach/.test(await at.until(/attach/));
    });
    expect(await at.fact('#{alternate_on}')).toBe('0');
    await at.line('fg');
    await at.until(VIEW);
    await at.press('C-d');
    await at.until(/detached from mechanic\.1/);
  });
});

describe('what is looked at', () => {
  test('comes back when tmux died', async () => {
    const at = await open();
    await lookAt(at);
    await at.until(VIEW);
    const asked = execFileSync('tmux', ['-S', world.home.tmuxSocket, 'display-message', '-p', '#{pid}']);
    await world.kill(Number(asked.toString()));
    await world.khlone(['act', '--who', 'mechanic.1', '--await', 'echo risen']);
    await at.until(/\n {2}risen/);
    await at.press('C-d');
    await at.until(/code=0/);
  });

  test('may be let go, and that is told', async () => {
    await world.khlone(['crew', 'add', '--role', 'reviewer', '--brain', 'sh']);
    const at = await open();
    await at.line('clear; khlone attach; echo "code=$?"');
    expect(await at.until(/code=2/)).toMatch(/✗ which clone\?\n {2}↳ the crew: mechanic\.1, reviewer\.1/);
    await lookAt(at, 'reviewer');
    await at.until(/idle/);
    await world.khlone(['crew', 'del', 'reviewer.1']);
    expect(await at.until(/code=0/)).toContain('⚠ reviewer.1 is no longer there');
    await lookAt(at, '');
    await at.until(VIEW);
    await at.press('C-d');
    await at.until(/code=0/);
  });
});

describe('khlone stop', () => {
  test('ends a look with its tmux; with --keep both go on, and leaving starts nothing anew', async () => {
    const at = await open();
    await lookAt(at);
    await at.until(VIEW);
    await world.khlone(['stop']);
    expect(await at.until(/code=4/)).toMatch(/^✗ khlone was stopped\n/);
    expect(await at.fact('#{alternate_on}')).toBe('0');
    await lookAt(at);
    await at.until(VIEW);
    await world.khlone(['stop', '--keep']);
    await until('hub and server are gone', () => world.residents().hubs + world.residents().servers === 0);
    await at.type('~.');
    expect(await at.until(/code=0/)).toContain('detached from mechanic.1');
    expect(world.residents()).toEqual({ hubs: 0, servers: 0 });
  });
});

describe('without node-pty', () => {
  test('each way out leaves the terminal as it was, and so does a death', async () => {
    const at = await open();
    const before = await stateOf(at);
    for (const leave of [() => at.type('~.'), () => at.press('C-d')]) {
      await lookAt(at, 'mechanic.1', withoutPty());
      await at.until(VIEW);
      await leave();
      expect(await at.until(/code=0/)).toContain('✓ detached from mechanic.1; it goes on');
      expect(await stateOf(at)).toBe(before);
    }
    await lookAt(at, 'mechanic.1', withoutPty());
    await at.until(VIEW);
    await signalled(at, 'SIGKILL');
    await until('the screen of before', async () => (await at.fact('#{alternate_on}')) === '0');
    expect(await stateOf(at)).toBe(before);
  });

  test('a look goes on when hub and server are killed', async () => {
    const at = await open();
    await lookAt(at, 'mechanic.1', withoutPty());
    await at.until(VIEW);
    await world.kill(world.hubPid());
    await world.kill(world.serverPid());
    await world.khlone(['act', '--who', 'mechanic.1', '--await', 'echo and after that']);
    await at.until(/\n {2}and after that/);
    await at.type('~.');
    await at.until(/code=0/);
  });

  test('and without script(1) both are named, with what to type', async () => {
    const bin = join(world.base, 'poor');
    mkdirSync(bin, { recursive: true });
    writeFileSync(join(bin, 'script'), '#!/bin/sh\necho BusyBox\n', { mode: 0o755 });
    await world.kill(world.serverPid());
    const at = await open({ env: { PATH: `${bin}:${world.env.PATH}` }, columns: 200 });
    // The server that makes the terminal is started by this hub, with this PATH.
    await world.kill(world.hubPid());
    await lookAt(at, 'mechanic.1', withoutPty());
    const said = await at.until(/code=2/);
    expect(said).toMatch(/✗ this host has no script\(1\)/);
    expect(said).toMatch(/↳ install it, .*; or: npm install --no-save --prefix \S+\/plain node-pty/);
    await world.kill(world.serverPid());
    await world.kill(world.hubPid());
  });
});

describe('the words', () => {
  test('crew detach ends every attachment and shows the crew', async () => {
    const at = await open();
    await lookAt(at);
    await at.until(VIEW);
    const ran = await world.khlone(['crew', 'detach']);
    expect(ran.stderr).toBe('✓ ended 1 attachment\n');
    expect(ran.stdout).toContain('mechanic.1');
    expect(await at.until(/code=0/)).toContain('detached from mechanic.1 by khlone crew detach');
    expect((await world.khlone(['crew', 'detach'])).stderr).toBe('');
  });

  test('what cannot be looked at is told before the terminal is touched', async () => {
    const at = await open();
    await at.line('clear; khlone attach nobody.9; echo "code=$?"');
    expect(await at.until(/code=2/)).toMatch(/✗ no clone nobody\.9\n {2}↳ the crew: mechanic\.1/);
    await at.line('clear; TERM=dumb khlone attach mechanic.1; echo "dumb=$?"');
    expect(await at.until(/dumb=2/)).toContain('attach needs a terminal that can draw');
    expect(await world.says(['attach', 'mechanic.1'])).toMatch(/^! ✗ attach needs a terminal/);
    writeFileSync(join(world.base, 'outside'), '');
    await at.line(`clear; cd ${world.base} && khlone attach mechanic.1; echo "outside=$?"`);
    await at.until(/outside=2/);
  });
});
