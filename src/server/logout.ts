import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { userInfo } from 'node:os';
import { promisify } from 'node:util';

/**
 * What becomes of our processes when the person logs out. Mostly nothing: the server and tmux have sessions of their
 * own. But logind can be set to end all that a user left behind (KillUserProcesses); then only what runs under the
 * user's own systemd goes on, and that only where the user lingers.
 */

export type Logout = 'harmless' | 'lingers' | 'kills';

/** systemd's own mark of a machine that it runs. */
const BOOTED = '/run/systemd/system';
const DEADLINE_MS = 2_000;
const LOGIN = 'org.freedesktop.login1';
const ROOT = '/org/freedesktop/login1';
/** Set for the server that runs in its scope already. */
const SCOPED = 'KHLONE_SCOPED';

type Env = Readonly<Record<string, string | undefined>>;

/** A property by the system bus, as its JSON value; undefined where there is no logind that says it. */
const property = async (env: Env, path: string, owner: string, name: string): Promise<unknown> => {
  const words = ['--system', '--json=short', 'get-property', LOGIN, path, `${LOGIN}.${owner}`, name];
  try {
    const { stdout } = await promisify(execFile)('busctl', words, { env: { ...env }, timeout: DEADLINE_MS });
    return (JSON.parse(stdout) as { data?: unknown }).data;
  } catch {
    return undefined;
  }
};

const includes = (users: unknown, name: string): boolean => Array.isArray(users) && users.includes(name);

/** Asks logind. `booted` names systemd's mark, which a test has elsewhere. */
export const findLogout = async (env: Env, booted = BOOTED): Promise<Logout> => {
  if (!existsSync(booted)) return 'harmless';
  if ((await property(env, ROOT, 'Manager', 'KillUserProcesses')) !== true) return 'harmless';
  const { username, uid } = userInfo();
  const [spared, only, linger] = await Promise.all([
    property(env, ROOT, 'Manager', 'KillExcludeUsers'),
    property(env, ROOT, 'Manager', 'KillOnlyUsers'),
    property(env, `${ROOT}/user/_${uid}`, 'User', 'Linger'),
  ]);
  const isOnlyOthers = Array.isArray(only) && only.length > 0 && !only.includes(username);
  if (includes(spared, username) || isOnlyOthers) return 'harmless';
  return linger === true ? 'lingers' : 'kills';
};

/** What init says where work would end with the login; nothing where it goes on. */
export const logoutNote = async (env: Env, booted?: string): Promise<string[]> =>
  (await findLogout(env, booted)) === 'kills'
    ? ['work ends when you log out of that machine (KillUserProcesses): loginctl enable-linger lets it go on']
    : [];

/**
 * Where logind would end us although the user lingers, this process becomes one in a scope of the user's systemd; it
 * does not return then. What it has open, the starter's pipe too, stays open.
 */
export const enterScope = async (argv: readonly string[], env: Env, booted?: string): Promise<void> => {
  if (env[SCOPED] !== undefined || (await findLogout(env, booted)) !== 'lingers') return;
  const runtime = env.XDG_RUNTIME_DIR ?? `/run/user/${process.getuid?.() ?? 0}`;
  const words = ['systemd-run', '--user', '--scope', '--quiet', '--collect', '--', ...argv];
  const given = Object.entries({ ...env, XDG_RUNTIME_DIR: runtime, [SCOPED]: '1' });
  const next = Object.fromEntries(given.filter((one): one is [string, string] => one[1] !== undefined));
  // By env, which looks for the program on PATH; where systemd-run fails, the server runs as it would without it.
  const fallback =
    'systemd-run --version >/dev/null 2>&1 && systemd-run --user --scope --quiet true 2>/dev/null';
  const works = await promisify(execFile)('/bin/sh', ['-c', fallback], {
    env: next,
    timeout: DEADLINE_MS,
  }).then(
    () => true,
    () => false,
  );
  if (works) process.execve?.('/usr/bin/env', ['/usr/bin/env', ...words], next);
};
