import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  chmodSync,
  chownSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  realpathSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { createServer, type Server } from 'node:net';
import { homedir } from 'node:os';
import { basename, dirname, join } from 'node:path';
import type { ViewMode, ViewSpec } from '../../src/brains/view.ts';
import { findTool, type Owner } from '../../src/brains/view-tools.ts';
import { until } from '../fixtures/server.ts';
import type { Attempt } from './escape-corpus.ts';

/** A small world to break out into: a home with khlone's, a repository, services, and a process outside. */

export type Ground = {
  owner: Owner;
  root: string;
  prizes: string;
  env: Record<string, string>;
  outside: ChildProcess;
  spec(mode: ViewMode): ViewSpec;
  close(): Promise<void>;
};

/** A command as another user; as ourselves it stays as it is. */
export const asOwner = (owner: Owner, argv: string[]): string[] =>
  owner.uid === process.getuid?.()
    ? argv
    : [
        findTool('setpriv', process.env) ?? 'setpriv',
        `--reuid=${owner.uid}`,
        `--regid=${owner.gid}`,
        '--clear-groups',
        '--',
        ...argv,
      ];

export const listen = async (path: string): Promise<Server> => {
  const server = createServer((socket) => socket.end('hello'));
  server.listen(path);
  await once(server, 'listening');
  if (path.startsWith('/')) chmodSync(path, 0o666);
  return server;
};

const FOLDERS = [
  'prizes',
  'runtime',
  'home/.khlone/run',
  'home/.khlone/versions',
  'home/.khlone/runs/1/tmp',
  'runtime/tmux',
];
const BRAIN_FOLDERS = ['home/.brain/state', 'home/.cache', 'home/repo'];
const FILES = [
  'prizes/victim',
  'home/.khlone/secret',
  'home/.khlone/versions/server.js',
  'home/.brain/settings.json',
];
/** Everything that a shell would take apart. */
export const ODD_NAME = `work tree's "$(x)" \n back\\slash ünï`;

const CONNECT = `require('node:net').connect(process.argv[1].replace(/^@/, '\\0'))
  .on('data', () => process.exit(0)).on('error', () => process.exit(1))`;

/** What a process may set in its own namespaces of process numbers and messages, which nobody else sees. */
const OWN_SWITCHES = '^/proc/sys/(fs/mqueue/|kernel/(auto_msgmni|msg|sem|shm|ns_last_pid|pid_max))';

/** Not below /tmp: a view replaces that, and what is not there cannot be escaped to. */
export const groundParent = (): string => (process.getuid?.() === 0 ? '/var/lib' : homedir());

const makeFiles = (root: string, owner: Owner): void => {
  for (const name of [...FOLDERS, ...BRAIN_FOLDERS]) mkdirSync(join(root, name), { recursive: true });
  for (const name of FILES) writeFileSync(join(root, name), 'x\n');
  chownSync(root, owner.uid, owner.gid);
  chmodSync(join(root, 'runtime/tmux'), 0o700);
  for (const name of readdirSync(root, { recursive: true, encoding: 'utf8' }))
    chownSync(join(root, name), owner.uid, owner.gid);
};

const makeWorktree = (root: string, owner: Owner): { worktree: string; gitDirs: string[] } => {
  const repo = join(root, 'home/repo');
  const worktree = join(root, 'home', ODD_NAME);
  const run = (...argv: string[]) => {
    const [program = '', ...rest] = asOwner(owner, argv);
    return execFileSync(program, rest, {
      env: { PATH: process.env.PATH, HOME: join(root, 'home') },
      encoding: 'utf8',
    });
  };
  run('git', 'init', '-q', repo);
  run('git', '-C', repo, '-c', 'user.name=a', '-c', 'user.email=a@b', 'commit', '--allow-empty', '-qm', 'x');
  run('git', '-C', repo, 'worktree', 'add', '-q', '-b', 'escape', worktree);
  run('sh', '-c', 'echo x > "$1/file"', 'sh', worktree);
  const gitDir = run('git', '-C', worktree, 'rev-parse', '--absolute-git-dir').replace(/\n$/, '');
  return { worktree, gitDirs: [gitDir, join(repo, '.git')] };
};

