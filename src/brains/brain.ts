import type { BrainEvent } from '../protocol/event.ts';

/**
 * One AI CLI that can be driven without a person: how to start it, how to speak to it, what its lines mean.
 * A brain is only values and pure translation; whoever runs it does
 *   tail -c +1 -f in.jsonl | argv >>out.jsonl 2>>err.log
 * so the end of its stdin is the graceful end, and what it ever said can be read again from out.jsonl.
 */

export type Env = Readonly<Record<string, string | undefined>>;

/** `found`: the program is there. `ready`: it can be given work now. `why` and `hint` say what is missing and the next step. */
export type Probe = {
  ready: boolean;
  found: boolean;
  version?: string;
  path?: string;
  auth: 'ok' | 'missing' | 'expired' | 'unknown';
  why?: string;
  hint?: string;
};

export type Mode = 'ask' | 'act';

/** A process has one mode for life: to change it, end the process and start again with `sessionId`. */
export type StartSpec = {
  mode: Mode;
  cwd: string;
  /** The clone's environment, in which the program is also looked for. */
  env: Env;
  /** The brain's session to go on with; without it a new one begins. */
  sessionId?: string;
  /** A uuid for the new session (or for the fork), imposed where the brain lets us. */
  newSessionId: string;
  /** Go on from a copy of `sessionId`, which itself stays as it is. */
  fork?: boolean;
  model?: string;
  roleText?: string;
  /** The repository's own settings may act on the brain: a person agreed to them. */
  trusted: boolean;
  /** A private folder that is writable in an ask too. */
  tmpDir: string;
  isRoot: boolean;
};

/** `env` is laid over the clone's environment. */
export type Spawn = { argv: string[]; env: Record<string, string> };

export type Turn = { uuid: string; text: string; mode: Mode };

/** One line of out.jsonl to events. Holds the state of one run, and never throws, whatever the bytes were. */
export type Reader = (line: string) => BrainEvent[];

export type Capabilities = {
  /** A session can be continued from a copy while the original works on. */
  fork: boolean;
  /** Words said during a turn reach that turn. */
  steer: boolean;
  /** `newSessionId` becomes the brain's own session id. */
  imposesSession: boolean;
  /** One process takes many turns. */
  longLived: boolean;
  /** An ask may be sent again after a crash, even when it had begun. */
  replaysAsk: boolean;
};

export type Brain = {
  name: string;
  title: string;
  capabilities: Capabilities;
  /** Whether the brain can work here. No model call; settles within PROBE_LIMIT_MS and never rejects. */
  probe(env: Env): Promise<Probe>;
  /** Absolute folders that an ask may write: the brain's conversation state and nothing that steers a later act. The caller creates them. */
  statePaths(env: Env): string[];
  /** Absolute folders that an act may write: the brain's whole configuration. The caller creates them. */
  actPaths(env: Env): string[];
  start(spec: StartSpec): Spawn;
  /** Whole lines to append to in.jsonl for one turn. The same turn always gives the same bytes. */
  say(turn: Turn): Uint8Array;
  /** How to stop the running turn and keep the process. */
  interrupt(): { bytes: Uint8Array } | { signal: 'SIGINT' };
  /**
   * A reader for lines from any line boundary of out.jsonl on: costs and ends are told by each line alone, so nothing
   * needs to be kept over a server restart. With `turnUuid`, lines that name another turn give no events.
   */
  reader(turnUuid?: string): Reader;
};

/** How long a probe may take, in milliseconds. */
export const PROBE_LIMIT_MS = 10_000;

/** The bytes of one line of in.jsonl. */
export const jsonLine = (value: unknown): Uint8Array => Buffer.from(`${JSON.stringify(value)}\n`, 'utf8');

/** A line of JSON as an object, or nothing: brains print stray text among their lines. */
export const parseObject = (line: string): Record<string, unknown> | undefined => {
  try {
    const value: unknown = JSON.parse(line);
    return isObject(value) ? value : undefined;
  } catch {
    return undefined;
  }
};

export const isObject = (value: unknown): value is Record<string, unknown> =>
  value !== null && typeof value === 'object' && !Array.isArray(value);

/** The longest display line of a tool's input, in characters. */
export const MAX_DISPLAY_CHARS = 400;

/** Any text as one line that fits a list. */
export const displayLine = (text: string): string => {
  const line = text
    .slice(0, MAX_DISPLAY_CHARS * 4)
    .replace(/\s+/g, ' ')
    .trim();
  return line.length > MAX_DISPLAY_CHARS ? `${line.slice(0, MAX_DISPLAY_CHARS - 1)}…` : line;
};
