import { execFile } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import type { Control } from './control.ts';

/** What tmux 3.3 does not end by itself. */

const ASK_DEADLINE_MS = 5_000;
/** How long tmux may take to go once it was told to. */
const END_DEADLINE_MS = 2_000;
const LOOK_MS = 20;

const kill = (pid: number): boolean => {
  try {
    return process.kill(pid, 'SIGKILL');
  } catch {
    return false;
  }
};

/** Whether a process runs: one that nobody has collected yet does not. */
const isThere = (pid: number): boolean => {
  try {
    process.kill(pid, 0);
    return !/^\d+ \(.*\) [ZX]/s.test(readFileSync(`/proc/${pid}/stat`, 'latin1'));
  } catch (thrown) {
    // Without a /proc the first line decides alone.
    return (thrown as NodeJS.ErrnoException).code === 'ENOENT' && !existsSync('/proc/self');
  }
};

const isGoneWithin = async (pid: number, deadlineMs: number): Promise<boolean> => {
  const end = performance.now() + deadlineMs;
  while (isThere(pid) && performance.now() < end) await delay(LOOK_MS);
  return !isThere(pid);
};

/**
 * Ends the control clients that a killed khlone-server left. Where tmux had a word for one when its reader died, it
 * waits for ever to be rid of it: the client stays, and tmux, told to end, would take connections and drop them until
 * somebody kills it. Ours is the only one that may be there.
 */
export const endOrphans = async (control: Control): Promise<void> => {
  const [own = ''] = await control.command(['display-message', '-p', 'k #{client_pid}']);
  const rows = await control.command(['list-clients', '-F', 'k #{client_pid} #{client_control_mode}']);
  for (const row of rows) {
    const [, pid = '', controls] = row.split(' ');
    if (controls === '1' && `k ${pid}` !== own && Number(pid) > 1) kill(Number(pid));
  }
};

const ask = (socketPath: string, env: Record<string, string>, words: string[]): Promise<string> =>
  new Promise((resolve) => {
    execFile('tmux', ['-S', socketPath, ...words], { env, timeout: ASK_DEADLINE_MS }, (_error, stdout) =>
      resolve(stdout.trim()),
    );
  });

/** Ends whatever tmux listens there, by force where it does not go; where none does, there is nothing to end. */
export const killServer = async (socketPath: string, env: Record<string, string>): Promise<void> => {
  const pid = Number(await ask(socketPath, env, ['display-message', '-p', '#{pid}']));
  await ask(socketPath, env, ['kill-server']);
  if (!Number.isInteger(pid) || pid <= 1) return;
  if (await isGoneWithin(pid, END_DEADLINE_MS)) return;
  kill(pid);
  await isGoneWithin(pid, END_DEADLINE_MS);
};
