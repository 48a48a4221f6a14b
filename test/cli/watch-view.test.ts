import { execFile } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { createWorld, until, type World } from '../fixtures/khlone.ts';
import { processesWith } from '../fixtures/server.ts';

/** `khlone watch` at a real terminal: a pane of a tmux of its own, as narrow as we like. */

const run = promisify(execFile);

let world: World;
beforeAll(async () => {
  world = await createWorld();
  for (const who of ['mechanic@sh', 'reviewer@sh'])
    await world.khlone(['act', '--who', who, '--await', 'true']);
});
afterAll(() => world.dispose());

type Pane = {
  screen(): Promise<string>;
  /** The screen, once it holds what is looked for. */
  until(pattern: RegExp): Promise<string>;
  tmux(...words: string[]): Promise<string>;
  end(): Promise<void>;
};

let panes = 0;
const openPane = async (columns: number, rows: number, env: Record<string, string> = {}): Promise<Pane> => {
  panes += 1;
  const socket = join(world.base, `t${panes}`);
  const tmux = async (...words: string[]): Promise<string> =>
    (await run('tmux', ['-u', '-S', socket, '-f', '/dev/null', ...words], { env: { ...world.env, ...env } }))
      .stdout;
  const size = ['-x', String(columns), '-y', String(rows)];
  await tmux('new-session', '-d', ...size, '-c', world.repo, '--', 'env', 'PS1=$ ', 'sh');
  const screen = () => tmux('capture-pane', '-p');
  const waitFor = async (pattern: RegExp): Promise<string> => {
    let now = '';
    await until(`${pattern} on the screen`, async () => {
      now = await screen();
      return pattern.test(now);
    }).catch((why: Error) => {
      throw new Error(`${why.message}:\n${now}`);
    });
    return now;
  };
  return { screen, tmux, until: waitFor, end: async () => void (await tmux('kill-server')) };
};

const act = (who: string, script: string) => world.khlone(['act', '--quiet', '--who', who, script]);
const line = (pane: Pane, text: string) => pane.tmux('send-keys', text, 'Enter');
const mark = (name: string) => writeFileSync(join(world.repo, name), '');
const LAST = /└─ ○ reviewer\.1 .*\n/;
const ttyOf = async (pane: Pane): Promise<string> => {
  const tty = (await pane.tmux('display', '-p', '#{pane_tty}')).trim();
  return (await run('sh', ['-c', `stty -a < ${tty}`])).stdout;
};
const watching = (): number => {
  const [pid = 0] = processesWith('watch\0').filter((one) => processesWith(world.base).includes(one));
  expect(pid).toBeGreaterThan(0);
  return pid;
};
const count = (screen: string, words: string): number => screen.split(words).length - 1;

