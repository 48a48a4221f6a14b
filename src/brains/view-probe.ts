import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type Server } from 'node:net';
import { homedir } from 'node:os';
import { join } from 'node:path';
import type { View, ViewMode, ViewSpec } from './view.ts';

/** Tries a view by running ways out of it. What cannot be proved to hold counts as absent. */

/** A view that takes longer than this to start a small program is of no use. */
const PROBE_DEADLINE_MS = 15_000;
/** What a program in the view may say; more is not the probe's own answer. */
const MAX_OUTPUT_CHARS = 64 * 1024;

/**
 * Runs inside, as `node -e PROBE SPEC`, and prints the names of all that is not as it should be, as JSON. Where an
 * attempt succeeds, it must do no harm: it touches the playground only, and undoes what it did.
 */
const PROBE = `
const fs = require('node:fs'), net = require('node:net'), { spawnSync } = require('node:child_process');
const t = JSON.parse(process.argv[1]), holes = [];
const works = (action) => { try { action(); return true; } catch { return false; } };
const ran = (...argv) => spawnSync(argv[0], argv.slice(1), { stdio: 'ignore', timeout: 5000 }).status === 0;
const expect = (name, wanted, action) => { if (works(action) !== wanted) holes.push(name); };
const writes = (path) => () => fs.writeFileSync(path, 'x');
for (const path of t.mustWrite) expect('cannot write ' + path, true, writes(path + '/probe'));
for (const path of t.mustNotWrite) expect('can write ' + path, false, writes(path + '/probe'));
for (const path of t.mustNotOwn) expect('may write ' + path, false, () => fs.accessSync(path, fs.constants.W_OK));
expect('a hidden file can be read', false, () => fs.readFileSync(t.secret));
expect('a hidden file cannot be left readable', true, () => fs.readFileSync(t.readable));
expect('an outside process gives its root', false, writes('/proc/' + t.outside + '/root' + t.mustNotWrite[0] + '/probe'));
expect('an outside process can be reached', false, () => process.kill(t.outside, 0));
expect('/dev/null does not work', true, writes('/dev/null'));
for (const path of ['/dev/shm', '/tmp', '/var/tmp'])
  expect(path + ' does not work', true, () => fs.rmdirSync(fs.mkdtempSync(path + '/khlone-')));
const status = fs.readFileSync('/proc/self/status', 'utf8');
if (!/^CapPrm:\\s*0+$/m.test(status) || !/^CapEff:\\s*0+$/m.test(status)) holes.push('capabilities are left');
if (!/^NoNewPrivs:\\s*1$/m.test(status)) holes.push('new privileges are allowed');
for (const line of fs.readFileSync('/proc/self/mountinfo', 'utf8').trim().split('\\n')) {
  const [, , , , at, options] = line.split(' ');
  const path = at.replace(/\\\\([0-7]{3})/g, (_, digits) => String.fromCharCode(parseInt(digits, 8)));
  const ours = t.writable.some((own) => path === own || path.startsWith(own + '/'));
  if (!ours && options.split(',').includes('rw'))
    expect('still writable: ' + path, false, () => fs.accessSync(path, fs.constants.W_OK));
}
for (const prefix of [[], ['unshare', '--map-root-user', '--mount', '--']]) {
  const how = prefix.length > 0 ? ' in a new user namespace' : '';
  if (ran(...prefix, 'mount', '-o', 'remount,bind,rw', t.hidden)) holes.push('can be remounted' + how);
  if (ran(...prefix, 'umount', '-l', t.hidden)) holes.push('can be unmounted' + how);
  if (ran(...prefix, 'mount', '--bind', t.root, t.mustWrite[0])) {
    holes.push('can be uncovered' + how);
    ran('umount', t.mustWrite[0]);
  }
}
const connects = (path) => new Promise((resolve) => {
  const socket = net.connect(path, () => { socket.destroy(); resolve(true); });
  socket.on('error', () => resolve(false));
});
(async () => {
  if (await connects(t.socket)) holes.push('a hidden socket can be reached');
  if (!(await connects(t.door))) holes.push('the door cannot be reached');
  console.log(JSON.stringify(holes));
})();
`;

