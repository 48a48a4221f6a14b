import { execFileSync, spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test, vi } from 'vitest';
import type { Brain, Mode } from '../../src/brains/brain.ts';
import { claude } from '../../src/brains/claude.ts';
import { BrainEvent } from '../../src/protocol/event.ts';
import { claudeEnv, ensureClaude } from '../fixtures/claude.ts';
import { type ModelApi, type Step, say, startModelApi } from '../fixtures/model-api.ts';
import { type BrainRun, runBrain } from '../fixtures/run-brain.ts';

const installed = await ensureClaude();
// Some containers have bwrap and refuse it.
const hasBwrap =
  spawnSync('bwrap', ['--ro-bind', '/', '/', '--dev', '/dev', '--proc', '/proc', 'true']).status === 0;

let api: ModelApi;
let root: string;
let cwd: string;
let runs: BrainRun[] = [];
let count = 0;

beforeAll(async () => {
  api = await startModelApi();
});
afterAll(() => api.close());
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'khlone-claude-test-'));
  cwd = join(root, 'work');
  mkdirSync(cwd);
  mkdirSync(join(root, 'home'));
  execFileSync('git', ['init', '-q', '-b', 'main', cwd]);
});
afterEach(async () => {
  await Promise.all(runs.map((run) => run.kill()));
  runs = [];
  rmSync(root, { recursive: true, force: true, maxRetries: 5, retryDelay: 50 });
});

type More = {
  brain?: Brain;
  sessionId?: string;
  newSessionId?: string;
  fork?: boolean;
  model?: string;
  roleText?: string;
};

const begin = (mode: Mode, more: More & { env?: Record<string, string> } = {}): BrainRun => {
  const { env = {}, ...spec } = more;
  // As long as a run's real folder: claude makes a socket below it.
  const dir = join(root, `home/.khlone/server/zones/a-zone-with-a-long-id/runs/mechanic.${count++}`);
  mkdirSync(dir, { recursive: true });
  const run = runBrain({
    brain: claude,
    dir,
    cwd,
    mode,
    env: claudeEnv(join(root, 'home'), api.url, env),
    ...spec,
  });
  runs.push(run);
  return run;
};

const turn = async (run: BrainRun, words: string, ...steps: Step[]) => {
  const uuid = crypto.randomUUID();
  run.say(uuid, say(words, ...steps));
  return run.end(uuid);
};

const bash = (command: string): Step => ({
  tools: [{ name: 'Bash', input: { command, description: 'a step' } }],
});
const write = (path: string, content: string): Step => ({
  tools: [{ name: 'Write', input: { file_path: path, content } }],
});
const sessionOf = (run: BrainRun): string =>
  run.events().flatMap((event) => (event.type === 'session' ? [event.id] : []))[0] ?? '';
const refused = (events: BrainEvent[]): boolean[] =>
  events.flatMap((event) => (event.type === 'tool.end' ? [event.denied] : []));

