import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { claude } from '../../src/brains/claude.ts';
import { findBrain, firstReady } from '../../src/brains/registry.ts';
import { KhloneError } from '../../src/protocol/error.ts';

let bin: string;
beforeEach(() => {
  bin = mkdtempSync(join(tmpdir(), 'khlone-registry-test-'));
});
afterEach(() => rmSync(bin, { recursive: true, force: true }));

const program = (name: string, script: string): void => {
  writeFileSync(join(bin, name), `#!/bin/sh\n${script}\n`);
  chmodSync(join(bin, name), 0o755);
};

const thrownBy = async (call: () => unknown): Promise<KhloneError> => {
  try {
    await call();
  } catch (error) {
    if (error instanceof KhloneError) return error;
    throw error;
  }
  throw new Error('nothing was thrown');
};

const CLAUDE = (loggedIn: boolean): string =>
  `case "$1" in --version) echo '2.1.0 (Claude Code)';; auth) echo '{"loggedIn": ${loggedIn}}';; esac`;

describe('a brain by name', () => {
  test('may carry a model, and an alias stands for both', () => {
    expect(findBrain('claude')).toMatchObject({ brain: { name: 'claude' }, model: undefined });
    expect(findBrain('claude:haiku')).toMatchObject({ brain: { name: 'claude' }, model: 'haiku' });
    expect(findBrain('claude:a:b').model).toBe('a:b');
    const aliases = { quick: 'claude:haiku' };
    expect(findBrain('quick', aliases)).toMatchObject({ brain: { name: 'claude' }, model: 'haiku' });
    expect(findBrain('quick:opus', aliases).model).toBe('opus');
    expect(findBrain('sh').brain.name).toBe('sh');
  });

  test('that nobody knows is refused with the known ones, also where it is a word of the language', async () => {
    for (const name of ['nobody', '', 'constructor', '__proto__', 'toString:x']) {
      const error = await thrownBy(() => findBrain(name, { quick: 'claude:haiku' }));
      expect(error.code).toBe('usage');
      expect(error.hint).toBe('known: claude, quick, sh');
    }
  });

  test('that cannot be driven yet is refused with the reason', async () => {
    const error = await thrownBy(() => findBrain('codex'));
    expect(error.code).toBe('brain-missing');
    expect(error.message).toContain('codex cannot be driven headless');
    expect(error.hint).toContain('claude, sh');
  });
});

describe('the first ready brain', () => {
  test('is claude when it is there and logged in', async () => {
    program('claude', CLAUDE(true));
    expect((await firstReady({ PATH: bin })).name).toBe('claude');
    expect((await claude.probe({ PATH: `relative:${bin}` })).path).toBe(join(bin, 'claude'));
  });

  test('is nobody on an empty machine, and the error says what was looked for and how to go on', async () => {
    const error = await thrownBy(() => firstReady({ PATH: bin }));
    expect(error.code).toBe('brain-missing');
    expect(error.message).toContain('looked for claude, codex, gemini, opencode');
    expect(error.hint).toContain('npm i -g @anthropic-ai/claude-code');
    expect(error.hint).toContain('--who @sh');
  });

  test('is not one that cannot be driven, and the error says so', async () => {
    program('codex', 'exit 0');
    const error = await thrownBy(() => firstReady({ PATH: bin }));
    expect(error.message).toContain('codex cannot be driven headless');
    expect(error.message).toContain('gemini is not on the PATH');
  });

  test('that only misses its login is named with the command to log in', async () => {
    program('claude', CLAUDE(false));
    const error = await thrownBy(() => firstReady({ PATH: bin }));
    expect(error.code).toBe('brain-auth');
    expect(error.hint).toContain('khlone login claude');
  });

  test('is not a claude whose program is broken', async () => {
    program('claude', 'echo broken >&2; exit 3');
    const probe = await claude.probe({ PATH: bin });
    expect(probe).toMatchObject({ ready: false, found: true });
    expect(probe.why).toContain('broken');
  });
});