/** Nothing when `view` holds in `mode`, else what failed, in one line. Makes and removes a playground in `tempDir`. */
export const probeView = async (view: View, mode: ViewMode, tempDir: string): Promise<string | undefined> => {
  const root = mkdtempSync(join(tempDir, 'khlone view-'));
  const servers: Server[] = [];
  try {
    const spec = makePlayground(root, mode);
    servers.push(await listen(join(root, 'hidden/socket')), await listen(join(root, 'hidden/door')));
    const { argv } = view.wrap(
      [process.execPath, '-e', PROBE, JSON.stringify(expectations(root, spec))],
      spec,
    );
    const holes = readHoles(await run(argv));
    if (existsSync(join(root, 'outside/probe'))) holes.push('a file appeared outside');
    return holes.length > 0 ? holes.join(', ') : undefined;
  } catch (error) {
    return error instanceof Error ? error.message : String(error);
  } finally {
    for (const server of servers) server.close();
    rmSync(root, { recursive: true, force: true });
  }
};

const makePlayground = (root: string, mode: ViewMode): ViewSpec => {
  for (const name of ['worktree', 'git', 'state', 'cache', 'hidden/run/tmp', 'outside'])
    mkdirSync(join(root, name), { recursive: true, mode: 0o700 });
  writeFileSync(join(root, 'hidden/secret'), 'x');
  writeFileSync(join(root, 'hidden/readable'), 'x');
  return {
    mode,
    worktree: join(root, 'worktree'),
    gitDirs: [join(root, 'git')],
    statePaths: [join(root, 'state')],
    cachePaths: [join(root, 'cache')],
    tmpDir: join(root, 'hidden/run/tmp'),
    hide: [join(root, 'hidden')],
    door: join(root, 'hidden/door'),
    runDir: join(root, 'hidden/run'),
    // Node too may lie where the view has nothing else to show, such as below /tmp.
    readable: [join(root, 'hidden/readable'), process.execPath],
  };
};

/** A home below /tmp is seen through the run's own temporary folder: what can be written there is not the home. */
const homes = (): string[] => [homedir()].filter((home) => !/^\/(var\/)?tmp\//.test(`${home}/`));

const expectations = (root: string, spec: ViewSpec) => {
  const always = [...spec.statePaths, spec.tmpDir];
  const actOnly = [spec.worktree, ...spec.gitDirs, ...spec.cachePaths];
  const outside = join(root, 'outside');
  const mustWrite = spec.mode === 'act' ? [...always, ...actOnly] : always;
  return {
    mustWrite,
    mustNotWrite: spec.mode === 'act' ? [outside] : [outside, ...actOnly],
    mustNotOwn: ['/', '/etc', '/usr', '/var', '/home', '/proc/sys/kernel/core_pattern', '/sys', ...homes()],
    writable: [...mustWrite, '/tmp', '/var/tmp', '/dev', '/proc'],
    ...{ outside: process.pid, root },
    hidden: join(root, 'hidden'),
    secret: join(root, 'hidden/secret'),
    socket: join(root, 'hidden/socket'),
    readable: join(root, 'hidden/readable'),
    door: spec.door,
  };
};

const listen = (path: string): Promise<Server> =>
  new Promise((resolve, reject) => {
    const server = createServer((socket) => socket.destroy());
    server.once('error', reject);
    server.listen(path, () => resolve(server.unref()));
  });

type Ended = { code: number | null; stdout: string; stderr: string };

const run = (argv: string[]): Promise<Ended> =>
  new Promise((resolve, reject) => {
    const [program = '', ...rest] = argv;
    const child = spawn(program, rest, {
      stdio: ['ignore', 'pipe', 'pipe'],
      timeout: PROBE_DEADLINE_MS,
      killSignal: 'SIGKILL',
    });
    const output = { stdout: '', stderr: '' };
    collect(child, 'stdout', output);
    collect(child, 'stderr', output);
    child.once('error', reject);
    child.once('close', (code) => resolve({ code, ...output }));
  });

const collect = (
  child: ChildProcess,
  name: 'stdout' | 'stderr',
  output: { stdout: string; stderr: string },
) =>
  child[name]?.setEncoding('utf8').on('data', (text: string) => {
    output[name] = (output[name] + text).slice(0, MAX_OUTPUT_CHARS);
  });

/** A program that did not finish its answer found no proof. */
const readHoles = (ended: Ended): string[] => {
  const firstLine = ended.stderr.trim().split('\n')[0] ?? '';
  if (ended.code !== 0) return [firstLine || `it ended with ${ended.code ?? 'a signal'}`];
  const holes: unknown = JSON.parse(ended.stdout);
  return Array.isArray(holes) ? holes.map(String) : ['the probe did not answer'];
};
