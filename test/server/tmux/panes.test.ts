import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, existsSync, mkdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { createHolder, type Holder, type PaneSpec } from '../../../src/server/tmux/panes.ts';
import { createScratchTmux, environmentOf, eventually, fileOf, isAlive } from './scratch-tmux.ts';

let scratch: ReturnType<typeof createScratchTmux>;
let holder: Holder;
let started: number[];

beforeEach(() => {
  scratch = createScratchTmux();
  holder = createHolder(scratch.where);
  started = [];
});
afterEach(async () => {
  await holder.close();
  for (const pid of started.filter(isAlive)) process.kill(pid, 'SIGKILL');
  scratch.remove();
});

const ENV = { PATH: '/usr/bin:/bin' };
const sleeping = (clone: string, more: Partial<PaneSpec> = {}): PaneSpec => ({
  clone,
  argv: ['/bin/sleep', '1000'],
  env: ENV,
  cwd: scratch.dir,
  ...more,
});

/** A process as a runner is: it ignores HUP, and tells its pid by a file once it does. */
const ignoringHup = (clone: string, file: string): PaneSpec =>
  sleeping(clone, {
    argv: ['/bin/sh', '-c', 'trap "" HUP; echo $$ >"$0.new"; mv "$0.new" "$0"; exec sleep 1000', file],
  });
const pidIn = async (file: string): Promise<number> => {
  const pid = Number(await fileOf(file));
  started.push(pid);
  return pid;
};

const rowOf = async (clone: string) => (await holder.list()).find((row) => row.clone === clone);
/** The pid of a clone's process once it is the program itself, and no longer env(1) on its way to it. */
const processOf = async (clone: string, name = 'sleep'): Promise<number> => {
  const pid = (await rowOf(clone))?.pid ?? 0;
  started.push(pid);
  const read = (file: string): string => readFileSync(`/proc/${pid}/${file}`, 'utf8');
  // A program has its name a moment before its environment can be read.
  await eventually(name, () => read('comm').trim() === name && read('environ') !== '');
  return pid;
};

describe('a start', () => {
  test('runs the program with the environment that was given, TERM and PWD, and nothing else', async () => {
    const env = {
      PATH: '/usr/bin:/bin',
      SHELL: '/bin/zsh',
      EMPTY: '',
      'BASH_FUNC_f%%': '() { echo "$HOME"; }',
      ODD: 'a\nb "c" \'d\' $HOME `e` #{pid} ;\\',
      LONG: 'x'.repeat(100_000),
    };
    await holder.start(sleeping('mechanic.1', { env }));
    const { TERM, PWD, ...rest } = environmentOf(await processOf('mechanic.1'));
    expect(rest).toEqual(env);
    expect(TERM).toMatch(/^(tmux|screen)/);
    expect(PWD).toBe(scratch.dir);
  });

  test('keeps nothing of an environment in tmux, where others could read it later', async () => {
    await holder.start(sleeping('mechanic.1', { env: { ...ENV, API_KEY: 'hush-hush' } }));
    const pane = (await rowOf('mechanic.1'))?.pane ?? '';
    const all = [
      scratch.ask('show-messages'),
      scratch.ask('show-environment', '-g'),
      scratch.ask('show-environment', '-t', 'khlone'),
      scratch.ask('display-message', '-p', '-t', pane, '#{pane_start_command} #{pane_current_command}'),
      environmentOf(scratch.serverPid()),
    ];
    expect(JSON.stringify(all)).not.toContain('hush-hush');
  });

  test('gives arguments as they are, in the directory as it is named', async () => {
    const cwd = join(scratch.dir, '#(touch hacked) #{pid} #[x ##[y ## %H ;$x');
    mkdirSync(cwd);
    const out = join(scratch.dir, 'args');
    const odd = ['', ' ', '$HOME', '#{pid}', ';', '--', '-x', 'é\n"'];
    const script = 'printf "%s\\0" "$PWD" "$@" >"$0.new"; mv "$0.new" "$0"';
    await holder.start(sleeping('mechanic.1', { argv: ['/bin/sh', '-c', script, out, ...odd], cwd }));
    expect((await fileOf(out)).toString().split('\0').slice(0, -1)).toEqual([cwd, ...odd]);
    expect(existsSync(join(cwd, 'hacked'))).toBe(false);
  });

  test('of a program without arguments is not read by a shell', async () => {
    const program = join(scratch.dir, 'a b;c');
    writeFileSync(program, `#!/bin/sh\ntouch '${scratch.dir}/ran'\n`, { mode: 0o755 });
    await holder.start(sleeping('mechanic.1', { argv: [program] }));
    await fileOf(join(scratch.dir, 'ran'));
  });

  test('for the same clone takes its window again, without what the first one had', async () => {
    const first = await holder.start(sleeping('mechanic.1', { env: { ...ENV, ONCE: '1' } }));
    const before = await processOf('mechanic.1');
    const second = await holder.start(sleeping('mechanic.1'));
    expect(second).toEqual(first);
    expect(environmentOf(await processOf('mechanic.1'))).not.toHaveProperty('ONCE');
    await eventually('the end of the first', () => !isAlive(before));
    expect(await holder.list()).toHaveLength(1);
  });

  test('twice at the same moment makes one window', async () => {
    const panes = await Promise.all([holder.start(sleeping('a.1')), holder.start(sleeping('a.1'))]);
    expect(panes[0]).toEqual(panes[1]);
    expect(await holder.list()).toHaveLength(1);
  });

  test.each([['mechanic.1'], ['mechanic.10'], ['z4/rôle .1'], ['=x:0.0'], ['%1'], ['#{pid}']])(
    'under the name %j has a pane of its own',
    async (clone) => {
      await holder.start(sleeping('mechanic'));
      const { pane } = await holder.start(sleeping(clone));
      expect((await holder.list()).map((row) => row.clone)).toEqual(['mechanic', clone]);
      expect(scratch.ask('display-message', '-p', '-t', pane, '#{window_name}').trim()).toBe(clone);
      await holder.end(clone);
      expect((await holder.list()).map((row) => row.clone)).toEqual(['mechanic']);
    },
  );

  test.each<[string, Partial<PaneSpec>]>([
    ['a line break in a name', { clone: 'a\nb' }],
    ['an empty name', { clone: '' }],
    ['a name over 200 bytes', { clone: 'é'.repeat(101) }],
    ['no program', { argv: [] }],
    ['a program that env would take for a variable', { argv: ['./a=b'] }],
    ['a variable without a name', { env: { '': 'x' } }],
    ['a relative directory', { cwd: 'somewhere' }],
    ['a NUL', { env: { A: 'a\0b' } }],
  ])('with %s is refused', async (_, wrong) => {
    await expect(holder.start(sleeping('a.1', wrong))).rejects.toMatchObject({ code: 'invalid-params' });
  });
});

