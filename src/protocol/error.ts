/**
 * The one language of errors: every failure that a person may see is a KhloneError with a stable code.
 * Codes are never reused. The RPC numbers follow JSON-RPC 2.0: -32700…-32600 are the standard's, ours start at -32001.
 */

type Row = { exit: number; rpc: number; says: string };

/** What each code means, the exit code a command ends with, and its number on the wire. */
export const ERRORS = {
  'parse-error': { exit: 1, rpc: -32700, says: 'bytes on the wire are not the protocol' },
  'invalid-request': { exit: 1, rpc: -32600, says: 'a message has the wrong shape or breaks a limit' },
  'unknown-method': { exit: 1, rpc: -32601, says: 'the other side does not know this call' },
  'invalid-params': { exit: 1, rpc: -32602, says: 'a call carries values of the wrong shape' },
  internal: { exit: 1, rpc: -32603, says: 'a fault in khlone itself' },
  version: { exit: 2, rpc: -32002, says: 'client and server share no protocol version' },
  'shutting-down': { exit: 4, rpc: -32003, says: 'the process is on its way out; try again' },
  'not-found': { exit: 2, rpc: -32004, says: 'no such task, clone, zone, role or session' },
  conflict: { exit: 3, rpc: -32005, says: 'the state does not allow this, and a person decides' },
  'id-reused': { exit: 2, rpc: -32006, says: 'the same task id came with another body' },
  'wrong-brain': { exit: 2, rpc: -32007, says: 'the named clone has another brain' },
  'queue-full': { exit: 2, rpc: -32010, says: 'the queue of this clone is full' },
  'clone-limit': { exit: 2, rpc: -32011, says: 'the zone has as many clones as it may have' },
  'rate-limited': { exit: 2, rpc: -32012, says: 'too many at once' },
  'too-large': { exit: 2, rpc: -32014, says: 'a value is over its limit' },
  'disk-low': { exit: 2, rpc: -32020, says: 'the disk of that machine is nearly full' },
  'brain-missing': { exit: 2, rpc: -32030, says: 'no brain is ready on that machine' },
  'brain-auth': { exit: 5, rpc: -32031, says: 'the brain is not logged in' },
  'brain-version': { exit: 2, rpc: -32032, says: 'the brain is too old or cannot be driven' },
  'tmux-failed': { exit: 2, rpc: -32033, says: 'tmux is missing, too old, or does not answer' },
  'no-pty': { exit: 2, rpc: -32034, says: 'this host has no way to make a terminal' },
  'no-view': { exit: 2, rpc: -32035, says: 'this host allows no read-only view' },
  denied: { exit: 5, rpc: -32040, says: 'the caller may not do this' },
  'start-failed': { exit: 4, rpc: -32050, says: 'a resident process could not be started' },
  usage: { exit: 2, rpc: -32060, says: 'wrong words on the command line' },
  config: { exit: 2, rpc: -32061, says: 'a configuration file is wrong' },
  'not-trusted': { exit: 3, rpc: -32062, says: 'the repository wants something a person has not agreed to' },
  'no-repository': { exit: 2, rpc: -32063, says: 'this command needs a git repository' },
  'needs-yes': { exit: 3, rpc: -32064, says: 'a person has to say yes' },
  'unknown-outcome': { exit: 3, rpc: -32065, says: 'nobody can prove how an act ended' },
  'ask-changed': { exit: 3, rpc: -32066, says: 'an ask changed something' },
  unreachable: { exit: 4, rpc: -32070, says: 'the host does not answer' },
  'host-key': { exit: 5, rpc: -32071, says: 'the host key is unknown or changed' },
  'ssh-auth': { exit: 5, rpc: -32072, says: 'the host refused every way to log in' },
  'remote-setup': { exit: 4, rpc: -32073, says: 'khlone-server could not be set up on the host' },
  'task-failed': { exit: 1, rpc: -32080, says: 'the task failed' },
  'task-cancelled': { exit: 1, rpc: -32081, says: 'the task was cancelled' },
  timeout: { exit: 124, rpc: -32090, says: 'the deadline passed' },
  interrupted: { exit: 130, rpc: -32091, says: 'the caller interrupted' },
} as const satisfies Record<string, Row>;

export type ErrorCode = keyof typeof ERRORS;

/** `code` is stable, `message` says what happened in one line, `hint` is the next step. Thrown only for failures; expected outcomes are values. */
export class KhloneError extends Error {
  override readonly name = 'KhloneError';
  readonly code: ErrorCode;
  readonly hint: string | undefined;
  readonly data: Readonly<Record<string, unknown>> | undefined;

  constructor(code: ErrorCode, message: string, hint?: string, data?: Readonly<Record<string, unknown>>) {
    super(message);
    this.code = code;
    this.hint = hint;
    this.data = data;
  }

  get exit(): number {
    return ERRORS[this.code].exit;
  }
}

/** Any thrown value as a KhloneError; a stranger becomes `internal` with its own message. */
export const asKhloneError = (thrown: unknown): KhloneError => {
  if (thrown instanceof KhloneError) return thrown;
  const error = thrown instanceof Error ? thrown : new Error(String(thrown));
  return new KhloneError('internal', error.message || 'unknown fault', undefined, { stack: error.stack });
};

const CODE_BY_RPC = new Map<number, ErrorCode>(
  Object.entries(ERRORS).map(([code, row]) => [row.rpc, code as ErrorCode]),
);

/** The JSON-RPC error object of an error. `data.code` is authoritative; the number serves strangers. */
export const toWire = (error: KhloneError) => ({
  code: ERRORS[error.code].rpc,
  message: error.message,
  data: { code: error.code, hint: error.hint, ...(error.data ? { more: error.data } : {}) },
});

/** The error in a JSON-RPC error object that a remote sent: unknown codes and shapes become `internal`. */
export const fromWire = (wire: unknown): KhloneError => {
  const { code, message, data } = (wire ?? {}) as { code?: unknown; message?: unknown; data?: unknown };
  const more = (data ?? {}) as { code?: unknown; hint?: unknown; more?: unknown };
  const named =
    typeof more.code === 'string' && Object.hasOwn(ERRORS, more.code) ? (more.code as ErrorCode) : undefined;
  return new KhloneError(
    named ?? CODE_BY_RPC.get(Number(code)) ?? 'internal',
    typeof message === 'string' ? message : 'the other side failed without a message',
    typeof more.hint === 'string' ? more.hint : undefined,
    more.more !== null && typeof more.more === 'object' ? (more.more as Record<string, unknown>) : undefined,
  );
};
