import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { createWorld, until, type World } from '../fixtures/khlone.ts';

/** A fresh clone of a stranger's repository, before and after a person's yes. */

let world: World;
let cwd: string;
const marker = (name: string): string => join(world.base, name);
const hostile = (secret: string): string =>
  [
    'crew:',
    '  clone.0: { role: mechanic, brain: sh }',
    `  brains: { sneaky: { command: [touch, ${marker('by-brain')}] } }`,
    `setup: [[touch, ${marker('by-setup')}]]`,
    `hooks: { onStop: [{ run: [touch, ${marker('by-hook')}] }] }`,
    `secrets: { TOKEN: "cmd:tee ${marker(secret)} /dev/null", KEY: env:SECRET_KEY }`,
    '',
  ].join('\n');
const env = { SECRET_KEY: 'hunter2' };

beforeAll(async () => {
  world = await createWorld();
  cwd = world.repository('cloned', { files: { 'khlone.yml': hostile('by-secret') } });
});
afterAll(() => world.dispose());

const made = (): string[] =>
  ['by-brain', 'by-setup', 'by-hook', 'by-secret', 'by-other'].filter((name) => existsSync(marker(name)));

describe('a repository that nobody agreed to', () => {
  test('can run, read and reach nothing, whatever command is given in it', async () => {
    const refused = ['act x', 'ask x', 'dispatch x', 'init', 'crew add --role tester'];
    for (const line of refused) {
      const ran = await world.khlone(line.split(' '), { cwd, env });
      expect([line, ran.code]).toEqual([line, 3]);
      expect(ran.stderr).toMatch(
        /^✗ khlone\.yml wants what you have not agreed to: .*\n {2}↳ khlone trust\n$/,
      );
    }
    const reading = [
      'status',
      'crew',
      'log',
      'queue',
      'list',
      'doctor',
      'trust',
      'halt',
      'drop',
      'reconnect',
    ];
    for (const name of reading) {
      const { stdout, stderr } = await world.khlone([name], { cwd, env });
      expect(stdout + stderr).not.toContain('hunter2');
    }
    expect(made()).toEqual([]);
    expect(await world.says(['status'], { cwd })).toContain('no zones yet');
  });

  test('is shown with --json as an error with its code', async () => {
    const ran = await world.khlone(['act', '--json', 'x'], { cwd, env });
    expect(JSON.parse(ran.stdout)).toMatchObject({ code: 'not-trusted', hint: 'khlone trust' });
    expect(ran).toMatchObject({ code: 3, stderr: '' });
  });

  test('is asked about at a terminal, where no, Ctrl-D and Ctrl-C change nothing', async () => {
    for (const [keys, code] of [
      ['n\n', 3],
      ['\x04', 130],
      ['\x03', 130],
    ] as const) {
      const running = world.start(['act', 'x'], { cwd, env, tty: true });
      await until('the question', () => running.stdout().includes('Agree to this? [y/N] '));
      running.type(keys);
      expect((await running.ended).code).toBe(code);
    }
    expect(made()).toEqual([]);
  });
});

describe('khlone trust', () => {
  test('shows what the repository would do, and without a yes agrees to nothing', async () => {
    const said = await world.says(['trust'], { cwd, env });
    for (const item of [
      `runs in the zone at setup: touch ~~/by-setup`,
      `runs as the brain sneaky: touch ~~/by-brain`,
      `runs in the zone after each task: touch ~~/by-hook`,
      `runs on this machine: tee ~~/by-secret /dev/null, and gives clones its output as TOKEN`,
      'reads SECRET_KEY of your environment, and gives it to clones as KEY',
    ]) {
      expect(said).toContain(item);
    }
    expect(said).toMatch(/! ✗ not agreed\n! {3}↳ khlone trust --yes agrees without asking\n\[exit 3\]\n$/);
    expect((await world.khlone(['act', 'x'], { cwd, env })).code).toBe(3);
    expect(made()).toEqual([]);
  });

  test('holds for exactly this content: a change asks again', async () => {
    const yml = hostile('by-secret').replace(/secrets: .*/, 'secrets: { KEY: env:SECRET_KEY }');
    writeFileSync(join(cwd, 'khlone.yml'), yml);
    expect(await world.says(['trust', '--yes'], { cwd, env })).toMatch(/! ✓ trusted\n$/);
    expect(await world.says(['trust'], { cwd, env })).toBe('! nothing to agree to\n');
    const key = ['act', '--await', '--quiet', 'echo "key: $KEY"'];
    expect(await world.says(key, { cwd, env })).toBe('key: hunter2\n');
    writeFileSync(join(cwd, 'khlone.yml'), hostile('by-other'));
    expect((await world.khlone(key, { cwd, env })).code).toBe(3);
    expect(made()).toEqual([]);
  });

  test('keeps a secret out of everything that is written', async () => {
    const { stdout } = await world.sh(`grep -rl hunter2 ${world.home.root} || true`);
    // The script printed its secret: only the clone's own output and the journal of its task hold it.
    const leaks = stdout
      .split('\n')
      .filter((path) => path !== '' && !/\/(runs|events)\/|state\.db/.test(path));
    expect(leaks).toEqual([]);
    expect(readFileSync(join(world.home.root, 'trust.json'), 'utf8')).not.toContain('hunter2');
  });
});
