import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  chmodSync,
  existsSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { connect, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { promisify } from 'node:util';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { ensurePrivateDir } from '../../src/protocol/private-dir.ts';
import { connectOrStart, listenByRename, socketPathIn } from '../../src/protocol/resident.ts';
import { until } from './wire.ts';

const run = promisify(execFile);
const STARTER = join(import.meta.dirname, 'programs', 'starter.ts');

let home = '';

const starts = (): number[] =>
  existsSync(join(home, 'starts'))
    ? readFileSync(join(home, 'starts'), 'utf8').trim().split('\n').map(Number)
    : [];

/** Alive and not a zombie: in a container nobody may have reaped it yet. */
const lives = (pid: number): boolean => {
  try {
    return !/^\d+ \(.*\) Z/u.test(readFileSync(`/proc/${pid}/stat`, 'utf8'));
  } catch {
    return false;
  }
};

const living = (): number[] => starts().filter(lives);

const kill = async (pid: number, signal: NodeJS.Signals = 'SIGKILL'): Promise<void> => {
  process.kill(pid, signal);
  await until(() => !lives(pid));
};

/** Find or start the resident in a process of its own; what it printed. */
const find = async (...args: string[]): Promise<string> => {
  const { stdout } = await run(process.execPath, [STARTER, home, ...args], { timeout: 25_000 });
  return stdout.trim();
};

beforeEach(() => {
  home = mkdtempSync(join(tmpdir(), 'khlone-resident-'));
});

afterEach(async () => {
  for (const pid of living()) {
    process.kill(pid, 'SIGCONT');
    await kill(pid);
  }
  rmSync(home, { recursive: true, force: true });
});

const crowd = async (count: number): Promise<string[]> =>
  Promise.all(Array.from({ length: count }, () => find('10')));

describe.skipIf(process.platform !== 'linux')('a resident process', () => {
  test('is one, however many begin at the same moment, and again after a kill left its socket', async () => {
    const first = await crowd(50);
    expect(starts()).toHaveLength(1);
    expect(new Set(first)).toEqual(new Set([String(starts()[0])]));

    await kill(starts()[0] ?? 0);
    expect(lstatSync(socketPathIn(home, 'x')).isSocket()).toBe(true);
    const second = await crowd(20);
    expect(starts()).toHaveLength(2);
    expect(new Set(second)).toEqual(new Set([String(starts()[1])]));
  }, 90_000);

  test('keeps nothing of its caller: a captured output ends at once', async () => {
    const script = 'x=$("$0" "$1" "$2" 2>&1); printf "%s" "$x"';
    const { stdout } = await run('sh', ['-c', script, process.execPath, STARTER, home], { timeout: 20_000 });
    const pid = Number(stdout);
    expect(living()).toEqual([pid]);
    const open = Object.fromEntries(
      readdirSync(`/proc/${pid}/fd`).map((fd) => [fd, readlinkSync(`/proc/${pid}/fd/${fd}`)]),
    );
    expect(open[0]).toBe('/dev/null');
    expect(open[1]).toBe(join(home, 'run', 'x-boot.log'));
    expect(open[2]).toBe(open[1]);
    expect(readlinkSync(`/proc/${pid}/cwd`)).toBe('/');
    // Fields 5 and 6 behind the name: process group and session are its own.
    const [, , group, session] = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1]?.split(' ') ?? [];
    expect([Number(group), Number(session)]).toEqual([pid, pid]);
  });

  test('that is stopped is not replaced', async () => {
    const pid = Number(await find());
    process.kill(pid, 'SIGSTOP');
    const child = spawn(process.execPath, [STARTER, home], { stdio: ['ignore', 'pipe', 'inherit'] });
    const answered = once(child.stdout, 'data');
    await until(() => readFileSync('/proc/net/unix', 'utf8').split(home).length > 2);
    process.kill(pid, 'SIGCONT');
    expect(Number(String((await answered)[0]))).toBe(pid);
    expect(starts()).toEqual([pid]);
  });

  test('whose starter was killed in the middle is found by the next', async () => {
    const child = spawn(process.execPath, [STARTER, home, '1500'], { stdio: 'ignore' });
    await until(() => starts().length === 1, 15_000);
    child.kill('SIGKILL');
    await once(child, 'exit');
    expect(await find('1500')).toBe(String(starts()[0]));
    // The second resident is still waiting for the lock: nobody had to wait for it to give up.
    expect(readFileSync(join(home, 'run', 'x-boot.log'), 'utf8')).not.toContain('another one');
    expect(starts()).toHaveLength(1);
  });

  test('on its way out is waited for by the next', async () => {
    const old = Number(await find());
    process.kill(old, 'SIGTERM');
    await until(() => !existsSync(socketPathIn(home, 'x')));
    expect(Number(await find())).toBe(starts()[1]);
    expect(living()).toEqual([starts()[1]]);
  });

  test.each(['socket', 'folder'])('that lost its %s makes room for the next', async (lost) => {
    const first = await find();
    const path = socketPathIn(home, 'x');
    rmSync(lost === 'socket' ? path : join(home, 'run'), { recursive: true });
    const second = await find();
    expect(second).not.toBe(first);
    await until(() => living().length === 1);
    expect(await find()).toBe(second);
  });

  test('that cannot start says why, and the next try is free', async () => {
    expect(await find('0', 'broken')).toBe(
      'start-failed: khlone could not be started: first line / the store cannot be opened',
    );
    expect(Number(await find())).toBe(starts()[0]);
  });

  test('keeps its lock when the collector runs', async () => {
    const lock = join(home, 'run', 'x.lock');
    await find('0', 'collect');
    const other = new DatabaseSync(lock, { timeout: 0 });
    expect(() => other.exec('BEGIN EXCLUSIVE')).toThrow(/locked/);
    await kill(starts()[0] ?? 0);
    // A killed process with threads is a zombie a moment before its last thread lets go of the files.
    await until(() => {
      try {
        other.exec('BEGIN EXCLUSIVE');
        return true;
      } catch {
        return false;
      }
    });
    other.close();
  });

  test('that is no program is a start that failed', async () => {
    const spec = {
      socketPath: socketPathIn(home, 'x'),
      startLockPath: join(home, 'run', 'x-start.lock'),
      spawn: { argv: [join(home, 'nothing')], env: {}, cwd: '/' },
      bootLogPath: join(home, 'run', 'boot.log'),
      deadlineMs: 5_000,
    };
    await expect(connectOrStart(spec)).rejects.toMatchObject({
      code: 'start-failed',
      message: expect.stringContaining('ENOENT'),
    });
    await expect(connectOrStart(spec)).rejects.toMatchObject({
      code: 'start-failed',
      message: expect.stringContaining('ENOENT'),
    });
  });

  test('loads no SQLite where it answers already', async () => {
    await find();
    const script = `
      import { connectOrStart } from ${JSON.stringify(join(import.meta.dirname, '../../src/protocol/resident.ts'))};
      const socket = await connectOrStart({ socketPath: ${JSON.stringify(socketPathIn(home, 'x'))} });
      socket.destroy();
      console.log(process.moduleLoadList.some((name) => /sqlite/i.test(name)));`;
    const { stdout } = await run(process.execPath, ['--input-type=module-typescript', '-e', script]);
    expect(stdout.trim()).toBe('false');
  });
});

