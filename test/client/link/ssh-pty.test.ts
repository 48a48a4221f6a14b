import { execFileSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { expect, test } from 'vitest';
import { ptyCommand } from '../../../src/client/link/ssh-pty.ts';

/** The line that starts a program on a terminal of sshd's, read by the account's login shell, whichever it is. */

const SHELLS = ['sh', 'bash', 'dash', 'zsh', 'tcsh', 'fish'].flatMap((name) => {
  const path = ['/bin', '/usr/bin'].map((dir) => `${dir}/${name}`).find((one) => existsSync(one));
  return path === undefined ? [] : [[name, path] as const];
});
const WORDS = ['=v-0:', ';', 'a b', '~', '', '@x,+%', '/home/pat/.khlone/server/tmux.sock'];

test.each(SHELLS)('%s gives the program its words and its whole environment', (_name, shell) => {
  const argv = ['printf', '%s,', ...WORDS];
  const said = execFileSync(shell, ['-c', ptyCommand({ argv, env: { PATH: '/usr/bin:/bin' } })]);
  expect(said.toString()).toBe(WORDS.map((word) => `${word},`).join(''));
  const seen = execFileSync(shell, [
    '-c',
    ptyCommand({ argv: ['env'], env: { PATH: '/usr/bin:/bin', A: 'b c' } }),
  ]);
  expect(seen.toString()).toBe('PATH=/usr/bin:/bin\nA=b c\n');
});

test.each(['$HOME', '`id`', "it's", 'a"b', 'a\\b', 'a!b', 'a\nb', 'ä'])('%j is said in no shell', (word) => {
  expect(() => ptyCommand({ argv: ['echo', word], env: {} })).toThrow(/not every login shell/);
  expect(() => ptyCommand({ argv: ['echo'], env: { A: word } })).toThrow(/not every login shell/);
});

test('more words than every login shell takes are told as such', () => {
  const env = { PATH: '/opt/tools/bin:'.repeat(300) };
  expect(() => ptyCommand({ argv: ['tmux'], env })).toThrow(expect.objectContaining({ code: 'no-pty' }));
});
