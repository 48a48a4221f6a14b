import { execFile } from 'node:child_process';
import { chmodSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir, userInfo } from 'node:os';
import { join, resolve } from 'node:path';
import { promisify } from 'node:util';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { findLogout, logoutNote } from '../../src/server/logout.ts';

/** logind and systemd-run are answered for by small programs: what they say is what the real ones say by the bus. */

let root = '';
let env: Record<string, string> = {};

beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'khlone-logout-'));
  mkdirSync(join(root, 'bin'));
  env = { PATH: `${join(root, 'bin')}:/usr/bin:/bin` };
});
afterEach(() => rmSync(root, { recursive: true, force: true }));

const program = (name: string, text: string): void => {
  const path = join(root, 'bin', name);
  writeFileSync(path, `#!/bin/sh\n${text}\n`);
  chmodSync(path, 0o755);
};

const logind = (says: { kills: boolean; linger?: boolean; spared?: string[]; only?: string[] }): void =>
  program(
    'busctl',
    `for word do last=$word; done
case $last in
  KillUserProcesses) echo '{"type":"b","data":${says.kills}}' ;;
  KillExcludeUsers) echo '{"type":"as","data":${JSON.stringify(says.spared ?? [])}}' ;;
  KillOnlyUsers) echo '{"type":"as","data":${JSON.stringify(says.only ?? [])}}' ;;
  Linger) echo '{"type":"b","data":${says.linger ?? false}}' ;;
esac`,
  );

const here = userInfo().username;

describe('what a logout does', () => {
  it.each([
    ['nothing where logind lets processes be', { kills: false }, 'harmless'],
    ['the end where it kills them', { kills: true }, 'kills'],
    ['nothing to somebody it spares', { kills: true, spared: [here] }, 'harmless'],
    ['nothing where it kills only others', { kills: true, only: ['somebody'] }, 'harmless'],
    ['the end where it kills only this one', { kills: true, only: [here] }, 'kills'],
    ['no end where the user lingers', { kills: true, linger: true }, 'lingers'],
  ] as const)('%s', async (_, says, outcome) => {
    logind({
      ...says,
      spared: [...('spared' in says ? says.spared : [])],
      only: [...('only' in says ? says.only : [])],
    });
    expect(await findLogout(env, root)).toBe(outcome);
  });

  it('is nothing without systemd, and where its bus does not answer', async () => {
    logind({ kills: true });
    expect(await findLogout(env, join(root, 'absent'))).toBe('harmless');
    program('busctl', 'exit 1');
    expect(await findLogout(env, root)).toBe('harmless');
  });

  it('is told with the way out where it ends work', async () => {
    logind({ kills: true });
    expect((await logoutNote(env, root)).join()).toContain('loginctl enable-linger');
    logind({ kills: true, linger: true });
    expect(await logoutNote(env, root)).toEqual([]);
  });
});

describe('a server of a user who lingers', () => {
  const source = resolve(import.meta.dirname, '../../src/server/logout.ts');
  const start = async (): Promise<string> => {
    const script = `import { enterScope } from ${JSON.stringify(source)};
await enterScope([process.execPath, ${JSON.stringify(join(root, 'main.mjs'))}], process.env, ${JSON.stringify(root)});
console.log('in place', process.env.KHLONE_SCOPED ?? '-');`;
    writeFileSync(join(root, 'main.mjs'), script);
    const run = promisify(execFile)(process.execPath, [join(root, 'main.mjs')], { env, timeout: 20_000 });
    return (await run).stdout;
  };

  it('goes on as the same process in a scope of the user’s own', async () => {
    logind({ kills: true, linger: true });
    program(
      'systemd-run',
      `echo "$@" >> ${root}/runs; while [ "$1" != -- ]; do [ $# -gt 1 ] || exit 0; shift; done; shift; exec "$@"`,
    );
    expect(await start()).toBe('in place 1\n');
    expect(readFileSync(join(root, 'runs'), 'utf8')).toContain('--user --scope --quiet --collect -- ');
  });

  it('runs where it was started when no scope can be made', async () => {
    logind({ kills: true, linger: true });
    program('systemd-run', 'exit 1');
    expect(await start()).toBe('in place -\n');
  });

  it('is left alone where a logout does no harm', async () => {
    logind({ kills: false });
    program('systemd-run', `touch ${root}/runs; exit 0`);
    expect(await start()).toBe('in place -\n');
  });
});
