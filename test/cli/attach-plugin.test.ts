import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { createWorld, until, type World } from '../fixtures/khlone.ts';
import { openPersonTerminal, type PersonTerminal } from '../fixtures/person-terminal.ts';

/** Looking into a zone from a shell with the plugin: `khlone` is a function there, and a function is what stops. */

let world: World;
const terminals: PersonTerminal[] = [];

beforeAll(async () => {
  world = await createWorld();
  await world.khlone(['act', '--who', 'mechanic@sh', '--await', 'echo hello from the clone']);
});
afterAll(async () => {
  for (const at of terminals) await at.end();
  await world.dispose();
});

const VIEW = /hello from the clone[\s\S]*idle/;
const plugin = (shell: string): string => join(import.meta.dirname, `../../shell/khlone.${shell}`);

const SHELLS = [
  ['zsh', 'exec zsh -f', "PS1='%% '"],
  ['bash', 'exec bash --norc', "PS1='$ '"],
].filter(([shell]) => existsSync(`/bin/${shell}`) || existsSync(`/usr/bin/${shell}`));

const openShell = async (shell: string, start: string, prompt: string): Promise<PersonTerminal> => {
  const at = await openPersonTerminal(world);
  terminals.push(at);
  await at.line(start);
  await at.line(`${prompt}; source ${plugin(shell)}; clear; type khlone | head -n 1`);
  await at.until(/khlone is a .*function/);
  return at;
};

describe.each(SHELLS)('in %s with the plugin', (shell = '', start = '', prompt = '') => {
  test('it is handed over to the node command, whose code is told', async () => {
    const at = await openShell(shell, start, prompt);
    await at.line('clear; khlone attach mechanic.1; echo "code=$?"');
    await at.until(VIEW);
    await at.type('~.');
    await at.until(/code=0/);
    await at.line('clear; khlone attach nobody.9; echo "code=$?"');
    await at.until(/code=2/);
  });

  test('it stops, leaves the keys to the shell, and goes on, twice', async () => {
    const at = await openShell(shell, start, prompt);
    await at.line('clear; khlone attach mechanic.1');
    for (const round of [1, 2]) {
      await at.until(VIEW);
      await at.type('~\u001a');
      await at.until(/[Ss]topped|suspended/);
      await until('the screen of before', async () => (await at.fact('#{alternate_on}')) === '0');
      await at.line(`clear; echo "round" "${round}" of the shell`);
      await at.until(new RegExp(`round ${round} of the shell`));
      await at.line('clear; fg; echo "fg=$?"');
    }
    await at.until(VIEW);
    await at.type('~.');
    expect(await at.until(/fg=0/)).toContain('detached from mechanic.1');
    await at.line('clear; jobs; echo "no" "more"');
    expect(await at.until(/no more/)).not.toMatch(/stopped|suspended/i);
  });
});
