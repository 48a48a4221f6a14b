import { randomUUID } from 'node:crypto';
import { homedir } from 'node:os';
import { isAbsolute, join } from 'node:path';
import { KhloneError } from '../protocol/error.ts';
import {
  type Brain,
  type Env,
  jsonLine,
  PROBE_LIMIT_MS,
  type Probe,
  parseObject,
  type StartSpec,
} from './brain.ts';
import { createClaudeReader } from './claude-reader.ts';
import { askProgram, findProgram } from './program.ts';

/** Claude Code, headless, as one long-lived process that speaks stream-json both ways. Flags verified with 2.1.329. */

const INSTALL = 'npm i -g @anthropic-ai/claude-code, then khlone login claude';

/** Linux takes at most 128 KiB in one argument. In bytes. */
const MAX_ROLE_BYTES = 100 * 1024;

/** The tools of an ask; under `dontAsk` Bash runs only commands that claude itself proves to be reading. */
const ASK_TOOLS = 'Read,Grep,Glob,Bash';

/**
 * What an act must not use: a worktree of its own would take the work out of the zone, and wake-ups would start turns
 * that belong to no task.
 */
const NOT_FOR_ACTS = 'EnterWorktree,ExitWorktree,ScheduleWakeup,CronCreate,CronDelete,CronList';

const configDir = (env: Env): string => {
  const named = env.CLAUDE_CONFIG_DIR;
  return named && isAbsolute(named) ? named : join(env.HOME || homedir(), '.claude');
};

const askFlags = (): string[] => [
  ...['--permission-mode', 'dontAsk', '--tools', ASK_TOOLS],
  // The repository's settings could allow more, and its MCP servers are programs: an ask knows neither.
  ...['--setting-sources', 'user', '--strict-mcp-config'],
];

const actFlags = (spec: StartSpec): string[] => [
  ...['--permission-mode', 'bypassPermissions', '--disallowedTools', NOT_FOR_ACTS],
  ...(spec.trusted ? [] : ['--setting-sources', 'user', '--strict-mcp-config']),
];

const sessionFlags = (spec: StartSpec): string[] => {
  if (!spec.sessionId) return ['--session-id', spec.newSessionId];
  const fork = spec.fork ? ['--fork-session', '--session-id', spec.newSessionId] : [];
  return ['--resume', spec.sessionId, ...fork];
};

const roleFlags = (roleText: string | undefined): string[] => {
  if (!roleText) return [];
  if (Buffer.byteLength(roleText) > MAX_ROLE_BYTES) {
    throw new KhloneError(
      'too-large',
      `the role's text is over ${MAX_ROLE_BYTES} bytes`,
      'shorten its briefs',
    );
  }
  return [`--append-system-prompt=${roleText}`];
};

const argv = (spec: StartSpec): string[] => [
  findProgram('claude', spec.env) ?? 'claude',
  ...['-p', '--input-format', 'stream-json', '--output-format', 'stream-json', '--verbose'],
  ...sessionFlags(spec),
  ...(spec.mode === 'ask' ? askFlags() : actFlags(spec)),
  // With the snapshot on, a resume would send the role as it was when the session began.
  ...['--system-prompt-snapshot', 'off'],
  ...(spec.model ? [`--model=${spec.model}`] : []),
  ...roleFlags(spec.roleText),
];

const environment = (spec: StartSpec): Record<string, string> => ({
  CLAUDE_CODE_TMPDIR: spec.tmpDir,
  DISABLE_AUTOUPDATER: '1',
  // Both together bring back TodoWrite, the one tool whose every call tells the whole plan; newer models go without.
  CLAUDE_CODE_ENABLE_TODO_TOOLS: '1',
  CLAUDE_CODE_ENABLE_TASKS: '0',
  CLAUDE_CODE_DISABLE_CRON: '1',
  // Memory is text that steers a later act, and an ask leaves nothing running.
  ...(spec.mode === 'ask' && {
    CLAUDE_CODE_DISABLE_AUTO_MEMORY: '1',
    CLAUDE_CODE_DISABLE_BACKGROUND_TASKS: '1',
  }),
  // As root claude refuses to work without questions unless it is told that it is confined.
  ...(spec.mode === 'act' && spec.isRoot && { IS_SANDBOX: '1' }),
});

type Login = Pick<Probe, 'auth' | 'why'>;

const loginOf = (stdout: string): Login => {
  const status = parseObject(stdout.slice(Math.max(0, stdout.indexOf('{'))));
  if (typeof status?.loggedIn !== 'boolean') return { auth: 'unknown' };
  if (!status.loggedIn) return { auth: 'missing', why: 'claude is not logged in' };
  const end = status.loginExpiresAt;
  const endMs = typeof end === 'number' || typeof end === 'string' ? new Date(end).getTime() : Number.NaN;
  return endMs < Date.now() ? { auth: 'expired', why: 'the login of claude has expired' } : { auth: 'ok' };
};

const probe = async (env: Env): Promise<Probe> => {
  const path = findProgram('claude', env);
  if (!path) {
    return { ready: false, found: false, auth: 'unknown', why: 'claude is not on the PATH', hint: INSTALL };
  }
  const quiet = { ...env, DISABLE_AUTOUPDATER: '1', CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC: '1' };
  const [asked, status] = await Promise.all([
    askProgram(path, ['--version'], quiet, PROBE_LIMIT_MS),
    askProgram(path, ['auth', 'status'], quiet, PROBE_LIMIT_MS),
  ]);
  const version = /^\d+\.\d+\.\d+\S*/.exec(asked.stdout.trim())?.[0];
  if (asked.code !== 0 || version === undefined) {
    const why = `${path} --version did not answer: ${asked.stderr.trim().slice(0, 200) || 'no words'}`;
    return {
      ready: false,
      found: true,
      path,
      auth: 'unknown',
      why,
      hint: `npm i -g @anthropic-ai/claude-code`,
    };
  }
  const login = loginOf(status.stdout);
  const ready = login.auth === 'ok' || login.auth === 'unknown';
  return { ready, found: true, path, version, ...login, ...(!ready && { hint: 'khlone login claude' }) };
};

export const claude: Brain = {
  name: 'claude',
  title: 'Claude Code',
  capabilities: { fork: true, steer: true, imposesSession: true, longLived: true, replaysAsk: true },
  probe,
  /**
   * Conversations only. Measured in a read-only view: sessions, session-env, shell-snapshots, file-history and
   * ~/.claude.json can all stay unwritable; the shell parts of them are run by later acts, so they have to.
   */
  statePaths: (env) => [join(configDir(env), 'projects')],
  actPaths: (env) => [configDir(env)],
  start: (spec) => ({ argv: argv(spec), env: environment(spec) }),
  say: (turn) =>
    jsonLine({
      type: 'user',
      message: { role: 'user', content: [{ type: 'text', text: turn.text }] },
      parent_tool_use_id: null,
      uuid: turn.uuid,
    }),
  interrupt: () => ({
    bytes: jsonLine({ type: 'control_request', request_id: randomUUID(), request: { subtype: 'interrupt' } }),
  }),
  reader: createClaudeReader,
};