describe.skipIf(!installed)('the real claude', () => {
  test('an act writes a file, tells each tool before its end, its plan, its cost and its answer', async () => {
    const id = crypto.randomUUID();
    const run = begin('act', { newSessionId: id, model: 'haiku', roleText: '--You are the BAKER' });
    const todos = [
      { content: 'knead', status: 'completed', activeForm: 'Kneading' },
      { content: 'bake', status: 'in_progress', activeForm: 'Baking' },
    ];
    const { end, events } = await turn(
      run,
      'bake bread',
      { thinking: 'flour first', text: 'I start', tools: [{ name: 'TodoWrite', input: { todos } }] },
      { ...write(join(cwd, 'bread'), 'warm') },
      bash('printf " and fresh" >>bread'),
      { text: 'the bread is ready' },
    );
    expect(end).toEqual({ type: 'turn.end', reason: 'done', text: 'the bread is ready' });
    expect(readFileSync(join(cwd, 'bread'), 'utf8')).toBe('warm and fresh');
    expect(events.map((event) => event.type)).toEqual([
      ...['session', 'raw', 'thinking', 'text', 'tool.start', 'plan', 'tool.end'],
      ...['tool.start', 'tool.end', 'tool.start', 'tool.end', 'text', 'usage', 'turn.end'],
    ]);
    expect(events).toContainEqual({ type: 'session', id });
    expect(events).toContainEqual({ type: 'plan', done: 1, total: 2, step: 'Baking' });
    expect(events.filter((event) => event.type === 'tool.start').map((event) => event.input)).toEqual([
      expect.stringContaining('knead'),
      join(cwd, 'bread'),
      'printf " and fresh" >>bread',
    ]);
    const usage = events.find((event) => event.type === 'usage')?.usage;
    expect(usage).toMatchObject({ input: 400, output: 80, cacheRead: 28, cacheWrite: 12 });
    expect(usage?.costUsd).toBeGreaterThan(0);
    const call = await api.seen((seen) => seen.prompts.some((prompt) => prompt.startsWith('bake bread')));
    expect(call.system).toContain('--You are the BAKER');
    expect(call.model).toContain('haiku');
    expect(call.tools).not.toContain('EnterWorktree');
    expect(await run.finish()).toBe(0);
  });

  test('an ask reads, and is refused whatever writes', async () => {
    const run = begin('ask');
    const tool = (name: string, input: Record<string, unknown>) => ({ tools: [{ name, input }] });
    const { end, events } = await turn(
      run,
      'look',
      write(join(cwd, 'f1'), 'x'),
      tool('Edit', { file_path: join(cwd, 'f1'), old_string: 'x', new_string: 'y' }),
      tool('EnterWorktree', { name: 'elsewhere' }),
      bash('ls >f2'),
      bash('touch f3'),
      bash('git log --output=f4'),
      bash('echo $(touch f5)'),
      bash('git status --short'),
      tool('Grep', { pattern: 'main', path: cwd }),
      { text: 'seen' },
    );
    expect(end).toMatchObject({ reason: 'done', text: 'seen' });
    expect(refused(events)).toEqual([true, true, true, true, true, true, true, false, false]);
    expect(end.denials).toHaveLength(7);
    expect(end.denials).toEqual(expect.arrayContaining(['Bash: ls >f2', `Write: ${join(cwd, 'f1')}`]));
    expect(execFileSync('git', ['status', '--porcelain'], { cwd, encoding: 'utf8' })).toBe('');
    expect(
      execFileSync('git', ['worktree', 'list'], { cwd, encoding: 'utf8' }).trim().split('\n'),
    ).toHaveLength(1);
  });

  test.skipIf(!hasBwrap)(
    'an ask on a read-only file system keeps its session with its state paths alone',
    async () => {
      const confined: Brain = {
        ...claude,
        start: (spec) => {
          const writable = [...claude.statePaths(spec.env), spec.tmpDir];
          for (const path of writable) mkdirSync(path, { recursive: true });
          const view = [
            'bwrap',
            '--ro-bind',
            '/',
            '/',
            '--dev',
            '/dev',
            '--proc',
            '/proc',
            '--cap-drop',
            'ALL',
          ];
          const { argv, env } = claude.start(spec);
          return {
            argv: [...view, ...writable.flatMap((path) => ['--bind', path, path]), '--', ...argv],
            env,
          };
        },
      };
      const first = begin('ask', { brain: confined });
      const { end, events } = await turn(first, 'remember oak', bash('git status --short'), { text: 'oak' });
      expect(end).toMatchObject({ reason: 'done', text: 'oak' });
      expect(events.find((event) => event.type === 'tool.end')).toMatchObject({ ok: true });
      await first.finish();
      const second = begin('ask', { brain: confined, sessionId: sessionOf(first) });
      expect((await turn(second, 'which tree', { text: 'oak' })).end.text).toBe('oak');
      const call = await api.seen((seen) => seen.prompts.at(-1)?.startsWith('which tree') === true);
      expect(call.prompts[0]).toContain('remember oak');
      expect(readdirSync(join(root, 'home/.claude'))).toEqual(['projects']);
      expect(readdirSync(join(root, 'home'))).toEqual(['.claude', '.khlone']);
    },
  );

  test('two turns share a context, each with its own cost, and another process resumes it', async () => {
    const first = begin('act');
    const one = await turn(first, 'remember tea', { text: 'tea' });
    const two = await turn(first, 'and milk', { text: 'milk' });
    const costs = [one, two].map(
      ({ events }) => events.find((event) => event.type === 'usage')?.usage.costUsd,
    );
    expect(costs[0]).toBeCloseTo(costs[1] ?? 0, 8);
    expect(await first.finish()).toBe(0);
    const again = begin('ask', { sessionId: sessionOf(first), roleText: 'another ROLE' });
    await turn(again, 'what was it', { text: 'tea and milk' });
    const call = await api.seen((seen) => seen.prompts.at(-1)?.startsWith('what was it') === true);
    expect(call.prompts.map((prompt) => prompt.split('\n')[0])).toEqual([
      'remember tea',
      'and milk',
      'what was it',
    ]);
    expect(call.system).toContain('another ROLE');
    expect(sessionOf(again)).toBe(sessionOf(first));
  });

  test('a fork answers from a copy while the original is busy', async () => {
    const original = begin('act');
    await turn(original, 'the word is plum', { text: 'noted' });
    const busy = crypto.randomUUID();
    const steps = [bash('while [ ! -e go ]; do sleep 0.1; done; echo went'), { text: 'finished' }];
    original.say(busy, say('wait', ...steps));
    await original.until(() => original.events(busy).some((event) => event.type === 'tool.start'));
    const id = crypto.randomUUID();
    const fork = begin('ask', { sessionId: sessionOf(original), fork: true, newSessionId: id });
    const { end } = await turn(fork, 'which word', { text: 'plum' });
    expect(end).toMatchObject({ reason: 'done', text: 'plum' });
    expect(sessionOf(fork)).toBe(id);
    const call = await api.seen((seen) => seen.prompts.at(-1)?.startsWith('which word') === true);
    expect(call.prompts[0]).toContain('the word is plum');
    expect(original.events(busy).some((event) => event.type === 'turn.end')).toBe(false);
    execFileSync('touch', [join(cwd, 'go')]);
    expect((await original.end(busy)).end).toMatchObject({ reason: 'done', text: 'finished' });
  });

  test('an interrupt stops a tool, and the process takes the next turn', async () => {
    const run = begin('act');
    const uuid = crypto.randomUUID();
    // Claude refuses to run a plain sleep; and only a command that runs can be stopped.
    run.say(uuid, say('wait', bash('touch begun; while [ ! -e go ]; do sleep 0.1; done; touch late')));
    await vi.waitUntil(() => existsSync(join(cwd, 'begun')), { timeout: 20_000 });
    run.interrupt();
    const { end, events } = await run.end(uuid);
    expect(end).toMatchObject({ reason: 'interrupted' });
    expect(refused(events)).toEqual([false]);
    expect((await turn(run, 'go on', { text: 'here' })).end.text).toBe('here');
    expect(existsSync(join(cwd, 'late'))).toBe(false);
  });

  test('words said during a turn reach that turn', async () => {
    const run = begin('act');
    const uuid = crypto.randomUUID();
    run.say(uuid, say('first', bash('while [ ! -e go ]; do sleep 0.1; done'), { text: 'end' }));
    await run.until(() => run.events(uuid).some((event) => event.type === 'tool.start'));
    run.say(crypto.randomUUID(), 'steered words');
    await run.until(() => run.lines().filter((line) => line.includes('"queued"')).length >= 2);
    execFileSync('touch', [join(cwd, 'go')]);
    expect((await run.end(uuid)).end.reason).toBe('done');
    await api.seen((seen) => seen.notes.some((note) => note.includes('steered words')));
  });

  test('a turn that a background command starts is not taken for the end of ours', async () => {
    const run = begin('act');
    const command = {
      command: 'while [ ! -e go ]; do sleep 0.1; done',
      description: 'd',
      run_in_background: true,
    };
    await turn(run, 'start it', { tools: [{ name: 'Bash', input: command }] }, { text: 'started' });
    const uuid = crypto.randomUUID();
    execFileSync('touch', [join(cwd, 'go')]);
    await run.until(() =>
      run.events(uuid).some((event) => event.type === 'raw' && event.kind === 'result.other'),
    );
    await run.until(() => run.lines().filter((line) => line.includes('"type":"result"')).length === 2);
    expect(run.events(uuid).some((event) => event.type === 'turn.end')).toBe(false);
    run.say(uuid, say('mine', { text: 'my end' }));
    expect((await run.end(uuid)).end.text).toBe('my end');
  });

  test('a wrong key is an auth fault with its status', async () => {
    const run = begin('act');
    const { end, events } = await turn(run, 'try', { error: 401 });
    expect(end).toMatchObject({ reason: 'error', fault: { kind: 'auth', status: 401 } });
    expect(end.fault?.message).toContain('401');
    expect(events.filter((event) => event.type === 'text')).toEqual([]);
    expect((await turn(run, 'again', { text: 'fine' })).end.text).toBe('fine');
  });

  test('no key is an auth fault without a call', async () => {
    const before = api.calls.length;
    const { end } = await turn(begin('act', { env: { ANTHROPIC_API_KEY: '' } }), 'no key');
    expect(end.fault?.kind).toBe('auth');
    expect(api.calls.length).toBe(before);
  });

  test('a rate limit that passes is told as a retry, one that stays as a fault', async () => {
    const run = begin('act');
    const passing = await turn(run, 'passing', { error: 429, times: 1, text: 'in the end' });
    expect(passing.end).toMatchObject({ reason: 'done', text: 'in the end' });
    expect(passing.events).toContainEqual({
      type: 'retry',
      attempt: 1,
      status: 429,
      waitMs: expect.any(Number),
    });
    expect((await turn(run, 'staying', { error: 429 })).end.fault).toMatchObject({
      kind: 'rate',
      status: 429,
    });
  });

  test('an overloaded API, a broken connection and an unknown model are told apart', async () => {
    const run = begin('act');
    const overload = await turn(run, 'over', { error: 529 });
    expect(overload.end.fault).toMatchObject({ kind: 'overload', status: 529 });
    expect(overload.events.filter((event) => event.type === 'retry')).toHaveLength(2);
    expect((await turn(run, 'drop', { drop: 'before' })).end.fault?.kind).toBe('network');
    expect((await turn(run, 'cut', { drop: 'middle', times: 1, text: 'whole' })).end.text).toBe('whole');
    expect((await turn(run, 'model', { error: 404 })).end.fault).toMatchObject({
      kind: 'model',
      status: 404,
    });
  });

  test('an API that hangs gives no events, and an interrupt ends the turn', async () => {
    const run = begin('act');
    const uuid = crypto.randomUUID();
    run.say(uuid, say('hang', { hang: true }));
    await api.seen((call) => call.status === 'hung');
    expect(run.events(uuid).filter((event) => event.type !== 'session')).toEqual([]);
    run.interrupt();
    expect((await run.end(uuid)).end.reason).toBe('interrupted');
  });

  test('a session that does not exist is a session fault', async () => {
    const run = begin('act', { sessionId: crypto.randomUUID() });
    const { end } = await turn(run, 'hello');
    expect(end.fault?.kind).toBe('session');
    expect(sessionOf(run)).toBe('');
    expect(await run.finish()).toBe(1);
  });

  test('every line that it printed gives valid events', async () => {
    const run = begin('act');
    await turn(run, 'all', { thinking: 'h', text: 'a', ...bash('echo hi') }, { text: 'b' });
    for (const event of run.events()) BrainEvent.parse(event);
  });

  test('the probe tells a key, no login, and no program', async () => {
    const env = claudeEnv(join(root, 'home'), api.url);
    expect(await claude.probe(env)).toMatchObject({
      ready: true,
      found: true,
      auth: 'ok',
      version: '2.1.329',
    });
    expect(await claude.probe({ ...env, ANTHROPIC_API_KEY: '' })).toMatchObject({
      ready: false,
      found: true,
      auth: 'missing',
      hint: 'khlone login claude',
    });
    expect(await claude.probe({ ...env, PATH: '/usr/bin:/bin' })).toMatchObject({
      ready: false,
      found: false,
    });
  });
});