describe('the view', () => {
  test('keeps the state of the crew in the last rows while lines scroll by above', async () => {
    const pane = await openPane(40, 14);
    await line(pane, 'khlone watch');
    await pane.until(LAST);
    await act('mechanic.1', 'seq 30; until [ -e go ]; do sleep 0.02; done');
    expect(await pane.until(/\] 30\n.*\n├─ ● mechanic/)).toMatch(
      /\[mechanic\.1\] 29\n\[mechanic\.1\] 30\nzone @feat\/auth \(local\)\n├─ ● mechanic\.1 {2}sh {2}— {2}seq 30; until \[…\n└─ ○ reviewer\.1 {2}sh {2}— {2}—\n\n*$/,
    );
    mark('go');
    await pane.until(/✓ done {2}act task-.*\n(.*\n)+zone @feat\/auth \(local\)\n├─ ○ mechanic/);
    await pane.tmux('send-keys', 'C-c');
    await pane.until(/└─ ○ reviewer\.1 .*\n\$/);
    await line(pane, 'echo code $?');
    await pane.until(/^code 130$/m);
    await pane.end();
  });

  test('stands once whatever is typed into it', async () => {
    const pane = await openPane(60, 16);
    await line(pane, 'khlone watch');
    await pane.until(LAST);
    for (const words of ['typed', 'again']) {
      await pane.tmux('send-keys', 'abc', 'Enter', 'Enter', 'Enter', 'def');
      await act('mechanic.1', `echo ${words}`);
      await pane.until(new RegExp(`\\] ${words}\\n(.*\\n)*.*✓ done`));
      const screen = await pane.until(LAST);
      expect(count(screen, 'zone @feat/auth')).toBe(1);
      expect(screen).not.toMatch(/abc|def|\n\n *[├└]/);
    }
    await pane.end();
  });

  test.each(['SIGINT', 'SIGTERM', 'SIGHUP', 'SIGQUIT', 'SIGKILL'] as const)(
    'shows what is typed again after %s',
    async (signal) => {
      const pane = await openPane(60, 16);
      await line(pane, 'khlone watch');
      await pane.until(LAST);
      expect(await ttyOf(pane)).toContain('-echo ');
      process.kill(watching(), signal);
      await until('keys are shown again', async () => !(await ttyOf(pane)).includes('-echo '));
      await pane.end();
    },
  );

  test('may be stopped and gone on with, by a shell that puts no modes back itself', async () => {
    const pane = await openPane(60, 20);
    await line(pane, 'set -m; khlone watch');
    await pane.until(LAST);
    await pane.tmux('send-keys', 'C-z');
    await pane.until(/Stopped|Suspended/);
    expect(await ttyOf(pane)).not.toContain('-echo ');
    await line(pane, 'echo between; fg');
    await pane.until(/\nbetween\n(.*\n)+.*└─ ○ reviewer/);
    expect(await ttyOf(pane)).toContain('-echo ');
    await act('mechanic.1', 'echo after');
    const screen = await pane.until(/\] after\n(.*\n)*.*✓ done/);
    expect(screen).toMatch(/\nbetween\n/);
    expect(count(screen, 'zone @feat/auth')).toBe(2);
    await pane.tmux('send-keys', 'C-c');
    await until('keys are shown again', async () => !(await ttyOf(pane)).includes('-echo '));
    await pane.end();
  });

  test('stands once whatever becomes of the terminal’s size', async () => {
    const pane = await openPane(60, 16);
    await line(pane, 'khlone watch');
    await pane.until(LAST);
    for (const [columns, words] of [
      [30, 'narrow'],
      [70, 'wide'],
      [25, 'again'],
    ] as const) {
      await pane.tmux('resize-window', '-x', String(columns));
      await act('mechanic.1', `echo ${words}`);
      const said = new RegExp(`\\] *\\n?${words}\\n`);
      await pane.until(said);
      const screen = await pane.until(LAST);
      expect([columns, count(screen, 'zone @feat/auth')]).toEqual([columns, 1]);
    }
    await pane.end();
  });

  test('uses letters where there is no UTF-8, no colour where none is wanted, and plain lines where nothing moves', async () => {
    const pane = await openPane(60, 16, { NO_COLOR: '1', LANG: 'C' });
    await line(pane, 'khlone watch');
    await pane.until(/`- o reviewer\.1/);
    await act('mechanic.1', 'echo plain');
    await pane.until(/\] plain\n/);
    expect(await pane.tmux('capture-pane', '-p', '-e')).not.toContain('\u001b[');
    await pane.tmux('send-keys', 'C-c');
    await line(pane, 'clear; TERM=dumb khlone watch');
    await pane.until(/watching /);
    await act('mechanic.1', 'echo dull');
    expect(await pane.until(/ok done/)).toMatch(/\] dull\n/);
    expect(await pane.screen()).not.toContain('zone @');
    await pane.end();
  });

  test('is not driven by what a clone prints', async () => {
    const pane = await openPane(60, 16);
    await line(pane, 'khlone watch');
    await pane.until(LAST);
    await act('mechanic.1', 'echo first');
    await pane.until(/\] first\n/);
    await act('mechanic.1', String.raw`printf '\033[2J\033[H\033]2;evil\007\033[?25l\033[31mred\r\rover\n'`);
    await pane.until(/\] over\n[\s\S]*✓ done/);
    expect(await pane.tmux('capture-pane', '-p', '-S', '-')).toMatch(
      /\] first\n[\s\S]*\] red\n[\s\S]*\] over\n/,
    );
    expect(await pane.tmux('display', '-p', '#{pane_title} #{cursor_flag}')).not.toMatch(/evil| 0$/m);
    await pane.end();
  });

  test('comes back in its place when the hub dies, without a line twice', async () => {
    const pane = await openPane(60, 20);
    await line(pane, 'khlone watch');
    await pane.until(LAST);
    await act('mechanic.1', 'echo one; until [ -e on ]; do sleep 0.02; done; echo two');
    await pane.until(/\] one\n/);
    await world.kill(world.hubPid());
    mark('on');
    await pane.until(/\] two\n[\s\S]*├─ ○ mechanic/);
    const screen = await pane.screen();
    for (const words of ['zone @feat/auth', '] one', '] two', '✓ done']) expect(count(screen, words)).toBe(1);
    await pane.end();
  });

  test('passes over what nobody could read, says how much, and leaves the terminal as it was', async () => {
    const pane = await openPane(60, 20);
    await line(pane, 'khlone watch');
    await pane.until(LAST);
    await act('mechanic.1', 'seq 1000000');
    await pane.until(/\] 1000000\n/);
    await pane.until(/✓ done/);
    expect(await pane.tmux('capture-pane', '-p', '-S', '-')).toMatch(/^… \d+ lines passed \(khlone log\)$/m);
    await world.kill(watching());
    await pane.until(/\$ *\n*$/);
    expect(await pane.tmux('display', '-p', '#{cursor_flag} #{wrap_flag} #{cursor_x}')).toMatch(/^1 1 /);
    // Not by the prompt: the shell may be quicker with it than what gives the terminal back.
    await until('keys that are shown', async () => / echo /.test(await ttyOf(pane)));
    await pane.end();
  });
});
