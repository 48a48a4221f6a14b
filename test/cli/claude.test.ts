import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { ensureClaude } from '../fixtures/claude.ts';
import { type ClaudeWorld, createClaudeWorld } from '../fixtures/claude-world.ts';
import { until } from '../fixtures/khlone.ts';
import { type Call, type ModelApi, type Step, say } from '../fixtures/model-api.ts';

/** The real claude behind the command line, against a scripted model API. */

const program = await ensureClaude();
const LIMIT_MS = 60_000;

let world: ClaudeWorld;
let api: ModelApi;
beforeAll(async () => {
  world = await createClaudeWorld(program);
  ({ api } = world);
});
afterAll(() => world.dispose());

const inRepo = (name: string): string => join(world.repo, name);
const run = (args: string[], env: Record<string, string> = {}) =>
  world.khlone(args, { limitMs: LIMIT_MS, env });
const tool = (name: string, input: Record<string, unknown>): Step => ({ tools: [{ name, input } as Call] });
const idIn = (text: string): string => /task-[0-9a-z]{10}/.exec(text)?.[0] ?? 'no id';

describe.skipIf(program === undefined)('claude through the command line', () => {
  test('writes a file, answers on stdout, and tells tokens and cost', async () => {
    const prompt = say('write it', tool('Write', { file_path: inRepo('made'), content: 'by claude\n' }), {
      text: 'It is written.',
    });
    const ran = await run(['act', '--await', prompt]);
    expect(ran).toMatchObject({ code: 0, stdout: 'It is written.\n' });
    expect(ran.stderr).toMatch(
      /\n\[await\] mechanic\.1: active…\n\[await\] mechanic\.1: done \(tokens: 260, <?\$\d\.\d\d\)\n$/,
    );
    expect(readFileSync(inRepo('made'), 'utf8')).toBe('by claude\n');
    expect(await world.says(['status'])).toMatch(/○ mechanic\.1 {2}claude[\s\S]*spent {2}260 tokens, /);
  });

  test('reports its plan as progress', async () => {
    const todos = ['completed', 'in_progress'].map((status) => ({
      content: status,
      status,
      activeForm: status,
    }));
    const ran = await run([
      'act',
      '--watch',
      say('plan it', tool('TodoWrite', { todos }), { text: 'planned' }),
    ]);
    expect(ran.stderr).toMatch(/\[mechanic\.1\] 1 of 2 steps: in_progress\n/);
  });

  test('keeps one conversation over tasks, and another for another session', async () => {
    const heard = async (words: string, session: string): Promise<string[]> => {
      await run(['act', '--await', say(words)], { KHLONE_SESSION: session });
      return (api.calls.at(-1)?.prompts ?? []).map((prompt) => prompt.split('\n')[0] ?? '');
    };
    expect(await heard('first', 'one')).toEqual(['first']);
    expect(await heard('second', 'one')).toEqual(['first', 'second']);
    expect(await heard('elsewhere', 'two')).toEqual(['elsewhere']);
    expect(await heard('third', 'one')).toEqual(['first', 'second', 'third']);
  });

  test('keeps its conversation when hub and server were killed in between', async () => {
    await run(['act', '--await', say('before the kill')]);
    await world.kill(world.hubPid());
    await world.kill(world.serverPid());
    await run(['act', '--await', say('after the kill')]);
    expect(api.calls.at(-1)?.prompts.map((words) => words.split('\n')[0])).toContain('before the kill');
  });
});

