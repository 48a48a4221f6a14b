import { chmodSync, mkdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { createWorld, until, type World } from '../fixtures/khlone.ts';

/** Help, configuration, doctor, stop, and the places where khlone itself lives. */

let world: World;
beforeAll(async () => {
  world = await createWorld();
});
afterAll(() => world.dispose());

/** The commands of the manual, which is made from their definitions. */
const manual = readFileSync(join(import.meta.dirname, '../../docs/commands.md'), 'utf8');
const names = [...manual.matchAll(/^## (khlone [a-z ]+)$/gm)].map((match) => match[1] ?? '');

describe('help', () => {
  test('lists every command by category, with and without the word', async () => {
    const all = await world.says([]);
    expect(all).toMatch(/^khlone \d+\.\d+\.\d+: .*\n\nDispatch\n\n {2}khlone act +hand work to a clone/);
    expect(await world.says(['--help'])).toBe(all);
    expect(await world.says(['help'])).toBe(all);
    for (const name of names) expect(all).toContain(`  ${name} `);
  });

  test('has a page for each command', async () => {
    for (const name of names) {
      const page = await world.says([...name.split(' ').slice(1), '--help']);
      expect(page.slice(0, name.length + 1)).toBe(`${name}:`);
      expect(page).toMatch(/^khlone [a-z ]+: .+\n\n {2}khlone /);
      expect(page).not.toMatch(/#\d/);
    }
  });

  test('stays within a narrow terminal, but for words that are longer', async () => {
    for (const args of [['act', '--help'], ['help'], ['patch', 'export', '--help']]) {
      const { stdout } = await world.khlone(args, { tty: { columns: 40 } });
      const wide = stdout.split(/\r?\n/).filter((line) => line.length > 40 && /^ {3}/.test(line));
      expect(wide).toEqual([]);
    }
  });

  test('wants no hub, server or repository to be of use', async () => {
    expect(await world.says(['act', '--help'], { cwd: '/' })).toContain('--prioritize');
    expect(await world.says(['help', 'queue', 'move'], { cwd: '/' })).toMatch(/^khlone queue move: /);
  });
});

describe('words that no command takes', () => {
  test.each([
    [['frob'], 'no command frob', 'khlone help'],
    [['stauts'], 'no command stauts; did you mean status?', 'khlone help'],
    [['queue', 'frob'], 'no command queue frob', 'khlone queue --help'],
    [['zone'], 'zone what? status, set, halt, del', 'khlone help'],
    [['act', '--wo', 'x', 'y'], 'no option --wo; did you mean --who?', 'khlone act --help'],
    [['act', '--who'], '--who needs a value', 'khlone act --help'],
    [['await'], 'await needs a word more', 'khlone await --help'],
    [['await', 'a', 'b'], '"b" is one word too many', 'khlone await --help'],
    [['help', 'frob'], 'no command frob', 'khlone help'],
    [['act', 'fix it', '--awiat'], 'no option --awiat; did you mean --await?', 'khlone act --help'],
    [['act', '--who', 'mechanic.1', 'fix it', '-q'], 'no option -q', 'khlone act --help'],
    [['act', 'fix it', '--who'], '--who needs a value', 'khlone act --help'],
    [['attach', 'mechanic.1', '--shell=1'], '--shell takes no value', 'khlone attach --help'],
    [['crew', 'add', '--role', ''], '--role needs a value', 'khlone crew add --help'],
    [['status', '--zone='], '--zone needs a value', 'khlone status --help'],
    [['log', '--who', ''], '--who needs a value', 'khlone log --help'],
    [['act', 'fix', '--zone', '', 'it'], '--zone needs a value', 'khlone act --help'],
    [['resolve', '--', '-rf', '--keep', 'remote'], '"remote" is one word too many', 'khlone resolve --help'],
    [['attach', 'mechanic.1', 'x', '--zone', 'y'], '"x" is one word too many', 'khlone attach --help'],
  ])('%j: says what is wrong and where to read more', async (args, what, hint) => {
    expect(await world.says(args)).toBe(`! ✗ ${what}\n!   ↳ ${hint}\n[exit 2]\n`);
  });

  test('are words for a person where --json is a word of the prompt', async () => {
    const ran = await world.khlone(['act', '--who', 'nobody@sh', '--', 'make', '--json']);
    expect(ran).toMatchObject({
      code: 2,
      stdout: '',
      stderr: expect.stringMatching(/^✗ no role named nobody/),
    });
  });

  test('with --json are one value on stdout', async () => {
    const ran = await world.khlone(['frob', '--json']);
    expect(JSON.parse(ran.stdout)).toEqual({
      code: 'usage',
      message: 'no command frob',
      hint: 'khlone help',
    });
    expect(ran).toMatchObject({ code: 2, stderr: '' });
  });
});

describe('--version', () => {
  test('says the version, by itself and through the hub', async () => {
    expect(await world.says(['--version'])).toMatch(/^\d+\.\d+\.\d+\n$/);
    expect(await world.says(['version'])).toBe(await world.says(['--version']));
  });
});

describe('config', () => {
  test('sets, gets, lists and forgets personal defaults, and refuses others', async () => {
    expect(await world.says(['config', 'get', 'default-brain'])).toBe('');
    expect(await world.says(['config', 'set', 'default-brain', 'sh'])).toBe('');
    expect(await world.says(['config', 'get', 'default-brain'])).toBe('sh\n');
    expect(await world.says(['config'])).toContain('default-brain = sh\n');
    expect(JSON.parse(await world.says(['config', 'list', '--json']))).toMatchObject({
      'default-brain': 'sh',
    });
    expect(await world.says(['config', 'unset', 'default-brain'])).toBe('');
    expect(await world.says(['config', 'get', 'default-brain', '--json'])).toBe('null\n');
    expect(await world.says(['config', 'set', 'defaultbrain', 'x'])).toBe(
      '! ✗ no setting is called "defaultbrain"\n!   ↳ did you mean default-brain?\n[exit 2]\n',
    );
    expect(await world.says(['config', 'set', 'verbosity', 'loud'])).toMatch(
      /^! ✗ verbosity: "loud" is not quiet, /,
    );
  });
});

describe('a broken khlone.yml', () => {
  const broken = async (text: string): Promise<string> => {
    writeFileSync(join(world.repo, 'khlone.yml'), text);
    return world.says(['act', 'x']);
  };

  test('is told by line, column and the nearest key', async () => {
    expect(await broken('crew:\n  defaults: { brian: sh }\n')).toMatch(
      /^! ✗ khlone\.yml:2:15 unknown key crew\.defaults\.brian; did you mean brain\?\n! {3}↳ correct khlone\.yml; khlone doctor reads it again\n\[exit 2\]\n$/,
    );
    expect(await broken('crew: [\n')).toMatch(/^! ✗ khlone\.yml:\d+:\d+ .+\n[\s\S]*\[exit 2\]\n$/);
    expect(await world.says(['doctor'])).toMatch(
      /^✗ khlone\.yml: khlone\.yml:\d+:\d+ .*\n {2}↳ correct khlone\.yml; khlone doctor reads it again$/m,
    );
    expect((await world.khlone(['status'])).code).toBe(0);
    writeFileSync(join(world.repo, 'khlone.yml'), '');
  });
});

describe('doctor', () => {
  test('checks everything, and knows what is needed from what is only nice', async () => {
    const said = await world.says(['doctor']);
    expect(said).toMatch(
      /^✓ khlone: \d.*\n✓ git: 2\..*\n✓ repository: local\/.*@feat\/auth\n✓ khlone\.yml: reads well\n/,
    );
    expect(said).toMatch(/^✓ server: .*\n✓ tmux: 3\./m);
    expect(said).toMatch(/^○ claude: not on the PATH\n {2}↳ npm i -g @anthropic-ai\/claude-code/m);
    expect(said).toMatch(/^✓ sh: ready\n$/m);
  });

  test('outside of a repository says so and ends well', async () => {
    expect(await world.says(['doctor'], { cwd: world.person })).toMatch(/^⚠ repository: not in one$/m);
  });

  test('ends with 2 where git or tmux is missing', async () => {
    const bin = join(world.base, 'empty-bin');
    mkdirSync(bin);
    const ran = await world.khlone(['doctor'], { env: { PATH: bin } });
    expect(ran.code).toBe(2);
    expect(ran.stdout).toMatch(/^✗ git: not found\n {2}↳ install git 2\.38 or newer$/m);
    expect(ran.stdout).toMatch(/^✗ tmux: .*\n {2}↳ install tmux 3\.2 or newer$/m);
  });
});

describe('stop', () => {
  const begun = async (gate: string): Promise<string> => {
    const script = `echo begun; until [ -e ${gate} ]; do sleep 0.02; done; echo over > ${gate}-over`;
    const running = world.start(['act', '--who', '@sh', '--watch', script]);
    await until('the task to begin', () => running.stderr().includes('] begun'));
    running.signal('SIGINT');
    await running.ended;
    return /task-\w{10}/.exec(running.stderr())?.[0] ?? '';
  };

  test('with --keep ends hub and server, and the clones go on', async () => {
    const id = await begun('kept');
    const [hub, server] = [world.hubPid(), world.serverPid()];
    expect(await world.says(['stop', '--keep'])).toBe('! ✓ stopped; running clones go on\n');
    await until('both to be gone', () => world.hubPid() !== hub && world.serverPid() !== server);
    writeFileSync(join(world.repo, 'kept'), '');
    await until(
      'the clone to end its work',
      () => statSync(join(world.repo, 'kept-over'), { throwIfNoEntry: false }) !== undefined,
    );
    expect(await world.khlone(['await', id])).toMatchObject({ code: 0 });
  });

  test('ends the clones too, and what was queued goes on with the next command', async () => {
    await begun('stopped');
    const queued = (
      await world.khlone(['act', '--quiet', '--who', 'mechanic.1', 'echo later'])
    ).stdout.trim();
    expect(await world.says(['stop'], { limitMs: 60_000 })).toMatch(
      /^! ◌ waiting for mechanic\.1 \(echo begun; until .*\) to end\n! ✓ stopped\n$/,
    );
    await until('both to be gone', () => world.hubPid() === undefined && world.serverPid() === undefined);
    expect(await world.khlone(['await', queued], { limitMs: 60_000 })).toMatchObject({
      code: 0,
      stdout: 'later\n',
    });
  }, 90_000);
});

test('stop tells what could not be ended, instead of that all is stopped', async () => {
  await world.khlone(['act', '--who', '@sh', '--await', 'true']);
  const state = new DatabaseSync(world.home.stateDb);
  const fault = (sql: string): void => state.exec(sql);
  fault(`CREATE TRIGGER fault BEFORE UPDATE OF live ON runs BEGIN SELECT RAISE(ABORT, 'no space'); END`);
  try {
    const stopped = await world.khlone(['stop', '--json'], { limitMs: 60_000 });
    expect(JSON.parse(stopped.stdout)).toMatchObject({ message: expect.stringContaining('no space') });
    expect(stopped.code).not.toBe(0);
  } finally {
    fault('DROP TRIGGER fault');
    state.close();
  }
});

describe('the home', () => {
  test('that cannot be made, or is no absolute path, is an error at once', async () => {
    expect(await world.says(['status'], { env: { KHLONE_HOME: '/proc/none' } })).toBe(
      '! ✗ /proc/none cannot be made: ENOENT\n!   ↳ set KHLONE_HOME to a folder of yours\n[exit 2]\n',
    );
    expect(await world.says(['status'], { env: { KHLONE_HOME: 'relative' } })).toMatch(
      /^! ✗ KHLONE_HOME is not an absolute path\n! {3}↳ .*\n\[exit 2\]\n$/,
    );
    writeFileSync(join(world.base, 'a-file'), '');
    expect(
      (await world.khlone(['status'], { env: { KHLONE_HOME: join(world.base, 'a-file') } })).code,
    ).toBeGreaterThan(1);
  });

  test('that others may enter is made private', async () => {
    const open = join(world.base, 'open-home');
    mkdirSync(open);
    chmodSync(open, 0o777);
    expect((await world.khlone(['status'], { env: { KHLONE_HOME: open } })).code).toBe(0);
    expect(statSync(open).mode & 0o777).toBe(0o700);
  });
});
