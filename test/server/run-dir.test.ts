import { spawn } from 'node:child_process';
import { appendFileSync, existsSync, mkdtempSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import { errTail, MARK, processesOf } from '../../src/server/run-dir.ts';
import { until } from '../fixtures/server.ts';

/** That nothing of a run lives is what "nothing runs twice" rests on: it is said of no run that lives. */

const dir = mkdtempSync(join(tmpdir(), 'khr-'));
afterAll(() => rmSync(dir, { recursive: true, force: true }));

const TURNS = 3_000;

/**
 * Runs a script with the mark of a run, over and over by `next`, and looks for its processes all along: how often, and
 * how many of the looks saw none while it lived.
 */
const lookAt = (name: string, next: string): { looks: number; misses: number } => {
  const [script, done] = [join(dir, name), join(dir, `${name}.done`)];
  writeFileSync(script, `[ "$1" = 0 ] && { : > ${done}; exit; }\n${next}`);
  const env = { PATH: process.env.PATH, [MARK]: name };
  spawn('sh', [script, String(TURNS)], { env, stdio: 'ignore' });
  let [looks, misses] = [0, 0];
  while (!existsSync(done)) {
    const { length } = processesOf(name);
    if (existsSync(done)) break;
    looks += 1;
    if (length === 0) misses += 1;
  }
  return { looks, misses };
};

test('a process that becomes another program all the time is always seen', () => {
  const { looks, misses } = lookAt('exec', 'exec sh "$0" $(($1 - 1))');
  expect(looks).toBeGreaterThan(20);
  expect(misses).toBe(0);
});

test('processes that start the next one and end are seen, although no listing holds them for long', () => {
  const { looks, misses } = lookAt('fork', 'sh "$0" $(($1 - 1)) &');
  expect(looks).toBeGreaterThan(20);
  // Each lives for less than a millisecond, and the looks have a bound. Without a second listing most see none.
  expect(misses).toBeLessThan(looks / 5);
});

test('processes without an environment, without memory, and of other runs are not its own', async () => {
  const children = [
    spawn('env', ['-i', 'sleep', '60'], { env: { PATH: process.env.PATH, [MARK]: 'own' }, stdio: 'ignore' }),
    spawn('sleep', ['60'], { env: { PATH: process.env.PATH, [MARK]: 'own/2' }, stdio: 'ignore' }),
    // Its parent does not ask how it ended, so it stays a zombie.
    spawn('sh', ['-c', '(exit) & exec sleep 60'], { env: { PATH: process.env.PATH }, stdio: 'ignore' }),
  ];
  try {
    await until('the bare program', () => processesOf('own').length === 0);
    expect(processesOf('own/2')).toEqual([children[1]?.pid]);
    expect(processesOf('own/3')).toEqual([]);
  } finally {
    for (const child of children) child.kill('SIGKILL');
  }
});

test('the last words on stderr are told of a brain that said more there than a string can hold', () => {
  const log = join(dir, 'err.log');
  expect(errTail(dir, 600)).toBe('');
  writeFileSync(log, 'first words\n');
  expect(errTail(dir, 600)).toBe('first words');
  // A hole costs no disk.
  truncateSync(log, 600 * 1024 * 1024);
  appendFileSync(log, '\nout of memory\nlast words\n');
  expect(errTail(dir, 25)).toBe('out of memory\nlast words');
});
