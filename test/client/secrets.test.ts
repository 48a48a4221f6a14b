import { chmodSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { MAX_SECRET_BYTES, resolveSecrets } from '../../src/client/secrets.ts';
import type { KhloneError } from '../../src/protocol/error.ts';

const cwd = mkdtempSync(join(tmpdir(), 'khlone-secrets-'));
afterAll(() => rmSync(cwd, { recursive: true, force: true }));
const env = { PATH: process.env.PATH, TOKEN: 'hunter2-hunter2' };

/** A program in the test's folder, as `./name`. */
const program = (name: string, body: string): string => {
  const path = join(cwd, name);
  writeFileSync(path, `#!/bin/sh\n${body}\n`);
  chmodSync(path, 0o755);
  return path;
};
const value = async (source: string, deadlineMs = 10_000): Promise<string | undefined> =>
  (await resolveSecrets({ S: source }, { env, cwd, deadlineMs })).S;
const refusal = async (source: string, deadlineMs?: number): Promise<KhloneError> => {
  try {
    await value(source, deadlineMs);
  } catch (error) {
    return error as KhloneError;
  }
  throw new Error('was resolved');
};

describe('resolveSecrets', () => {
  it('takes variables from the caller, not from this process', async () => {
    process.env.KHLONE_TEST_SECRET = 'of the hub';
    try {
      expect(await value('env:TOKEN')).toBe('hunter2-hunter2');
      expect(await refusal('env:KHLONE_TEST_SECRET')).toMatchObject({
        code: 'config',
        message: 'the secret S could not be had: KHLONE_TEST_SECRET is not set here',
      });
      expect((await refusal('env:constructor')).message).toMatch(/is not set/u);
    } finally {
      delete process.env.KHLONE_TEST_SECRET;
    }
  });

  it('runs words without a shell, in the given folder, and takes one newline off', async () => {
    program('say', `printf '%s|' "$@"; printf '%s\\n\\n' "$TOKEN"`);
    expect(await value('cmd:./say $HOME  ;a *')).toBe('$HOME|;a|*|hunter2-hunter2\n');
    expect(await value('cmd:printf a\\r\\n')).toBe('a');
  });

  it('names the secret and never its value when a program fails', async () => {
    const path = program('fail', 'echo topsecret-out; echo topsecret-err >&2; exit 3');
    const error = await refusal(`cmd:${path}`);
    expect(error.message).toBe('the secret S could not be had: it ended with 3');
    expect(JSON.stringify({ ...error, stack: error.stack, hint: error.hint })).not.toContain('topsecret');
    expect((await refusal('cmd:./nowhere')).message).toMatch(/no such program/u);
    expect((await refusal('cmd:true')).message).toMatch(/its output is empty/u);
    expect((await refusal('cmd:printf a\\0b')).message).toMatch(/is not text/u);
    expect((await refusal('cmd:printf \\377')).message).toMatch(/is not text/u);
    expect((await refusal('other:x')).message).toMatch(/neither env: nor cmd:/u);
  });

  it('ends a program that takes too long, with the helpers it started', async () => {
    const pid = join(cwd, 'pid');
    const path = program('slow', `sleep 60 & echo $! > ${pid}; wait`);
    expect((await refusal(`cmd:${path}`, 700)).message).toMatch(/did not end within 0\.7 s/u);
    const helper = readFileSync(pid, 'utf8').trim();
    await expect.poll(() => stateOf(helper), { timeout: 5_000 }).toMatch(/^[ZX]?$/u);
  });

  it('bounds what a program may say', async () => {
    const path = program(
      'much',
      'while :; do echo xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx; done',
    );
    expect((await refusal(`cmd:${path}`)).message).toBe(
      'the secret S could not be had: it said more than 64 KiB',
    );
    const most = program('most', `head -c ${MAX_SECRET_BYTES} /dev/zero | tr '\\0' x`);
    expect((await value(`cmd:${most}`))?.length).toBe(MAX_SECRET_BYTES);
  });
});

/** The state letter of a process, empty where it is gone. */
const stateOf = (pid: string): string => {
  try {
    return readFileSync(`/proc/${pid}/stat`, 'utf8').replace(/^.*\) (.).*$/su, '$1');
  } catch {
    return '';
  }
};
