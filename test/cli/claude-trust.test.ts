import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { processesOf } from '../../src/server/run-dir.ts';
import { ensureClaude } from '../fixtures/claude.ts';
import { type ClaudeWorld, createClaudeWorld } from '../fixtures/claude-world.ts';
import { until } from '../fixtures/khlone.ts';
import { type ModelApi, type Step, say } from '../fixtures/model-api.ts';
import { kill9 } from '../fixtures/server.ts';

/** What the real claude does with a repository's own hooks and servers, and what it is told when it begins again. */

const program = await ensureClaude();

let world: ClaudeWorld;
let api: ModelApi;
beforeAll(async () => {
  world = await createClaudeWorld(program);
  ({ api } = world);
});
afterAll(() => world.dispose());

const inRepo = (name: string): string => join(world.repo, name);
const run = (...args: string[]) => world.khlone(args, { limitMs: 60_000 });
const bash = (command: string): Step => ({ tools: [{ name: 'Bash', input: { command } }] });
const idIn = (text: string): string => /task-[0-9a-z]{10}/.exec(text)?.[0] ?? 'no id';

describe.skipIf(program === undefined)('a repository that brings a hook and an MCP server', () => {
  /** A server that says that it ran, and whose one tool a model would be told of. */
  const SERVER = `
require('node:fs').writeFileSync('served', '');
require('node:readline').createInterface({ input: process.stdin }).on('line', (line) => {
  const { id, method, params } = JSON.parse(line);
  if (id === undefined) return;
  const result =
    method === 'initialize'
      ? { protocolVersion: params.protocolVersion, capabilities: { tools: {} }, serverInfo: { name: 'own', version: '1' } }
      : method === 'tools/list'
        ? { tools: [{ name: 'pick', description: 'picks', inputSchema: { type: 'object' } }] }
        : {};
  console.log(JSON.stringify({ jsonrpc: '2.0', id, result }));
});
`;
  const hook = { hooks: [{ type: 'command', command: `touch ${'$'}CLAUDE_PROJECT_DIR/hooked` }] };
  const ran = (): string[] => ['hooked', 'served'].filter((name) => existsSync(inRepo(name)));

  beforeAll(() => {
    mkdirSync(inRepo('.claude'));
    const settings = { enableAllProjectMcpServers: true, hooks: { UserPromptSubmit: [hook] } };
    writeFileSync(inRepo('.claude/settings.json'), JSON.stringify(settings));
    writeFileSync(inRepo('server.cjs'), SERVER);
    const servers = { own: { command: process.execPath, args: [inRepo('server.cjs')] } };
    writeFileSync(inRepo('.mcp.json'), JSON.stringify({ mcpServers: servers }));
  });
  afterAll(() => {
    for (const name of ['.claude', '.mcp.json', 'server.cjs', 'hooked', 'served'])
      rmSync(inRepo(name), { recursive: true, force: true });
  });

  test('has neither run in an act before a person agreed', async () => {
    expect(await run('act', '--await', say('before trust', { text: 'acted' }))).toMatchObject({
      code: 0,
      stdout: 'acted\n',
    });
    expect(ran()).toEqual([]);
    expect(api.calls.at(-1)?.tools.filter((name) => name.includes('pick'))).toEqual([]);
  });

  test('has both run in the next act after khlone trust, which says what they are', async () => {
    const agreed = await run('trust', '--yes');
    expect(agreed.stderr).toContain('.claude/settings.json');
    expect(agreed.stderr).toContain('.mcp.json');
    expect(await run('act', '--await', say('after trust', { text: 'acted' }))).toMatchObject({ code: 0 });
    expect(ran()).toEqual(['hooked', 'served']);
  });

  test('has neither run in an ask, agreed to or not', async () => {
    for (const name of ran()) rmSync(inRepo(name));
    expect(await run('ask', '--await', say('an ask', { text: 'asked' }))).toMatchObject({ code: 0 });
    expect(ran()).toEqual([]);
  });

  test('has neither run any more when one of them was changed since', async () => {
    writeFileSync(inRepo('.mcp.json'), readFileSync(inRepo('.mcp.json'), 'utf8').replace('own', 'other'));
    expect(await run('act', '--await', say('changed', { text: 'acted' }))).toMatchObject({ code: 0 });
    expect(ran()).toEqual([]);
  });
});

describe.skipIf(program === undefined)('an act whose claude was killed in its middle', () => {
  /** An act of a new zone state that dies while its tool runs; its id. */
  const dieInside = async (words: string): Promise<string> => {
    const wait = 'echo $KHLONE_RUN > mark; echo half > "half done"; while ! test -e go; do sleep 0.05; done';
    const { stderr } = await run('act', say(words, bash(wait), { text: 'whole' }));
    const id = idIn(stderr);
    const mark = (): string =>
      existsSync(inRepo('mark')) ? readFileSync(inRepo('mark'), 'utf8').trim() : '';
    await until('the half', () => mark() !== '' && existsSync(inRepo('half done')), 30_000);
    kill9(processesOf(mark()));
    await until(
      'the outcome',
      async () => (await world.says(['status'])).includes('outcome unknown'),
      30_000,
    );
    return id;
  };

  test('is unknown; its retry goes on in the same conversation, told what changed meanwhile', async () => {
    const id = await dieInside('do it whole');
    writeFileSync(inRepo('by the person'), 'x\n');
    writeFileSync(inRepo('go'), '');
    const before = api.calls.length;
    const again = await run('retry', id);
    expect(again.code).toBe(0);
    const ended = await run('await', idIn(again.stderr));
    expect(ended).toMatchObject({ code: 0, stdout: 'whole\n' });
    const heard = api.calls[before]?.prompts ?? [];
    // What was asked first is still in the conversation; the note comes with what is asked now.
    expect(heard.filter((words) => words.includes('do it whole')).length).toBeGreaterThan(1);
    const now = heard.at(-1) ?? '';
    expect(now).toContain('Changed in the worktree since that attempt began:');
    expect(now).toContain('"by the person"');
    expect(now).toContain('"half done"');
  });

  test('is told otherwise when its person cancelled it, and of nothing when it was done', async () => {
    rmSync(inRepo('go'));
    rmSync(inRepo('mark'));
    const wait = 'echo begun > mark; while ! test -e go; do sleep 0.05; done';
    const id = idIn((await run('act', say('take your time', bash(wait), { text: 'over' }))).stderr);
    await until('its begin', () => existsSync(inRepo('mark')), 30_000);
    await run('cancel', id);
    await until('its end', async () => (await world.says(['status'])).includes('○ mechanic.1'), 30_000);
    writeFileSync(inRepo('go'), '');
    const heard = async (task: string): Promise<string> => {
      const before = api.calls.length;
      await run('await', idIn((await run('retry', task)).stderr));
      return api.calls[before]?.prompts.at(-1) ?? '';
    };
    expect(await heard(id)).toMatch(
      /^\[khlone\] An earlier attempt at this task was cancelled after it had begun\./,
    );
    const done = idIn(
      (await run('act', '--await', say('do it twice', bash('true'), { text: 'done' }))).stderr,
    );
    expect(await heard(done)).toMatch(/^do it twice\n/);
  });
});