describe('a pane', () => {
  test('whose program ended stays, with how it ended as far as tmux knows', async () => {
    await holder.start(sleeping('a.1', { argv: ['/bin/sh', '-c', 'exit 9'] }));
    while (!(await rowOf('a.1'))?.dead);
    expect([9, undefined]).toContain((await rowOf('a.1'))?.exitStatus);
    await holder.start(sleeping('a.1'));
    expect(await rowOf('a.1')).toMatchObject({ dead: false });
  });

  test('is listed once although a viewer shares the session', async () => {
    await holder.start(sleeping('a.1'));
    scratch.ask('new-session', '-d', '-t', 'khlone', '-s', 'view-1');
    expect(await holder.list()).toHaveLength(1);
  });

  test('that is not there ends without a word', async () => {
    await holder.end('nobody.1');
    expect(await holder.list()).toEqual([]);
  });

  test('sits in a server of our options, read from a file that only we may read', async () => {
    await holder.start(sleeping('a.1'));
    const shown = ['-s', '-g', '-gw'].map((scope) => scratch.ask('show-options', scope)).join('');
    for (const option of [
      'exit-empty off',
      'set-clipboard off',
      'message-limit 0',
      'status off',
      'set-titles off',
    ]) {
      expect(shown).toContain(`${option}\n`);
    }
    for (const option of [
      'remain-on-exit on',
      'allow-rename off',
      'window-size latest',
      'history-limit 200',
    ]) {
      expect(shown).toContain(`${option}\n`);
    }
    expect(statSync(scratch.where.configPath).mode & 0o777).toBe(0o600);
  });
});

describe('deaths', () => {
  test('a SIGKILL of the process that started it, and of its group, leaves the clone and its pane', async () => {
    const file = join(scratch.dir, 'pid');
    const given = JSON.stringify({ where: scratch.where, spec: ignoringHup('a.1', file) });
    const program = join(import.meta.dirname, 'holder-program.ts');
    const server = spawn(process.execPath, [program, given], {
      detached: true,
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    await once(server.stdout, 'data');
    const [pid, tmux] = [await pidIn(file), scratch.serverPid()];
    process.kill(-(server.pid ?? Number.NaN), 'SIGKILL');
    await once(server, 'close');
    expect(await rowOf('a.1')).toMatchObject({ pid, dead: false });
    expect(scratch.serverPid()).toBe(tmux);
    await eventually(
      'the old control client leaves',
      () => scratch.ask('list-clients').split('\n').length === 2,
    );
  });

  test('kill -9 of tmux leaves a runner alive, and the next start works', async () => {
    const [first, second] = [join(scratch.dir, 'first'), join(scratch.dir, 'second')];
    await holder.start(ignoringHup('a.1', first));
    const runner = await pidIn(first);
    const tmux = scratch.serverPid();
    process.kill(tmux, 'SIGKILL');
    await holder.start(ignoringHup('a.1', second));
    expect(await rowOf('a.1')).toMatchObject({ pid: await pidIn(second), dead: false });
    expect(isAlive(runner)).toBe(true);
    expect(scratch.serverPid()).not.toBe(tmux);
  });

  test('twenty kills between starts are each survived', async () => {
    for (let round = 0; round < 20; round++) {
      await holder.start(sleeping('a.1'));
      process.kill(scratch.serverPid(), 'SIGKILL');
      expect(await holder.list()).toEqual([]);
    }
  });

  test('a closed holder starts nothing more', async () => {
    await holder.close();
    await expect(holder.start(sleeping('a.1'))).rejects.toMatchObject({ code: 'shutting-down' });
    expect(existsSync(scratch.where.socketPath)).toBe(false);
  });
});

describe('a place', () => {
  test('that others may enter is refused', async () => {
    mkdirSync(join(scratch.dir, 'home'));
    chmodSync(join(scratch.dir, 'home'), 0o755);
    await expect(holder.list()).rejects.toMatchObject({ code: 'tmux-failed', hint: /^chmod 700 / });
  });

  test('with a path too long for a socket is refused', async () => {
    const socketPath = join(scratch.dir, 'x'.repeat(90), 'tmux.sock');
    const refused = createHolder({ ...scratch.where, socketPath }).list();
    await expect(refused).rejects.toMatchObject({ code: 'tmux-failed', message: /longer than 90 bytes/ });
  });
});