/** Services of the owner, and their sockets. */
const startServices = async (root: string, owner: Owner, children: ChildProcess[], servers: Server[]) => {
  const home = join(root, 'home');
  const start = (...argv: string[]) => {
    const [program = '', ...rest] = asOwner(owner, argv);
    const env = { PATH: process.env.PATH, HOME: home, SHELL: '/bin/sh' };
    const child = spawn(program, rest, { cwd: join(root, 'prizes'), stdio: 'ignore', env });
    children.push(child);
    return child;
  };
  const outside = start('sleep', '1000');
  const bus = join(root, 'runtime/bus');
  const tmux = join(root, 'runtime/tmux/socket');
  start('dbus-daemon', '--session', '--nofork', '--nopidfile', `--address=unix:path=${bus}`);
  start('tmux', '-D', '-f', '/dev/null', '-S', tmux);
  const inRun = process.getuid?.() === 0 ? `/run/${basename(root)}.sock` : join(home, 'run.sock');
  const abstract = basename(root);
  const sockets = ['.khlone/run/server.sock', '.khlone/run/door.sock', 'agent.sock'].map((name) =>
    join(home, name),
  );
  for (const path of [...sockets, inRun, `\0${abstract}`]) servers.push(await listen(path));
  await until('the bus and tmux', () => existsSync(bus) && existsSync(tmux));
  const [program = '', ...rest] = asOwner(owner, ['tmux', '-S', tmux, 'new-session', '-d', 'sleep 1000']);
  execFileSync(program, rest, { stdio: 'ignore' });
  return { outside, bus, tmux, inRun, abstract };
};

const hasEnded = (child: ChildProcess): boolean => child.exitCode !== null || child.signalCode !== null;

export const makeGround = async (owner: Owner, parent = groundParent()): Promise<Ground> => {
  const root = realpathSync(mkdtempSync(join(parent, 'khlone-escape-')));
  const children: ChildProcess[] = [];
  const servers: Server[] = [];
  const close = async () => {
    for (const server of servers) server.close();
    for (const child of children) child.kill('SIGKILL');
    await until('the services to end', () => children.every(hasEnded));
    rmSync(root, { recursive: true, force: true });
  };
  try {
    makeFiles(root, owner);
    const { worktree, gitDirs } = makeWorktree(root, owner);
    const { outside, bus, tmux, inRun, abstract } = await startServices(root, owner, children, servers);
    const home = join(root, 'home');
    const tmpDir = join(home, '.khlone/runs/1/tmp');
    const disk = execFileSync('findmnt', ['-nro', 'SOURCE', '--target', root], { encoding: 'utf8' }).trim();
    const prizes = join(root, 'prizes');
    const statePaths = [join(home, '.brain/state')];
    return {
      ...{ owner, root, outside, prizes, close },
      env: {
        ...{
          PATH: process.env.PATH ?? '',
          HOME: home,
          P: prizes,
          WT: worktree,
          GITDIR: gitDirs[1] ?? '',
          TMPDIR: tmpDir,
        },
        ...{
          STATE: join(home, '.brain/state'),
          SETTINGS: join(home, '.brain/settings.json'),
          BUS: bus,
          DISK: disk,
        },
        ...{ OUT: String(outside.pid), NODE: process.execPath, CONNECT, OWN_SWITCHES, ABSTRACT: abstract },
        ...{ TMUX_SOCKET: tmux, RUN_SOCKET: inRun },
      },
      spec: (mode) => ({
        ...{ mode, worktree, gitDirs, tmpDir, statePaths, cachePaths: [join(home, '.cache')] },
        hide: [join(home, '.khlone'), mode === 'ask' ? join(root, 'runtime') : dirname(tmux), '/nowhere'],
        door: join(home, '.khlone/run/door.sock'),
        runDir: join(home, '.khlone/runs/1'),
        readable: [join(home, '.khlone/versions/server.js'), process.execPath],
      }),
    };
  } catch (error) {
    await close();
    throw error;
  }
};

const DRIVER = `while [ $# -gt 0 ]; do
  if N=$1 W="$P/$1" timeout 10 sh -c "$2" > /dev/null 2>&1 < /dev/null; then printf '%s\\n' "$1"; fi
  shift 2
done`;

/** Runs all attempts in one process and gives the names of those that succeeded. */
export const tryAll = async (
  ground: Ground,
  attempts: Attempt[],
  wrap: (argv: string[]) => string[],
): Promise<Set<string>> => {
  const texts = attempts.flatMap(({ name, script }) => [name.replaceAll('/', '_'), script]);
  const [program = '', ...rest] = asOwner(ground.owner, wrap(['sh', '-c', DRIVER, 'driver', ...texts]));
  const child = spawn(program, rest, { env: ground.env, cwd: '/', stdio: ['ignore', 'pipe', 'pipe'] });
  const output = { out: '', err: '' };
  child.stdout.on('data', (chunk) => (output.out += chunk));
  child.stderr.on('data', (chunk) => (output.err += chunk));
  const [code] = await once(child, 'close');
  if (code !== 0) throw new Error(`the corpus ended with ${code}: ${output.err}`);
  const found = new Set([...output.out.split('\n'), ...readdirSync(ground.prizes)]);
  return new Set(attempts.map(({ name }) => name).filter((name) => found.has(name.replaceAll('/', '_'))));
};
