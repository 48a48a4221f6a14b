import type { BrainEvent, TurnEnd, Usage } from '../protocol/event.ts';
import { displayLine, isObject, parseObject, type Reader } from './brain.ts';

/**
 * The lines of `claude -p --output-format stream-json` as events (measured with 2.1.329).
 * Traps that decide the shape of this file: an API failure is `subtype: success` with `is_error`; an interrupted turn ends
 * with exit code 0; `total_cost_usd` counts the whole process while `model_usage_since_last_result` counts one result;
 * a finished background command makes claude take a turn that nobody asked for, whose result names no user message.
 */

type Json = Record<string, unknown>;

/** What a line is read with: only hints that make later lines clearer, so a fresh reader gives the same ends and costs. */
type State = {
  turnUuid: string | undefined;
  session: string;
  denied: Map<string, string>;
  tools: Map<string, string>;
};

/** Tools and denials remembered within a turn, and the longest tool output passed on, in characters. */
const MAX_REMEMBERED = 10_000;
const MAX_OUTPUT_CHARS = 32 * 1024;
const MAX_SESSION_CHARS = 200;
const MAX_DENIALS = 100;

const object = (value: unknown): Json => (isObject(value) ? value : {});
const list = (value: unknown): unknown[] => (Array.isArray(value) ? value : []);
const text = (value: unknown): string => (typeof value === 'string' ? value : '');
/** JSON can spell numbers that no double holds (1e999). */
const finite = (value: unknown): number | undefined =>
  typeof value === 'number' && Number.isFinite(value) ? value : undefined;
const count = (value: unknown): number => finite(value) ?? 0;
const remember = (map: Map<string, string>, key: string, value: string): void => {
  if (map.size < MAX_REMEMBERED) map.set(key, value);
};

const TELLING_FIELDS = ['command', 'file_path', 'pattern', 'path', 'url', 'query', 'description', 'skill'];

/** What a tool call is about, as one line: the field that tells most, else the whole input. */
const inputLine = (input: unknown): string => {
  const fields = object(input);
  const telling = TELLING_FIELDS.map((name) => fields[name]).find((v) => typeof v === 'string' && v !== '');
  return displayLine(typeof telling === 'string' ? telling : (JSON.stringify(input) ?? ''));
};

const planOf = (input: unknown): BrainEvent[] => {
  const todos = list(object(input).todos).map(object);
  if (todos.length === 0) return [];
  const active = todos.find((todo) => todo.status === 'in_progress');
  const step = text(active?.activeForm) || text(active?.content);
  const done = todos.filter((todo) => todo.status === 'completed').length;
  return [{ type: 'plan', done, total: todos.length, ...(step && { step: displayLine(step) }) }];
};

const toolUse = (state: State, block: Json): BrainEvent[] => {
  const id = text(block.id);
  const name = text(block.name);
  const input = inputLine(block.input);
  remember(state.tools, id, `${name}: ${input}`);
  return [{ type: 'tool.start', id, name, input }, ...(name === 'TodoWrite' ? planOf(block.input) : [])];
};

const assistant = (state: State, line: Json): BrainEvent[] => {
  // The result tells a failed call as what it is; the words that stand for it here are no answer.
  if (line.is_api_error_message === true) return [];
  const isSubagent = typeof line.parent_tool_use_id === 'string';
  return list(object(line.message).content).flatMap((raw): BrainEvent[] => {
    const block = object(raw);
    if (block.type === 'tool_use') return toolUse(state, block);
    if (isSubagent) return [];
    if (block.type === 'text') return [{ type: 'text', text: text(block.text), final: true }];
    return block.type === 'thinking' && text(block.thinking) !== ''
      ? [{ type: 'thinking', text: text(block.thinking) }]
      : [];
  });
};

const outputOf = (content: unknown): string => {
  const all =
    typeof content === 'string'
      ? content
      : list(content)
          .map((block) => text(object(block).text))
          .join('\n');
  return all.length > MAX_OUTPUT_CHARS
    ? `${all.slice(0, MAX_OUTPUT_CHARS)}\n[${all.length - MAX_OUTPUT_CHARS} characters left out here]`
    : all;
};

// The words with which claude refuses a call: by its mode, or because the tool is not on the list.
const REFUSAL =
  /^(<tool_use_error>)?(Error: )?(No such tool available|Permission to use \S+ has been denied|Claude requested permissions)/;

const user = (state: State, line: Json): BrainEvent[] =>
  list(object(line.message).content).flatMap((raw): BrainEvent[] => {
    const block = object(raw);
    if (block.type !== 'tool_result') return [];
    const id = text(block.tool_use_id);
    const output = outputOf(block.content);
    const failed = block.is_error === true;
    const denied = failed && (state.denied.has(id) || REFUSAL.test(output));
    if (denied) remember(state.denied, id, state.tools.get(id) ?? id);
    state.tools.delete(id);
    return [{ type: 'tool.end', id, ok: !failed, output, denied }];
  });

const system = (state: State, line: Json): BrainEvent[] => {
  switch (line.subtype) {
    case 'init': {
      const id = text(line.session_id);
      if (id === '' || id.length > MAX_SESSION_CHARS || id === state.session) return [];
      state.session = id;
      return [{ type: 'session', id }];
    }
    case 'api_retry': {
      const status = finite(line.error_status);
      const waitMs = finite(line.retry_delay_ms);
      const more = { ...(status !== undefined && { status }), ...(waitMs !== undefined && { waitMs }) };
      return [{ type: 'retry', attempt: count(line.attempt), ...more }];
    }
    case 'permission_denied': {
      const id = text(line.tool_use_id);
      remember(state.denied, id, state.tools.get(id) ?? text(line.tool_name));
      return [];
    }
    default:
      return [{ type: 'raw', kind: `system.${text(line.subtype).slice(0, 60)}` }];
  }
};