describe.skipIf(program === undefined)('an ask by claude', () => {
  const snapshot = (): string =>
    execFileSync(
      'sh',
      ['-c', 'git status --short --ignored; git worktree list; git rev-parse HEAD; cat settled'],
      {
        cwd: world.repo,
      },
    ).toString();

  const tries: [string, () => Step[]][] = [
    ['Write', () => [tool('Write', { file_path: inRepo('sneaked'), content: 'x' })]],
    [
      'Edit',
      () => [
        tool('Read', { file_path: inRepo('settled') }),
        tool('Edit', { file_path: inRepo('settled'), old_string: 'in', new_string: 'out' }),
      ],
    ],
    ['Bash with a redirect', () => [tool('Bash', { command: `echo x > ${inRepo('sneaked')}` })]],
    [
      'Bash with git',
      () => [tool('Bash', { command: 'git commit --allow-empty -m x; git stash; git branch sneaked' })],
    ],
    ['EnterWorktree', () => [tool('EnterWorktree', { name: 'sneaked' })]],
    [
      'its own settings',
      () => [
        tool('Write', { file_path: join(world.person, '.claude/settings.json'), content: '{}' }),
        tool('Bash', { command: `echo '{}' > ${join(world.person, '.claude/settings.json')}` }),
      ],
    ],
    [
      'the private tmux',
      () => [
        tool('Bash', { command: `tmux -S ${world.home.tmuxSocket} new-window 'touch ${inRepo('sneaked')}'` }),
      ],
    ],
    [
      'khlone’s own sockets',
      () => [tool('Bash', { command: `khlone act --who @sh 'touch ${inRepo('sneaked')}'` })],
    ],
    [
      'a remount',
      () => [
        tool('Bash', {
          command: `mount -o remount,rw / ; mount -o remount,rw ${world.repo}; touch ${inRepo('sneaked')}`,
        }),
      ],
    ],
    [
      '/proc of another process',
      () => [tool('Bash', { command: `for p in /proc/[0-9]*; do touch $p/root${inRepo('sneaked')}; done` })],
    ],
  ];

  test.each(tries)('cannot change anything by %s, and says what it may not', async (_name, steps) => {
    writeFileSync(inRepo('settled'), 'in\n');
    const before = snapshot();
    const ran = await run(['ask', '--await', '--watch', say('try it', ...steps(), { text: 'I tried.' })]);
    expect(ran.stdout).toBe('I tried.\n');
    const results = api.calls.at(-1)?.toolResults.join('\n') ?? '';
    expect(results).toMatch(
      /permission|not allowed|denied|Read-only|not available|No such tool|disallowed|cannot|must be|error/i,
    );
    expect(snapshot()).toBe(before);
    expect(existsSync(inRepo('sneaked'))).toBe(false);
    expect(existsSync(join(world.person, '.claude/settings.json'))).toBe(false);
  });
});

describe.skipIf(program === undefined)('an act by claude', () => {
  test('cannot write outside of the zone, by its tools or by a shell', async () => {
    const outside = join(world.person, 'outside');
    mkdirSync(outside);
    const steps = [
      tool('Write', { file_path: join(outside, 'a'), content: 'x' }),
      tool('Bash', {
        command: `echo x > ${join(outside, 'b')}; echo x > ${world.home.root}/c; echo inside > inside`,
      }),
    ];
    const ran = await run(['act', '--await', say('go out', ...steps, { text: 'went' })]);
    expect(ran).toMatchObject({ code: 0, stdout: 'went\n' });
    expect([existsSync(join(outside, 'a')), existsSync(join(outside, 'b'))]).toEqual([false, false]);
    expect(existsSync(join(world.home.root, 'c'))).toBe(false);
    expect(existsSync(inRepo('inside'))).toBe(true);
  });
});

describe.skipIf(program === undefined)('an API that fails', () => {
  test('with 401 holds the task for a login, exit 5; retry lets the same task go on', async () => {
    const ran = await run(['act', '--await', say('log in first', { error: 401, times: 3 }, { text: 'in' })]);
    expect(ran).toMatchObject({ code: 5, stdout: '' });
    expect(ran.stderr).toMatch(/\n✗ .*401.*\n {2}↳ khlone login claude, then khlone retry task-\w{10}\n$/);
    const id = idIn(ran.stderr);
    expect(await world.says(['status'])).toMatch(
      /◐ mechanic\.1[\s\S]*◐ task-\d+ .*401.* ↳ khlone login claude, then khlone retry task-\d+/,
    );
    const again = await run(['retry', id]);
    expect(again.code).toBe(0);
    expect(idIn(again.stderr)).toBe(id);
    expect(await run(['await', id])).toMatchObject({ code: 0 });
  });

  test('with 429 once, is asked again by claude, and the task is done', async () => {
    const ran = await run([
      'act',
      '--watch',
      say('too many', { error: 429, retryAfterS: 0, times: 1, text: 'through' }),
    ]);
    expect(ran.code).toBe(0);
    expect(ran.stderr).toMatch(/\[mechanic\.1\] the API answers 429; try 1\n/);
  });

  test('with 529 for ever ends the task with its reason', async () => {
    const ran = await run(['act', '--await', say('overloaded', { error: 529 })]);
    expect(ran.code).toBe(1);
    expect(ran.stderr).toMatch(/\n✗ .*(529|[Oo]verloaded).*\n {2}↳ khlone retry task-\w{10}\n$/);
  });

  test('that cuts the connection in the middle once, is asked again', async () => {
    const ran = await run(['act', '--await', say('cut off', { drop: 'middle', times: 1, text: 'whole' })]);
    expect(ran).toMatchObject({ code: 0, stdout: 'whole\n' });
  });

  test('that hangs is left when the limit of the task passed, exit 124', async () => {
    const ran = await run(['act', '--await', '--limit', '2s', say('hang', { hang: true })]);
    expect(ran.code).toBe(124);
    expect(ran.stderr).toMatch(/\n✗ the limit of the task passed\n {2}↳ khlone retry task-\w{10}\n$/);
    await until('the clone to be free', async () => (await world.says(['status'])).includes('○ mechanic.1'));
    expect(await run(['act', '--await', say('afterwards', { text: 'well' })])).toMatchObject({
      stdout: 'well\n',
    });
  });
});
