import { type ChildProcessWithoutNullStreams, spawn } from 'node:child_process';
import { stat } from 'node:fs/promises';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { asKhloneError, KhloneError } from '../protocol/error.ts';

/** The one file that runs git. Everything a caller may choose is argv, cwd, stdin and added variables. */

export type GitOptions = {
  cwd: string;
  /** Written to stdin, which is closed afterwards; without it stdin is empty. A source that breaks ends git. */
  input?: string | Uint8Array | AsyncIterable<Uint8Array>;
  /** Variables set on top of the cleaned environment, e.g. GIT_INDEX_FILE. */
  env?: Readonly<Record<string, string>>;
  /** Git is killed and `timeout` thrown when it runs longer. */
  deadlineMs: number;
  /** Bound of stdout in bytes: beyond it git is killed and `too-large` thrown. */
  maxBytes: number;
};

export type GitResult = { code: number; stdout: Buffer; stderr: string };

/** Runs git with words and answers what it said. Handed to whoever must not know how git is run. */
export type RunGit = (args: readonly string[], options: GitOptions) => Promise<GitResult>;

const MAX_STDERR_BYTES = 64 * 1024;

/** A repository's own hooks and monitors are programs somebody else chose: none of them runs for us. */
const QUIET = ['-c', 'core.hooksPath=/dev/null', '-c', 'core.fsmonitor=false'];

/** The environment without a caller's GIT_DIR and friends, which would point git at another repository. */
const cleanEnvironment = (added: Readonly<Record<string, string>> = {}): NodeJS.ProcessEnv => {
  const kept = Object.entries(process.env).filter(([name]) => !name.startsWith('GIT_'));
  return {
    ...Object.fromEntries(kept),
    LC_ALL: 'C',
    GIT_TERMINAL_PROMPT: '0',
    GIT_OPTIONAL_LOCKS: '0',
    // A clone can name a promisor remote and an ssh command in a zone's config: a missing object must start neither.
    GIT_NO_LAZY_FETCH: '1',
    GIT_ALLOW_PROTOCOL: 'none',
    ...added,
  };
};

/** Spawn reports a missing folder and a missing git with the same ENOENT; the folder tells them apart. */
const cannotStart = async (error: NodeJS.ErrnoException, cwd: string): Promise<KhloneError> => {
  const folder = await stat(cwd).catch(() => undefined);
  if (!folder?.isDirectory()) return new KhloneError('not-found', `no such folder: ${JSON.stringify(cwd)}`);
  if (error.code === 'ENOENT')
    return new KhloneError('config', 'git is not installed', 'install git 2.38 or newer');
  return new KhloneError('internal', `git could not be started: ${error.code ?? error.message}`);
};

const start = (
  args: readonly string[],
  { cwd, env }: Pick<GitOptions, 'cwd' | 'env'>,
): ChildProcessWithoutNullStreams =>
  spawn('git', [...QUIET, ...args], { cwd, env: cleanEnvironment(env), stdio: 'pipe' });

/** Feeds stdin. Git may end before it has read all; its exit code says more than our EPIPE, but a broken source is told. */
const feed = (
  child: ChildProcessWithoutNullStreams,
  input: GitOptions['input'],
  onBroken: (thrown: unknown) => void,
): void => {
  let ended: unknown;
  child.stdin.on('error', (error) => {
    ended ??= error;
  });
  if (input === undefined || typeof input === 'string' || input instanceof Uint8Array) {
    child.stdin.end(input);
    return;
  }
  const source = Readable.from(input);
  let broken: unknown;
  source.on('error', (error: NodeJS.ErrnoException) => {
    // Git that has all it needs, or failed, closes its stdin before the end: pipeline then ends the source with these.
    if (error.code !== 'ERR_STREAM_PREMATURE_CLOSE' && error !== ended) broken = error;
  });
  pipeline(source, child.stdin).catch(() => {
    if (broken !== undefined) onBroken(broken);
  });
};

/** The first bytes of what git says on stderr, as text. */
const collectStderr = (child: ChildProcessWithoutNullStreams): (() => string) => {
  const err: Buffer[] = [];
  let bytes = 0;
  child.stderr.on('data', (chunk: Buffer) => {
    if (bytes < MAX_STDERR_BYTES) err.push(chunk.subarray(0, MAX_STDERR_BYTES - bytes));
    bytes += chunk.length;
  });
  return () => Buffer.concat(err).toString('utf8');
};