const EMPTY: Usage = { input: 0, output: 0, cacheRead: 0, cacheWrite: 0 };

/** Tokens and cost of one result. The per-model counts also hold side models, subagents and calls that broke off. */
const usageOf = (line: Json): BrainEvent[] => {
  const models = Object.values(object(line.model_usage_since_last_result)).map(object);
  const sum = models.reduce<Usage>(
    (all, model) => ({
      input: all.input + count(model.inputTokens),
      output: all.output + count(model.outputTokens),
      cacheRead: all.cacheRead + count(model.cacheReadInputTokens),
      cacheWrite: all.cacheWrite + count(model.cacheCreationInputTokens),
      costUsd: (all.costUsd ?? 0) + count(model.costUSD),
    }),
    EMPTY,
  );
  const own = object(line.usage);
  const plain: Usage = {
    input: count(own.input_tokens),
    output: count(own.output_tokens),
    cacheRead: count(own.cache_read_input_tokens),
    cacheWrite: count(own.cache_creation_input_tokens),
  };
  const usage = models.length > 0 ? sum : plain;
  return usage.input + usage.output + usage.cacheRead + usage.cacheWrite > 0
    ? [{ type: 'usage', usage }]
    : [];
};

type Fault = NonNullable<TurnEnd['fault']>;

const kindOfStatus = (status: number): Fault['kind'] => {
  if (status === 401 || status === 403) return 'auth';
  if (status === 404) return 'model';
  if (status === 429) return 'rate';
  return status >= 500 ? 'overload' : 'other';
};

const kindOf = (line: Json, message: string, status: number | undefined): Fault['kind'] => {
  if (line.subtype === 'error_max_turns' || line.subtype === 'error_max_budget_usd') return 'limit';
  if (/No conversation found/.test(message)) return 'session';
  if (status !== undefined) return kindOfStatus(status);
  if (/not logged in|\/login\b|invalid api key/i.test(message)) return 'auth';
  const isNetwork =
    line.api_error === 'connection_failed' || /connection|ECONN|ETIMEDOUT|timed out/i.test(message);
  return line.terminal_reason === 'api_error' && isNetwork ? 'network' : 'other';
};

const faultOf = (line: Json): Fault => {
  const message =
    text(line.result) || list(line.errors).map(text).join('; ') || text(line.subtype) || 'failed';
  const status = finite(line.api_error_status);
  return { kind: kindOf(line, message, status), message, ...(status !== undefined && { status }) };
};

const denialsOf = (state: State, line: Json): string[] => {
  const told = list(line.permission_denials).map((raw) => {
    const denial = object(raw);
    state.denied.delete(text(denial.tool_use_id));
    return `${text(denial.tool_name)}: ${inputLine(denial.tool_input)}`;
  });
  return [...told, ...state.denied.values()].slice(0, MAX_DENIALS);
};

/** Whether a result is the end of the turn that is read: it names our message, or it is of a claude that names none. */
const isOurs = (state: State, line: Json): boolean => {
  if (state.turnUuid === undefined) return true;
  if (Array.isArray(line.user_message_uuids)) return line.user_message_uuids.includes(state.turnUuid);
  const tellsMessages = typeof line.result_index === 'number';
  const neverBegan = count(line.num_turns) === 0;
  return !tellsMessages || neverBegan;
};

const turnEnd = (state: State, line: Json): TurnEnd => {
  const denials = denialsOf(state, line);
  const more = denials.length > 0 ? { denials } : {};
  if (text(line.terminal_reason).startsWith('aborted')) {
    return { type: 'turn.end', reason: 'interrupted', text: text(line.result), ...more };
  }
  if (line.is_error === true || text(line.subtype).startsWith('error')) {
    return { type: 'turn.end', reason: 'error', text: '', fault: faultOf(line), ...more };
  }
  return { type: 'turn.end', reason: 'done', text: text(line.result), ...more };
};

const result = (state: State, line: Json): BrainEvent[] => {
  if (!isOurs(state, line)) return [...usageOf(line), { type: 'raw', kind: 'result.other' }];
  const events = [...usageOf(line), turnEnd(state, line)];
  state.denied.clear();
  state.tools.clear();
  return events;
};

const permission = (line: Json): BrainEvent[] => {
  const request = object(line.request);
  if (request.subtype !== 'can_use_tool') return [{ type: 'raw', kind: 'control_request' }];
  return [
    {
      type: 'permission',
      id: text(line.request_id),
      tool: text(request.tool_name),
      input: inputLine(request.input),
    },
  ];
};

const eventsOf = (state: State, line: Json): BrainEvent[] => {
  switch (line.type) {
    case 'assistant':
      return assistant(state, line);
    case 'user':
      return user(state, line);
    case 'system':
      return system(state, line);
    case 'result':
      return result(state, line);
    case 'control_request':
      return permission(line);
    case 'control_response':
    case 'command_lifecycle':
      return [];
    default:
      return [{ type: 'raw', kind: text(line.type).slice(0, 60) || 'json' }];
  }
};

/** A reader of one run; `turnUuid` names the message whose result is the end of the turn. */
export const createClaudeReader = (turnUuid?: string): Reader => {
  const state: State = { turnUuid, session: '', denied: new Map(), tools: new Map() };
  return (line) => {
    if (line.trim() === '') return [];
    const parsed = parseObject(line);
    return parsed ? eventsOf(state, parsed) : [{ type: 'raw', kind: 'text' }];
  };
};
