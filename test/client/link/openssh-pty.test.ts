import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setImmediate as turn } from 'node:timers/promises';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { ptyOver } from '../../../src/client/link/openssh-pty.ts';
import type { RemoteProcess } from '../../../src/client/link/ssh-relay.ts';
import { until } from '../../fixtures/server.ts';

/** Keys for a terminal that somebody else makes and that has no program yet: script(1) stands for sshd. */

let dir = '';
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'khlone-pty-'));
});
afterEach(() => rmSync(dir, { recursive: true, force: true }));

const atTerminal = (command: string): { process: RemoteProcess; writtenBytes(): number } => {
  const child = spawn('script', ['-qefc', command, '/dev/null'], { stdio: 'pipe' });
  const ended = once(child, 'close').then(([code]) => ({ code: code as number | null, lost: code === null }));
  const { stdin, stdout, stderr } = child;
  const kill = (): void => void child.kill('SIGKILL');
  return {
    process: { stdin, stdout, stderr, ended, kill },
    // Of a pipe's or socket's own; the types know only a Writable.
    writtenBytes: () => (stdin as unknown as { bytesWritten: number }).bytesWritten,
  };
};

test('what is typed before anything is drawn waits, and Ctrl-C is then a key', async () => {
  const [gate, there, program] = ['gate', 'there', 'program'].map((name) => join(dir, name)) as [
    string,
    string,
    string,
  ];
  execFileSync('mkfifo', [gate]);
  const lines = [
    `: >'${there}'`,
    `read -r go <'${gate}'`,
    'stty raw -echo; printf drawn',
    'dd bs=1 count=2 2>/dev/null | od -An -c',
  ];
  writeFileSync(program, lines.join('\n'));
  const made: ReturnType<typeof atTerminal>[] = [];
  const open = ptyOver(async (command) => {
    const at = atTerminal(command);
    made.push(at);
    return at.process;
  });
  const env = { PATH: process.env.PATH?.match(/^[\w/.:-]*$/)?.[0] ?? '/usr/bin:/bin' };
  const pty = await open({ argv: ['sh', program], env, size: { columns: 80, rows: 24 } });
  let drawn = '';
  const all = (async () => {
    for await (const piece of pty.drawn) drawn += Buffer.from(piece).toString('latin1');
  })();
  await until('the program waits', () => existsSync(there));
  const typed = pty.type(Buffer.from('\u0003\u001c'));
  await turn();
  expect(made[0]?.writtenBytes()).toBe(0);
  writeFileSync(gate, 'go\n');
  await typed;
  await all;
  expect(drawn).toMatch(/^drawn\s*003\s+034/);
});

test('what is typed into a terminal that ends without a picture does not wait on', async () => {
  const open = ptyOver(async (command) => atTerminal(command).process);
  const pty = await open({ argv: ['true'], env: { PATH: '/usr/bin:/bin' }, size: { columns: 80, rows: 24 } });
  const typed = pty.type(Buffer.from('x'));
  for await (const _ of pty.drawn);
  await typed;
});
