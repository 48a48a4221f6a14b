import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname } from 'node:path';
import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { type Control, openControl } from '../../../src/server/tmux/control.ts';
import { literalFormat, quoteTmux } from '../../../src/server/tmux/quote.ts';
import { parseTmuxVersion, tmuxVersion } from '../../../src/server/tmux/version.ts';
import { createScratchTmux, eventually, isAlive } from './scratch-tmux.ts';

let scratch: ReturnType<typeof createScratchTmux>;
let opened: Control[];
const open = async (path = scratch.where.path): Promise<Control> => {
  const control = await openControl({ ...scratch.where, env: { PATH: path } });
  opened.push(control);
  return control;
};

beforeEach(() => {
  scratch = createScratchTmux();
  opened = [];
  mkdirSync(dirname(scratch.where.socketPath), { mode: 0o700 });
  writeFileSync(scratch.where.configPath, 'set -s exit-empty off\nset -gw remain-on-exit on\n');
});
afterEach(async () => {
  for (const control of opened) await control.close();
  scratch.remove();
});

/** Every byte that an environment can hold, and the marks that tmux's language reads. */
const EVERY_BYTE = Buffer.concat([
  Buffer.from(Array.from({ length: 255 }, (_, at) => at + 1)),
  Buffer.from('\n%end 1 2 1\n~ ~root $HOME {HOME} #{pid} #(touch x) {a} ; \\; \\n "q" \'q\' %if 1'),
]);

/** The environment, as bytes, of a new window's process. */
const startWith = async (control: Control, pair: Buffer): Promise<Buffer> => {
  const words = ['new-window', '-d', '-P', '-F', 'k #{pane_pid}', '-e', pair, '--', '/bin/sleep', '1000'];
  const [row = ''] = await control.command(words);
  const path = `/proc/${row.slice(2)}/environ`;
  return eventually('the process', () => {
    const environ = readFileSync(path);
    return (
      environ.includes('TMUX_PANE=') &&
      readFileSync(`/proc/${row.slice(2)}/comm`, 'utf8') === 'sleep\n' &&
      environ
    );
  });
};

describe('a word', () => {
  test.each([[0], [100_000]])('with every byte and %i more arrives whole in a process', async (moreBytes) => {
    const pair = Buffer.concat([Buffer.from('V='), EVERY_BYTE, Buffer.alloc(moreBytes, 'x')]);
    const environ = await startWith(await open(), pair);
    expect(environ.includes(Buffer.concat([pair, Buffer.from('\0')]))).toBe(true);
  });

  test('of any text comes back from tmux as it went in', async () => {
    const control = await open();
    const anyText = fc
      .string({ unit: 'binary', size: 'max', maxLength: 300 })
      .filter((text) => !text.includes('\0'));
    await fc.assert(
      fc.asyncProperty(anyText, async (text) => {
        await control.command(['set-option', '-g', '@any', text]);
        expect((await control.command(['show-options', '-gv', '@any'])).join('\n')).toBe(text);
      }),
    );
  });

  test('is expanded as a format where tmux does so, unless it is made literal', async () => {
    const control = await open();
    const hostile = '#{pid} #(touch x) #[fg=red] ##[a ###{b # #';
    expect(await control.command(['display-message', '-p', literalFormat(hostile)])).toEqual([hostile]);
    expect(await control.command(['display-message', '-p', '#{pid}'])).toEqual([String(scratch.serverPid())]);
  });

  test('with a NUL is refused', () => {
    expect(() => quoteTmux('a\0b')).toThrow(expect.objectContaining({ code: 'invalid-params' }));
  });
});

/** `wait-for` itself is answered at once; what follows it waits for the signal. */
const holdUp = (control: Control) => control.command(['wait-for', 'a-signal']);

