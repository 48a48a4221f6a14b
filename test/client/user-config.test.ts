import { mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import {
  getUserSetting,
  listUserSettings,
  readUserConfig,
  setUserSetting,
  strongest,
  unsetUserSetting,
} from '../../src/client/user-config.ts';

let home = '';
beforeEach(() => {
  home = mkdtempSync(join(tmpdir(), 'khlone-user-'));
});
afterEach(() => rmSync(home, { recursive: true, force: true }));
const file = () => join(home, 'config.yml');

describe('personal defaults', () => {
  it('are empty at first, then set, listed and removed', async () => {
    expect(await readUserConfig(home)).toEqual({});
    await setUserSetting(home, 'default-brain', 'claude:haiku');
    await setUserSetting(home, 'auto-sync', 'true');
    await setUserSetting(home, 'default-ttl', '4h');
    expect(await readUserConfig(home)).toEqual({
      'default-brain': 'claude:haiku',
      'auto-sync': true,
      'default-ttl': '4h',
    });
    expect(await getUserSetting(home, 'default-brain')).toBe('claude:haiku');
    await unsetUserSetting(home, 'default-brain');
    await unsetUserSetting(home, 'verbosity');
    expect((await listUserSettings(home)).filter(({ value }) => value !== undefined)).toEqual([
      { key: 'default-ttl', value: '4h' },
      { key: 'auto-sync', value: true },
    ]);
    expect(statSync(file()).mode & 0o777).toBe(0o600);
  });

  it('keep the comments of the person who edits the file by hand', async () => {
    writeFileSync(file(), '# mine\nverbosity: quiet # at night\n');
    await setUserSetting(home, 'orchestrator', 'local');
    expect(readFileSync(file(), 'utf8')).toBe('# mine\nverbosity: quiet # at night\norchestrator: local\n');
  });

  it('refuse unknown keys and wrong values, with the nearest word', async () => {
    await expect(setUserSetting(home, 'default-brian', 'x')).rejects.toMatchObject({
      code: 'usage',
      hint: 'did you mean default-brain?',
    });
    await expect(getUserSetting(home, '__proto__')).rejects.toMatchObject({ code: 'usage' });
    for (const [key, value] of [
      ['orchestrator', 'moon'],
      ['default-ttl', '4'],
      ['auto-sync', 'yes'],
      ['default-brain', 'a b'],
      ['default-instance', '-x'],
      ['verbosity', ''],
    ] as const) {
      await expect(setUserSetting(home, key, value)).rejects.toMatchObject({ code: 'usage' });
    }
    expect(await readUserConfig(home)).toEqual({});
  });

  it('say where a file edited by hand is wrong', async () => {
    for (const text of [
      'verbosty: raw',
      '- a',
      'a: [b',
      'verbosity: { a: b }',
      'verbosity: loud',
      'verbosity: !x raw',
    ]) {
      writeFileSync(file(), text);
      await expect(readUserConfig(home)).rejects.toMatchObject({ code: 'config', message: /./u });
    }
    rmSync(file());
    mkdirSync(file());
    await expect(readUserConfig(home)).rejects.toMatchObject({ code: 'config' });
  });

  it('lose nothing when several are set at once', async () => {
    const settings = { orchestrator: 'cloud', 'default-ttl': '1h', 'auto-sync': 'false', verbosity: 'raw' };
    await Promise.all(Object.entries(settings).map(([key, value]) => setUserSetting(home, key, value)));
    expect(await readUserConfig(home)).toEqual({ ...settings, 'auto-sync': false });
  });
});

describe('strongest', () => {
  it('follows flag, environment, khlone.yml, config.yml, built-in', () => {
    const all = { flag: 1, environment: 2, site: 3, user: 4, builtIn: 5 };
    expect(strongest(all)).toEqual({ value: 1, from: 'flag' });
    expect(strongest({ ...all, flag: undefined })).toEqual({ value: 2, from: 'environment' });
    expect(strongest({ site: 3, user: 4, builtIn: 5 })).toEqual({ value: 3, from: 'site' });
    expect(strongest({ user: 4, builtIn: 5 })).toEqual({ value: 4, from: 'user' });
    expect(strongest<boolean>({ site: false, builtIn: true })).toEqual({ value: false, from: 'site' });
    expect(strongest({ builtIn: 5 })).toEqual({ value: 5, from: 'builtIn' });
  });
});
