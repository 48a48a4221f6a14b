import { spawn } from 'node:child_process';
import { KhloneError } from '../protocol/error.ts';
import { oneLine } from '../protocol/sanitize.ts';

/**
 * Values for the `secrets:` of khlone.yml. They live in the memory of whoever asked for them: nothing here writes,
 * logs or names a value. Call only after `requireTrust`: a source may run a program.
 */

export type SecretOptions = {
  /** The environment of the person who dispatched, never the hub's own. */
  env: Readonly<Record<string, string | undefined>>;
  /** Where `cmd:` programs run, usually the worktree's root. */
  cwd: string;
  /** How long one program may take, in ms. */
  deadlineMs?: number;
};

export const SECRET_DEADLINE_MS = 20_000;
export const MAX_SECRET_BYTES = 64 * 1024;

const failed = (name: string, why: string, hint: string): KhloneError =>
  new KhloneError('config', `the secret ${oneLine(name, 100)} could not be had: ${why}`, hint);

type Ended = { output: Buffer } | { why: string };

/** What a program says on stdout, or why there is nothing. Ends with its deadline, and its children with it. */
const outputOf = (
  argv: readonly string[],
  { env, cwd, deadlineMs = SECRET_DEADLINE_MS }: SecretOptions,
): Promise<Ended> =>
  new Promise((resolve) => {
    const [program = '', ...args] = argv;
    // Its own process group, so that helpers it started end with it; stderr is not read, for it may tell the value.
    const child = spawn(program, args, {
      cwd,
      env: { ...env },
      stdio: ['ignore', 'pipe', 'ignore'],
      detached: true,
    });
    const chunks: Buffer[] = [];
    let bytes = 0;
    const give = (ended: Ended): void => {
      clearTimeout(timer);
      resolve(ended);
    };
    const stop = (why: string): void => {
      give({ why });
      child.stdout.destroy();
      if (child.pid === undefined) return;
      try {
        process.kill(-child.pid, 'SIGKILL');
      } catch {
        // It ended by itself in the meantime.
      }
    };
    const timer = setTimeout(() => stop(`it did not end within ${deadlineMs / 1000} s`), deadlineMs);
    child.stdout.on('data', (chunk: Buffer) => {
      bytes += chunk.length;
      if (bytes > MAX_SECRET_BYTES) stop(`it said more than ${MAX_SECRET_BYTES / 1024} KiB`);
      else chunks.push(chunk);
    });
    child.once('error', (error: NodeJS.ErrnoException) => {
      give({ why: error.code === 'ENOENT' ? 'no such program' : `it could not be started (${error.code})` });
    });
    child.once('close', (code, signal) => {
      give(
        code === 0
          ? { output: Buffer.concat(chunks) }
          : { why: signal ? `it was ended by ${signal}` : `it ended with ${code}` },
      );
    });
  });

const decode = (output: Buffer): string | undefined => {
  try {
    return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(output).replace(/\r?\n$/u, '');
  } catch {
    return undefined;
  }
};

const fromProgram = async (name: string, words: string, options: SecretOptions): Promise<string> => {
  const hint = `run it by hand: ${oneLine(words, 200)}`;
  const ended = await outputOf(words.trim().split(/\s+/u), options);
  if ('why' in ended) throw failed(name, ended.why, hint);
  const value = decode(ended.output);
  if (value === undefined || value.includes('\0')) throw failed(name, 'its output is not text', hint);
  if (value === '') throw failed(name, 'its output is empty', hint);
  return value;
};

const fromEnvironment = (name: string, variable: string, { env }: SecretOptions): string => {
  const value = Object.hasOwn(env, variable) ? env[variable] : undefined;
  if (value !== undefined && value !== '') return value;
  throw failed(
    name,
    `${oneLine(variable, 100)} is not set here`,
    `export ${oneLine(variable, 100)}=…, then try again`,
  );
};

/**
 * The value of each secret, in memory only. Programs run one after another, so that only one asks for a passphrase
 * at a time. Throws `config`, naming the secret and never its value.
 */
export const resolveSecrets = async (
  secrets: Readonly<Record<string, string>>,
  options: SecretOptions,
): Promise<Record<string, string>> => {
  const found: [string, string][] = [];
  for (const [name, source] of Object.entries(secrets)) {
    if (source.startsWith('env:')) found.push([name, fromEnvironment(name, source.slice(4), options)]);
    else if (source.startsWith('cmd:')) found.push([name, await fromProgram(name, source.slice(4), options)]);
    else throw failed(name, 'its source is neither env: nor cmd:', 'secrets: { NAME: env:NAME }');
  }
  return Object.fromEntries(found);
};