describe('commands', () => {
  test('sent at once each get their own answer, refusals too', async () => {
    const control = await open();
    const answers = await Promise.allSettled(
      Array.from({ length: 200 }, (_, n) =>
        control.command(n % 7 === 3 ? ['no-such-command'] : ['display-message', '-p', `answer ${n}`]),
      ),
    );
    const said = answers.map((answer) =>
      answer.status === 'fulfilled' ? answer.value.join() : (answer.reason as { code: string }).code,
    );
    expect(said).toEqual(
      Array.from({ length: 200 }, (_, n) => (n % 7 === 3 ? 'tmux-failed' : `answer ${n}`)),
    );
  });

  test('past their deadline fail, and their late answer does not go to the next one', async () => {
    const control = await open();
    await holdUp(control);
    const late = control.command(['display-message', '-p', 'late'], 50);
    const next = control.command(['display-message', '-p', 'next']);
    await expect(late).rejects.toMatchObject({ code: 'tmux-failed', message: /more than 50 ms/ });
    scratch.ask('wait-for', '-S', 'a-signal');
    expect(await next).toEqual(['next']);
  });

  test('beyond a thousand that wait are refused', async () => {
    const control = await open();
    await holdUp(control);
    const waiting = Array.from({ length: 1_000 }, () => control.command(['display-message', '-p', 'x']));
    await expect(control.command(['display-message', '-p', 'x'])).rejects.toMatchObject({
      message: /too many/,
    });
    scratch.ask('wait-for', '-S', 'a-signal');
    expect(await Promise.all(waiting)).toHaveLength(1_000);
  });

  test('without a word are refused, since an empty line would end the connection', async () => {
    const control = await open();
    await expect(control.command([])).rejects.toMatchObject({ code: 'invalid-params' });
    expect(await control.command(['display-message', '-p', 'still here'])).toEqual(['still here']);
  });
});

describe('the connection', () => {
  test('starts the server, and a second one finds it', async () => {
    const first = await open();
    const pid = scratch.serverPid();
    await first.close();
    const second = await open();
    expect(scratch.serverPid()).toBe(pid);
    expect(`tmux ${second.version}`).toBe(scratch.ask('-V').trim());
  });

  test('takes no output and no part in window sizes', async () => {
    await open();
    const flags = scratch.ask('list-clients', '-F', '#{client_flags}').trim().split(',');
    expect(flags).toEqual(expect.arrayContaining(['control-mode', 'no-output', 'ignore-size', 'UTF-8']));
  });

  test('is a process group of its own, which a signal to ours does not reach', async () => {
    await open();
    const pid = scratch.ask('list-clients', '-F', '#{client_pid}').trim();
    const [, , group] = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1]?.split(' ') ?? [];
    expect(group).toBe(pid);
  });

  test('tells once that tmux was killed, and fails what waits', async () => {
    const control = await open();
    const reasons: string[] = [];
    control.onGone((reason) => reasons.push(reason));
    await holdUp(control);
    const waiting = control.command(['display-message']).catch((error: Error) => error.message);
    process.kill(scratch.serverPid(), 'SIGKILL');
    expect(await waiting).toMatch(/server exited unexpectedly/);
    await expect(control.command(['list-windows'])).rejects.toMatchObject({ code: 'tmux-failed' });
    expect(reasons).toHaveLength(1);
    control.onGone((reason) => reasons.push(reason));
    expect(reasons).toHaveLength(2);
  });

  test('closed by us tells nobody and leaves the server', async () => {
    const control = await open();
    const pid = scratch.serverPid();
    control.onGone(() => expect.unreachable());
    await control.close();
    expect(isAlive(pid)).toBe(true);
  });

  test('to a machine without tmux, or a directory that is not there, fails with the next step', async () => {
    await expect(open('/nowhere')).rejects.toMatchObject({ code: 'tmux-failed' });
    scratch.where.socketPath = `${scratch.dir}/missing/tmux.sock`;
    await expect(open()).rejects.toMatchObject({ code: 'tmux-failed', message: /No such file/ });
  });
});

describe('versions', () => {
  test.each([
    ['tmux 3.3a\n', { major: 3, minor: 3, text: '3.3a' }],
    ['tmux next-3.8', { major: 3, minor: 8, text: 'next-3.8' }],
    ['tmux 3.4-rc2', { major: 3, minor: 4, text: '3.4-rc2' }],
    ['tmux master', undefined],
    ['tmux openbsd-7.4', undefined],
    ['', undefined],
  ])('%j is read', (says, version) => expect(parseTmuxVersion(says)).toEqual(version));

  test.each([['tmux 3.1c'], ['tmux 2.9'], ['something else']])('%s is refused with a hint', async (says) => {
    writeFileSync(`${scratch.dir}/tmux`, `#!/bin/sh\necho '${says}'\n`, { mode: 0o755 });
    const refused = tmuxVersion({ PATH: scratch.dir });
    await expect(refused).rejects.toMatchObject({ code: 'tmux-failed', hint: /3\.2 or newer/ });
  });

  test('the one installed here will do, and none at all is told as such', async () => {
    expect((await tmuxVersion({ PATH: scratch.where.path })).major).toBeGreaterThanOrEqual(3);
    await expect(tmuxVersion({ PATH: '/nowhere' })).rejects.toMatchObject({
      message: 'tmux is not installed',
    });
  });
});
