import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { createClaudeReader } from '../../src/brains/claude-reader.ts';
import { BrainEvent } from '../../src/protocol/event.ts';

const read = (lines: unknown[], turnUuid?: string): BrainEvent[] =>
  lines.map((line) => JSON.stringify(line)).flatMap(createClaudeReader(turnUuid));

const counts = {
  inputTokens: 3,
  outputTokens: 2,
  cacheReadInputTokens: 1,
  cacheCreationInputTokens: 0,
  costUSD: 0.5,
};
const done = (more: Record<string, unknown> = {}) => ({
  ...{ type: 'result', subtype: 'success', is_error: false, result: 'yes', terminal_reason: 'completed' },
  ...{ num_turns: 1, result_index: 0, total_cost_usd: 9, user_message_uuids: ['me'] },
  model_usage_since_last_result: { opus: counts, haiku: counts },
  ...more,
});

describe('the lines of claude', () => {
  test('the cost of a result is what came since the last one, over all models', () => {
    const usage = { input: 6, output: 4, cacheRead: 2, cacheWrite: 0, costUsd: 1 };
    expect(read([done()], 'me')).toEqual([
      { type: 'usage', usage },
      { type: 'turn.end', reason: 'done', text: 'yes' },
    ]);
  });

  test('a fresh reader in the middle of a run gives the same cost and end', () => {
    const lines = [done({ user_message_uuids: ['earlier'] }), done({ result_index: 1, total_cost_usd: 10 })];
    expect(read(lines.slice(1), 'me')).toEqual(read(lines, 'me').slice(-2));
  });

  test('a result that names another message, or none though it could, is not our end', () => {
    const ends = (line: Record<string, unknown>) =>
      read([line], 'me').filter((event) => event.type === 'turn.end');
    expect(ends(done({ user_message_uuids: ['other'] }))).toEqual([]);
    expect(ends(done({ user_message_uuids: undefined }))).toEqual([]);
    expect(ends(done({ user_message_uuids: undefined, result_index: undefined }))).toHaveLength(1);
    expect(ends(done({ user_message_uuids: ['other', 'me'] }))).toHaveLength(1);
  });

  test('a limit, a lost session and a refused key are faults of their kinds', () => {
    const kind = (more: Record<string, unknown>) =>
      read([done({ is_error: true, terminal_reason: 'api_error', result: '', ...more })], 'me').flatMap(
        (event) => (event.type === 'turn.end' ? [event.fault?.kind] : []),
      )[0];
    expect(kind({ subtype: 'error_max_turns' })).toBe('limit');
    expect(kind({ errors: ['No conversation found with session ID: x'] })).toBe('session');
    expect(kind({ api_error_status: 403 })).toBe('auth');
    expect(kind({ api_error_status: 503 })).toBe('overload');
    expect(kind({ result: 'Not logged in · Please run /login' })).toBe('auth');
    expect(kind({ api_error: 'connection_failed' })).toBe('network');
    expect(kind({ api_error_status: 400, result: 'Prompt is too long' })).toBe('other');
  });

  test('a huge tool output is cut and says by how much', () => {
    const block = { type: 'tool_result', tool_use_id: 't', content: 'x'.repeat(100_000) };
    const [event] = read([{ type: 'user', message: { content: [block] } }]);
    expect(event).toMatchObject({ type: 'tool.end', ok: true, denied: false });
    expect(event?.type === 'tool.end' && event.output).toMatch(/x\n\[67232 characters left out here\]$/);
  });

  test('the words of a subagent are no answer, its tools have effects', () => {
    const content = [
      { type: 'text', text: 'inner' },
      { type: 'tool_use', id: 't', name: 'Bash', input: { command: 'a\n b' } },
    ];
    expect(read([{ type: 'assistant', parent_tool_use_id: 'p', message: { content } }])).toEqual([
      { type: 'tool.start', id: 't', name: 'Bash', input: 'a b' },
    ]);
  });

  test('no line makes it throw or gives an event of a wrong shape', () => {
    const word = fc.constantFrom(
      ...[
        'assistant',
        'user',
        'system',
        'result',
        'control_request',
        'init',
        'api_retry',
        'permission_denied',
      ],
      ...[
        'text',
        'tool_use',
        'tool_result',
        'thinking',
        'success',
        'error_max_turns',
        'can_use_tool',
        'TodoWrite',
      ],
    );
    const key = fc.constantFrom(
      ...[
        'type',
        'subtype',
        'message',
        'content',
        'id',
        'name',
        'input',
        'todos',
        'session_id',
        'is_error',
        'result',
      ],
      ...[
        'tool_use_id',
        'attempt',
        'error_status',
        'errors',
        'permission_denials',
        'usage',
        'status',
        'request',
      ],
      ...[
        'model_usage_since_last_result',
        'user_message_uuids',
        'terminal_reason',
        'api_error_status',
        'thinking',
      ],
    );
    const { value } = fc.letrec((tie) => ({
      value: fc.oneof(
        { maxDepth: 4 },
        fc.oneof(word, fc.string({ unit: 'binary' }), fc.double(), fc.boolean(), fc.constant(null)),
        fc.array(tie('value'), { maxLength: 4 }),
        fc.dictionary(key, tie('value'), { maxKeys: 8 }),
      ),
    }));
    const typed = fc
      .tuple(word, fc.dictionary(key, value, { maxKeys: 10 }))
      .map(([type, rest]) => ({ ...rest, type }));
    const line = fc.oneof(
      typed.map((v) => JSON.stringify(v)),
      value.map((v) => JSON.stringify(v).replace(/\d+/, '1e999')),
      fc.string({ size: 'max', maxLength: 1_000, unit: 'binary' }),
    );
    fc.assert(
      fc.property(
        fc.array(line, { maxLength: 12 }),
        fc.option(fc.string(), { nil: undefined }),
        (lines, uuid) => {
          for (const event of lines.flatMap(createClaudeReader(uuid))) BrainEvent.parse(event);
        },
      ),
      { numRuns: 1_000 },
    );
  });
});