/** The verb among the words: what stands before it are settings. */
export const verbOf = (args: readonly string[]): string =>
  args.find((word, i) => word !== '-c' && args[i - 1] !== '-c') ?? '';

/** A failure of git in our words; a full disk is told apart because a person can do something about it. */
export const gitFailed = (what: string, stderr: string): KhloneError => {
  if (/No space left on device|Disk quota exceeded/u.test(stderr))
    return new KhloneError('disk-low', `${what}: the disk is full`, 'free some space, then try again');
  const line = stderr.trim().split('\n').slice(-3).join('; ').slice(0, 500);
  return new KhloneError('internal', `${what}${line ? `: ${line}` : ''}`);
};

/**
 * Runs `git <args>`: argv only, never a shell; every exit code is an answer, not an error.
 * Throws `timeout`, `too-large`, `not-found` (no such cwd), `config` (no git on this machine).
 */
export const git: RunGit = async (args, { cwd, input, env, deadlineMs, maxBytes }) => {
  const child = start(args, { cwd, ...(env && { env }) });
  const stderr = collectStderr(child);
  const out: Buffer[] = [];
  let outBytes = 0;
  let stopped: KhloneError | undefined;

  const stop = (why: KhloneError): void => {
    stopped ??= why;
    child.kill('SIGKILL');
    // A grandchild may hold the pipes open; we wait for nobody once we gave up.
    child.stdout.destroy();
    child.stderr.destroy();
  };
  const timer = setTimeout(() => {
    stop(new KhloneError('timeout', `git ${verbOf(args)} did not end within ${deadlineMs} ms`));
  }, deadlineMs);

  child.stdout.on('data', (chunk: Buffer) => {
    outBytes += chunk.length;
    if (outBytes > maxBytes)
      stop(new KhloneError('too-large', `git ${verbOf(args)} said more than ${maxBytes} bytes`));
    else out.push(chunk);
  });
  feed(child, input, (thrown) => stop(asKhloneError(thrown)));

  try {
    const code = await new Promise<number>((resolve, reject) => {
      child.once('error', reject);
      child.once('close', (exit) => resolve(exit ?? 128));
    });
    if (stopped) throw stopped;
    return { code, stdout: Buffer.concat(out), stderr: stderr() };
  } catch (error) {
    if (error instanceof KhloneError) throw error;
    throw await cannotStart(error as NodeJS.ErrnoException, cwd);
  } finally {
    clearTimeout(timer);
  }
};

/**
 * Runs git and gives its stdout piece by piece, at the reader's pace; git starts when reading begins and is killed when
 * the reader leaves early. Throws after the last piece where git failed, `timeout` at the deadline.
 */
export async function* gitStream(
  args: readonly string[],
  options: Omit<GitOptions, 'maxBytes'>,
): AsyncGenerator<Uint8Array> {
  const child = start(args, options);
  const stderr = collectStderr(child);
  let broken: unknown;
  const stop = (thrown: unknown): void => {
    broken ??= thrown;
    child.kill('SIGKILL');
    child.stdout.destroy();
  };
  const exit = new Promise<number>((resolve, reject) => {
    child.once('error', reject);
    child.once('close', (code) => resolve(code ?? 128));
  });
  // Awaited below; a failed spawn must not be an unhandled rejection until then.
  exit.catch(() => undefined);
  const deadline = setTimeout(() => {
    stop(new KhloneError('timeout', `git ${verbOf(args)} did not end within ${options.deadlineMs} ms`));
  }, options.deadlineMs);
  feed(child, options.input, stop);
  try {
    try {
      for await (const piece of child.stdout) yield piece as Buffer;
    } catch (thrown) {
      broken ??= thrown;
    }
    const code = await exit.catch(async (error: NodeJS.ErrnoException) => {
      throw await cannotStart(error, options.cwd);
    });
    if (broken !== undefined) throw asKhloneError(broken);
    if (code !== 0) throw gitFailed(`git ${verbOf(args)} failed`, stderr());
  } finally {
    clearTimeout(deadline);
    child.kill('SIGKILL');
  }
}

/** Whether git refused because the repository belongs to another user (`safe.directory`). */
export const isOwnershipRefusal = (stderr: string): boolean => stderr.includes('detected dubious ownership');
