import { execFileSync, spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { SHELL_DIR } from './fake-khlone.ts';

const has = (command: string): boolean =>
  spawnSync(command, ['--version'], { stdio: 'ignore' }).error === undefined;

const check = (command: string, ...args: string[]): string => {
  const { status, stdout, stderr } = spawnSync(command, args, { encoding: 'utf8' });
  return status === 0 ? '' : `${stdout}${stderr}` || `status ${status}`;
};

test('bash reads its plugin', () => {
  expect(check('bash', '-n', join(SHELL_DIR, 'khlone.bash'))).toBe('');
});

test('zsh reads its plugin and the plugin managers’ entry', () => {
  expect(check('zsh', '-n', join(SHELL_DIR, 'khlone.zsh'))).toBe('');
  expect(check('zsh', '-n', join(SHELL_DIR, '../khlone.plugin.zsh'))).toBe('');
});

test.skipIf(!has('shellcheck'))('shellcheck has nothing to say about the bash plugin', () => {
  expect(check('shellcheck', join(SHELL_DIR, 'khlone.bash'))).toBe('');
});

test('loading prints nothing, also where the shell is not interactive', () => {
  for (const shell of ['zsh', 'bash']) {
    const source = `. '${join(SHELL_DIR, `khlone.${shell}`)}'; echo "[$KHLONE_PROMPT]"`;
    expect(execFileSync(shell, ['-euc', source], { encoding: 'utf8' })).toBe('[]\n');
  }
});
