import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { createWorld, type World } from '../fixtures/khlone.ts';

/** act and ask through the real command, hub, server, tmux and the built-in brain. */

let world: World;
beforeAll(async () => {
  world = await createWorld();
});
afterAll(() => world.dispose());

const inRepo = (name: string): string => join(world.repo, name);
const idOf = (text: string): string => /task-[0-9a-z]{10}/.exec(text)?.[0] ?? 'no id';

/** A script that waits for a file, and the file. */
const gate = (name: string) => ({
  script: `until [ -e ${inRepo(name)} ]; do sleep 0.02; done`,
  open: () => writeFileSync(inRepo(name), ''),
});

describe('the first act in a worktree', () => {
  test('makes the zone, says where the task went, and is done by a clone', async () => {
    const { stdout, stderr } = await world.khlone(['act', '--who', '@sh', 'echo hi > made']);
    expect(stdout).toBe('');
    expect(world.mask(stderr).replace(/\(\w+\)$/m, '(VIEW)')).toBe(
      [
        '✓ init @feat/auth → mechanic.1',
        '✓ task-1 → mechanic.1 (@feat/auth)',
        "  acts write only in the worktree, its git directory, caches and the brain's state (VIEW)",
        '',
      ].join('\n'),
    );
    await world.khlone(['await', idOf(stderr)]);
    expect(readFileSync(inRepo('made'), 'utf8')).toBe('hi\n');
  });

  test('leaves a readable binding that git does not see', () => {
    expect(readFileSync(inRepo('.khlone/.bind.worksite/zone.yml'), 'utf8')).toContain('feat/auth');
    expect(world.git(['status', '--short'])).toBe('?? made\n');
  });
});

describe('act', () => {
  test('prints one line once the zone is there', async () => {
    expect(world.mask((await world.khlone(['act', '--who', 'mechanic.1', 'true'])).stderr)).toMatch(
      /^✓ task-\d+ → mechanic\.1 \(@feat\/auth\)\n$/,
    );
  });

  test('with --json prints one value, with --quiet the id alone', async () => {
    const { stdout } = await world.khlone(['act', '--json', '--who', 'mechanic.1', 'true']);
    expect(JSON.parse(stdout)).toEqual({
      task: idOf(stdout),
      state: 'queued',
      clone: 'mechanic.1',
      zone: expect.stringMatching(/^local\/repo-[0-9a-f]{4}@feat\/auth$/),
    });
    expect((await world.khlone(['act', '--quiet', '--who', 'mechanic.1', 'true'])).stdout).toMatch(
      /^task-[0-9a-hjkmnp-tv-z]{10}\n$/,
    );
  });

  test('joins its words, and takes everything after -- as words', async () => {
    const args = [
      'act',
      '--who',
      'mechanic.1',
      '--await',
      '--',
      'echo',
      'two',
      '  words;',
      'echo',
      '--quiet',
    ];
    expect((await world.khlone(args)).stdout).toBe('two words\n--quiet\n');
  });

  test('takes a pipe as its prompt only without words, and appends it where - is given', async () => {
    const given = { stdin: 'echo piped' };
    const run = async (...words: string[]): Promise<string> =>
      (await world.khlone(['act', '--who', 'mechanic.1', '--await', ...words], given)).stdout;
    expect(await run()).toBe('piped\n');
    expect(await run('echo words')).toBe('words\n');
    expect(await run('echo words;', '-')).toBe('words\npiped\n');
  });

  test('leaves the input of a loop alone', async () => {
    const loop =
      'printf "a\\nb\\nc\\n" | while read -r x; do khlone act --quiet --who mechanic.1 "true $x"; done';
    expect((await world.sh(loop)).stdout.trim().split('\n')).toHaveLength(3);
  });

  test('reads its prompt from a file of the caller’s folder', async () => {
    writeFileSync(inRepo('prompt.txt'), 'echo from a file\n');
    const args = ['act', '--who', 'mechanic.1', '--await', '--file', 'prompt.txt'];
    expect((await world.khlone(args)).stdout).toBe('from a file\n');
  });

  test('gives the clone the environment of the shell, without what is khlone’s or the terminal’s', async () => {
    const fresh = await createWorld();
    const script = 'echo $COLOUR $KHLONE_OWN $GIT_DIR $TMUX $GIT_AUTHOR_NAME $KHLONE_CLONE';
    const env = { COLOUR: 'green', KHLONE_OWN: 'x', GIT_DIR: '/nowhere', TMUX: 'x', GIT_AUTHOR_NAME: 'Pat' };
    const ran = await fresh.khlone(['act', '--who', '@sh', '--await', script], { env });
    await fresh.dispose();
    expect(ran.stdout).toBe('green Pat mechanic.1\n');
  });

  test('writes files with the usual permissions, whatever the umask of hub and server', async () => {
    const script = 'touch plain; stat -c %a plain';
    expect((await world.khlone(['act', '--who', 'mechanic.1', '--await', script])).stdout).toBe('644\n');
  });

  test('cannot write outside of the worktree, the caches and its own temporary folder', async () => {
    const outside = join(world.person, 'outside');
    const args = ['act', '--who', 'mechanic.1', '--await', `echo no > ${outside}`];
    expect((await world.khlone(args)).code).toBe(1);
    expect(existsSync(outside)).toBe(false);
  });
});

