import { spawn } from 'node:child_process';
import { stat } from 'node:fs/promises';
import { KhloneError } from '../protocol/error.ts';

/** The one file that runs git. Everything a caller may choose is argv, cwd, stdin and added variables. */

export type GitOptions = {
  cwd: string;
  /** Written to stdin, which is closed afterwards; without it stdin is empty. */
  input?: string | Uint8Array;
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

/**
 * Runs `git <args>`: argv only, never a shell; every exit code is an answer, not an error.
 * Throws `timeout`, `too-large`, `not-found` (no such cwd), `config` (no git on this machine).
 */
export const git: RunGit = async (args, { cwd, input, env, deadlineMs, maxBytes }) => {
  const child = spawn('git', [...QUIET, ...args], { cwd, env: cleanEnvironment(env), stdio: 'pipe' });
  const out: Buffer[] = [];
  const err: Buffer[] = [];
  let outBytes = 0;
  let errBytes = 0;
  let stopped: KhloneError | undefined;

  const stop = (why: KhloneError): void => {
    stopped ??= why;
    child.kill('SIGKILL');
    // A grandchild may hold the pipes open; we wait for nobody once we gave up.
    child.stdout.destroy();
    child.stderr.destroy();
  };
  const timer = setTimeout(() => {
    stop(new KhloneError('timeout', `git ${args[0] ?? ''} did not end within ${deadlineMs} ms`));
  }, deadlineMs);

  child.stdout.on('data', (chunk: Buffer) => {
    outBytes += chunk.length;
    if (outBytes > maxBytes)
      stop(new KhloneError('too-large', `git ${args[0] ?? ''} said more than ${maxBytes} bytes`));
    else out.push(chunk);
  });
  child.stderr.on('data', (chunk: Buffer) => {
    if (errBytes < MAX_STDERR_BYTES) err.push(chunk.subarray(0, MAX_STDERR_BYTES - errBytes));
    errBytes += chunk.length;
  });
  // Git may end before it has read its input; its exit code says more than our EPIPE.
  child.stdin.on('error', () => undefined);
  child.stdin.end(input);

  try {
    const code = await new Promise<number>((resolve, reject) => {
      child.once('error', reject);
      child.once('close', (exit) => resolve(exit ?? 128));
    });
    if (stopped) throw stopped;
    return { code, stdout: Buffer.concat(out), stderr: Buffer.concat(err).toString('utf8') };
  } catch (error) {
    if (error instanceof KhloneError) throw error;
    throw await cannotStart(error as NodeJS.ErrnoException, cwd);
  } finally {
    clearTimeout(timer);
  }
};

/** Whether git refused because the repository belongs to another user (`safe.directory`). */
export const isOwnershipRefusal = (stderr: string): boolean => stderr.includes('detected dubious ownership');