describe('a socket', () => {
  test('is private, appears whole, and only its own is removed', async () => {
    const path = socketPathIn(home, 'y');
    const [first, second] = [createServer(), createServer((socket) => socket.end('second'))];
    const removeFirst = await listenByRename(first, path);
    expect(lstatSync(path).mode & 0o077).toBe(0);
    expect(lstatSync(join(home, 'run')).mode & 0o777).toBe(0o700);
    const removeSecond = await listenByRename(second, path);
    removeFirst();
    const [said] = await once(connect(path).setEncoding('utf8'), 'data');
    expect(said).toBe('second');
    removeSecond();
    expect(readdirSync(join(home, 'run'))).toEqual([]);
    first.close();
    second.close();
  });

  test('of a deep home lies in a short private directory, which must be ours', async () => {
    const deep = join(home, 'd'.repeat(100));
    const path = socketPathIn(deep, 'hub');
    const folder = join(path, '..');
    try {
      expect(Buffer.byteLength(path)).toBeLessThanOrEqual(100);
      expect(path).not.toBe(socketPathIn(`${deep}2`, 'hub'));
      rmSync(join(socketPathIn(`${deep}2`, 'hub'), '..'), { recursive: true });
      chmodSync(folder, 0o755);
      expect(() => socketPathIn(deep, 'hub')).toThrow(expect.objectContaining({ code: 'denied' }));
      rmSync(folder, { recursive: true });
      mkdirSync(join(home, 'elsewhere'), { mode: 0o700 });
      symlinkSync(join(home, 'elsewhere'), folder);
      expect(() => socketPathIn(deep, 'hub')).toThrow(expect.objectContaining({ code: 'denied' }));
    } finally {
      rmSync(folder, { recursive: true, force: true });
    }
  });

  test('with a path over the limit is refused before the kernel cuts it', async () => {
    const path = join(home, 's'.repeat(100));
    await expect(listenByRename(createServer(), path)).rejects.toMatchObject({ code: 'config' });
  });

  test('needs a directory of ours alone', () => {
    writeFileSync(join(home, 'file'), '');
    symlinkSync('/tmp', join(home, 'link'));
    mkdirSync(join(home, 'open'), { mode: 0o755 });
    chmodSync(join(home, 'open'), 0o755);
    for (const name of ['link', 'open']) {
      expect(() => ensurePrivateDir(join(home, name))).toThrow(expect.objectContaining({ code: 'denied' }));
    }
    expect(() => ensurePrivateDir(join(home, 'file'))).toThrow();
    ensurePrivateDir(join(home, 'new', 'deep'));
    expect(lstatSync(join(home, 'new', 'deep')).mode & 0o777).toBe(0o700);
  });
});