describe('ask', () => {
  test('answers and cannot change the worktree', async () => {
    writeFileSync(inRepo('fact'), 'the sky is blue\n');
    const ran = await world.khlone(['ask', '--who', '@sh', '--await', 'cat fact; echo x > fact']);
    expect(ran).toMatchObject({ code: 1, stdout: 'the sky is blue\n' });
    expect(ran.stderr).toContain('Read-only file system');
    expect(readFileSync(inRepo('fact'), 'utf8')).toBe('the sky is blue\n');
  });
});

describe('the queue of a clone', () => {
  test('is first in, first out, but for --prioritize, which goes before all that wait', async () => {
    const first = gate('go-order');
    const order = inRepo('order');
    await world.khlone(['act', '--who', 'tester@sh++', first.script]);
    const say = (word: string): string => `echo ${word} >> ${order}`;
    expect(await world.says(['act', '--who', 'tester.1', say('second')])).not.toContain('priority');
    await world.khlone(['act', '--who', 'tester.1', say('third')]);
    expect(await world.says(['act', '--who', 'tester.1', '--prioritize', say('urgent')])).toMatch(
      /^! ✓ task-\d+ → tester\.1 \(@feat\/auth\) \[priority\]\n$/,
    );
    const last = world.khlone(['act', '--who', 'tester.1', '--await', `cat ${order}`]);
    first.open();
    expect((await last).stdout).toBe('urgent\nsecond\nthird\n');
  });
});

describe('a prompt', () => {
  test('of 2 MB is taken from a pipe and from a file', async () => {
    const long = `#${'x'.repeat(2 * 1024 * 1024)}\necho read`;
    writeFileSync(join(world.base, 'long'), long);
    const act = ['act', '--who', 'mechanic.1', '--await', '--quiet'];
    expect((await world.khlone(act, { stdin: long })).stdout).toBe('read\n');
    expect((await world.khlone([...act, '--file', join(world.base, 'long')])).stdout).toBe('read\n');
  });

  test('over 4 MB is refused, and so is one that is empty, holds NUL or is no text', async () => {
    const long = 'x'.repeat(4 * 1024 * 1024 + 1);
    const act = ['act', '--who', 'mechanic.1'];
    const tooLong =
      '! ✗ the prompt is over 4 MB\n!   ↳ put it into a file of the repository and name it\n[exit 2]\n';
    expect(await world.says(act, { stdin: long })).toBe(tooLong);
    writeFileSync(join(world.base, 'long'), long);
    expect(await world.says([...act, '--file', join(world.base, 'long')])).toBe(tooLong);
    expect(await world.says(act, { stdin: 'a\0b' })).toBe(
      '! ✗ the prompt holds a NUL byte\n!   ↳ remove it: no program can read it\n[exit 2]\n',
    );
    expect(await world.says(act, { stdin: new Uint8Array([0x65, 0xff]) })).toBe(
      '! ✗ standard input is not UTF-8 text\n!   ↳ give text, or name the file in the prompt\n[exit 2]\n',
    );
    expect(await world.says(['act', '  '])).toBe(
      '! ✗ act what?\n!   ↳ khlone act "…", a pipe, or --file FILE\n[exit 2]\n',
    );
    expect(await world.says(['ask', '--file', 'nope'])).toBe(
      '! ✗ no file nope\n!   ↳ --file takes a readable file\n[exit 2]\n',
    );
  });

  test('with the bytes of a terminal’s commands is harmless in everything that shows it', async () => {
    const evil = String.raw`printf '\033]0;pwn\007\033[31mred\342\200\256\n' ; : '`;
    const prompt = `${evil}\x1b]0;title\x07\x1b[2J\u202e\x9b31m'`;
    const shown = [await world.khlone(['act', '--who', 'mechanic.1', '--await', '--watch', prompt])];
    const id = idOf(shown[0]?.stderr ?? '');
    for (const args of [['status'], ['log'], ['queue', '--all'], ['list', 'tasks'], ['log', '--task', id]]) {
      shown.push(await world.khlone(args));
    }
    shown.push(await world.khlone(['await', id]), await world.khlone(['status', '--task', id]));
    expect(shown[0]).toMatchObject({ code: 0, stdout: 'red\uFFFD\n' });
    for (const { stdout, stderr } of shown) {
      expect(stdout + stderr).not.toMatch(/[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e]/);
    }
  });
});
