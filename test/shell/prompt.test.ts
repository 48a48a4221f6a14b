// biome-ignore-all lint/suspicious/noTemplateCurlyInString: these are lines for a shell.
import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { removeZoneLine, writeIndex, writeZoneLine, type ZoneLine } from '../../src/client/shell-state.ts';
import { makePlace, type Place, runLines, SHELLS } from './fake-khlone.ts';
import { openTerminal, type Terminal } from './terminal.ts';

let place: Place;
let terminal: Terminal | undefined;
beforeEach(() => {
  place = makePlace();
  for (const dir of ['wt/sub', 'wt/nested', 'wt2']) mkdirSync(join(place.root, dir), { recursive: true });
});
afterEach(async () => {
  await terminal?.end();
  terminal = undefined;
  place.remove();
});

const zone = (more: Partial<ZoneLine> = {}): ZoneLine => ({
  label: '@feat/auth',
  mode: 'ssh',
  conn: 'online',
  active: 1,
  queued: 2,
  patches: 0,
  conflicts: 0,
  attention: 0,
  epochSeconds: Date.now() / 1000,
  ...more,
});

/** Makes `wt` a zone of that state. */
const haveZone = (more: Partial<ZoneLine> = {}): void => {
  writeIndex(place.home, [{ root: join(place.root, 'wt'), key: 'k1' }]);
  writeZoneLine(place.home, 'k1', zone(more));
};

const shown = (stdout: string) => [...stdout.matchAll(/\[\[(.*?)\]\]/g)].map((match) => match[1]);
const SHOW = `printf '[[%s]]\\n' "$KHLONE_PROMPT"`;
const HOSTILE = '$(touch pwned)`touch pwned`%F{red}\\$(touch pwned)!!\x1b[31m';
const NO_STRACE = (() => {
  try {
    execFileSync('strace', ['-V'], { stdio: 'ignore' });
    return false;
  } catch {
    return true;
  }
})();

for (const shell of SHELLS) {
  const run = (...lines: string[]) => runLines(shell, place, [`. '${shell.plugin}'`, ...lines]);

  describe(`the segment in ${shell.path}`, () => {
    test('is there in the zone and below it, and only there', async () => {
      haveZone();
      const { stdout } = await run(SHOW, 'cd wt', SHOW, 'cd sub', SHOW, 'cd ../../wt2', SHOW);
      expect(shown(stdout)).toEqual(['', 'khlone:@feat/auth ●1 ◌2', 'khlone:@feat/auth ●1 ◌2', '']);
    });

    test('names the innermost zone', async () => {
      haveZone();
      writeIndex(place.home, [
        { root: join(place.root, 'wt'), key: 'k1' },
        { root: join(place.root, 'wt/nested'), key: 'k2' },
      ]);
      writeZoneLine(place.home, 'k2', zone({ label: '@nested', active: 0, queued: 0 }));
      const { stdout } = await run('cd wt/nested', SHOW, 'cd ..', SHOW);
      expect(shown(stdout)).toEqual(['khlone:@nested', 'khlone:@feat/auth ●1 ◌2']);
    });

    test.each<[string, Partial<ZoneLine>, string]>([
      ['counts all that waits', { patches: 3, conflicts: 4, attention: 5 }, '●1 ◌2 ↓3 ≠4 ⚠5'],
      ['shows ? for the active when offline', { conn: 'offline' }, '?1 ◌2'],
      ['shows a bare ? when offline and nothing was active', { conn: 'offline', active: 0 }, '? ◌2'],
      ['shows ? while connecting', { conn: 'connecting' }, '?1 ◌2'],
      ['says down', { conn: 'down' }, 'down ◌2'],
      ['shows ? for a line nobody vouched for', { epochSeconds: Date.now() / 1000 - 100 }, '?1 ◌2'],
      ['believes a line of a minute ago', { epochSeconds: Date.now() / 1000 - 60 }, '●1 ◌2'],
    ])('%s', async (_, more, text) => {
      haveZone(more);
      const { stdout } = await run('cd wt', SHOW);
      expect(shown(stdout)).toEqual([`khlone:@feat/auth ${text}`]);
    });

    test('uses letters without UTF-8', async () => {
      haveZone({ patches: 3, conflicts: 4, attention: 5 });
      const { stdout } = await run('LC_ALL=C', 'cd wt', SHOW);
      expect(shown(stdout)).toEqual(['khlone:@feat/auth a1 q2 p3 c4 w5']);
    });

    test('follows the state while the shell stays where it is', async () => {
      const script = join(place.root, 'bin', 'state');
      const line = (text: string) =>
        `printf '1\\t@x\\tssh\\tonline\\t${text}\\t4102444800\\n' >"$KHLONE_HOME/shell/zones/k1"`;
      writeFileSync(script, '#!/bin/sh\nmkdir -p "$KHLONE_HOME/shell/zones"\n', { mode: 0o755 });
      const index = `printf '1\\thash\\n%s\\tk1\\n' "$PWD" >"$KHLONE_HOME/shell/index"`;
      const { stdout } = await run(
        'state; cd wt',
        SHOW,
        `${index}; ${line('0\\t0\\t0\\t0\\t0')}`,
        SHOW,
        line('3\\t0\\t0\\t0\\t0'),
        SHOW,
        'rm "$KHLONE_HOME/shell/zones/k1"',
        SHOW,
      );
      expect(shown(stdout)).toEqual(['', 'khlone:@x', 'khlone:@x ●3', '']);
    });

    test('goes when the zone goes', async () => {
      haveZone();
      removeZoneLine(place.home, 'k1');
      expect(shown((await run('cd wt', SHOW)).stdout)).toEqual(['']);
    });

    test.each([
      ['no fields', '1'],
      ['too few fields', '1\t@x\tssh\tonline\t1'],
      ['words for counts', '1\t@x\tssh\tonline\ta[$(touch pwned)]\t0\t0\t0\t0\t1'],
      ['a word for the time', '1\t@x\tssh\tonline\t1\t0\t0\t0\t0\ta[$(touch pwned)]'],
      ['bytes', '\xff\x00\x1b]0;x\x07'],
    ])('a line with %s runs nothing and breaks nothing', async (_, line) => {
      haveZone();
      writeFileSync(join(place.home, 'shell/zones/k1'), `${line}\n`);
      const { stdout } = await run('cd wt', `printf '[[%s]]\\n' "$?"`);
      expect(shown(stdout)).toEqual(['0']);
      expect(existsSync(join(place.root, 'wt/pwned'))).toBe(false);
    });

    test('an index that points outside of the zones is not followed', async () => {
      haveZone();
      writeFileSync(join(place.root, 'secret'), '1\t@secret\tssh\tonline\t1\t0\t0\t0\t0\t4102444800\n');
      writeFileSync(join(place.home, 'shell/index'), `1\tx\n${place.root}/wt\t../../../secret\n`);
      expect(shown((await run('cd wt', SHOW)).stdout)).toEqual(['']);
    });

    test('the repository’s own .khlone is never read', async () => {
      mkdirSync(join(place.root, 'wt/.khlone/shell/zones'), { recursive: true });
      writeFileSync(join(place.root, 'wt/.khlone/shell/index'), `1\tx\n${place.root}/wt\tk1\n`);
      const { stdout } = await run('cd wt', SHOW, 'unset KHLONE_HOME', SHOW);
      expect(shown(stdout)).toEqual(['', '']);
    });

    test('is exported only when asked for', async () => {
      haveZone();
      const asked = `printf '[[%s]]\\n' "$(env | grep -c ^KHLONE_PROMPT=)"`;
      expect(shown((await run('cd wt', asked)).stdout)).toEqual(['0']);
      expect(shown((await run('KHLONE_PROMPT_EXPORT=1; cd wt', asked)).stdout)).toEqual(['1']);
    });

    test.skipIf(NO_STRACE)('load, cd and prompts start no process', async () => {
      haveZone();
      const trace = join(place.root, 'trace');
      const strace = ['strace', '-f', '-e', 'trace=fork,vfork,clone,clone3,execve', '-o', trace];
      const lines = [
        `. '${shell.plugin}'`,
        ':',
        'cd wt',
        ':',
        'cd sub',
        ':',
        'cd ../../wt2',
        ':',
        'khlone_prompt',
      ];
      await runLines(shell, place, lines, strace);
      const calls = readFileSync(trace, 'utf8')
        .split('\n')
        .filter((line) => /\(/.test(line));
      expect(calls).toHaveLength(1);
      expect(calls[0]).toContain('execve');
    });
  });

  describe(`a real terminal with ${shell.path}`, () => {
    const open = async () => {
      terminal = await openTerminal(shell, place);
      await terminal.line(`. '${shell.plugin}'; echo lo''aded`);
      await terminal.until(/^loaded/m);
      return terminal;
    };

    test('the prompt shows the segment in the zone, and not outside', async () => {
      haveZone();
      const screen = await open();
      await screen.line('clear; cd wt');
      await screen.until(/khlone:@feat\/auth ●1 ◌2/);
      await screen.line('cd /; clear; echo away');
      expect(await screen.until(/^away\n.+\S/m)).not.toContain('khlone:');
    });

    test('a hostile label is shown and does nothing', async () => {
      haveZone({ label: HOSTILE });
      const screen = await open();
      if (shell.name === 'zsh') await screen.line('setopt prompt_subst prompt_bang');
      await screen.line('clear; cd wt');
      await screen.until(/khlone:_\(touch pwned\)_touch pwned_%F\{red\}__\(touch pwned\)__\[31m ●1/);
      // A prompt that a person builds in double quotes, every time anew, must do no harm either.
      const own =
        shell.name === 'zsh'
          ? 'precmd() { PROMPT="$KHLONE_PROMPT> " }'
          : `PROMPT_COMMAND+=';PS1="$KHLONE_PROMPT> "'`;
      await screen.line(own);
      await screen.line('clear; echo; echo do""ne');
      await screen.until(/^done\n.*khlone:_\(touch pwned\)/m);
      expect(existsSync(join(place.root, 'wt/pwned'))).toBe(false);
    });

    test('a stopped command goes on in the foreground, and its session is adopted', async () => {
      execFileSync('mkfifo', [join(place.home, 'gate')]);
      const screen = await open();
      await screen.line('khlone wait w1');
      await screen.until(/^waiting/m);
      await screen.keys('C-z');
      await screen.until(/suspended|Stopped/);
      await screen.line('echo "in $KHLONE_SESSION."');
      await screen.until(/^in w1\./m);
      await screen.line('fg');
      await screen.until(/continued|^khlone wait|^KHLONE_SHELL/m);
      writeFileSync(join(place.home, 'gate'), 'gusto\n');
      await screen.until(/^went on with gusto/m);
    });

    test('the status shown by the prompt is the command’s', async () => {
      haveZone();
      const screen = await open();
      await screen.line(shell.name === 'zsh' ? "PROMPT='<%?> '" : "PS1='<$?> '");
      await screen.line('cd wt; (exit 42)');
      await screen.until(/<42> *(khlone.*)?$/m);
      await screen.line('echo "was $?"');
      await screen.until(/^was 42/m);
    });

    test('KHLONE_PROMPT_AUTO=0 leaves the prompt alone', async () => {
      haveZone();
      const screen = await open();
      await screen.line('KHLONE_PROMPT_AUTO=0; clear; cd wt; echo "now $PWD"');
      await screen.until(/^now .*wt\n.+\S/m);
      await screen.line('echo "[$KHLONE_PROMPT]"');
      const seen = await screen.until(/^\[khlone:@feat\/auth ●1 ◌2\]/m);
      expect(seen.match(/khlone:/g)).toHaveLength(1);
    });

    test('the command keeps the terminal as its output', async () => {
      const screen = await open();
      await screen.line('khlone tty; khlone tty | cat');
      await screen.until(/^terminal\npipe/m);
    });
  });
}

test('zsh finds a zone that is entered by a symbolic link', async () => {
  const zsh = SHELLS.find(({ name }) => name === 'zsh');
  if (!zsh) return;
  haveZone();
  symlinkSync(join(place.root, 'wt'), join(place.root, 'link'));
  const { stdout } = await runLines(zsh, place, [`. '${zsh.plugin}'`, 'cd link/sub', SHOW]);
  expect(shown(stdout)).toEqual(['khlone:@feat/auth ●1 ◌2']);
});

test('zsh uses the right prompt only while nobody else does', async () => {
  const zsh = SHELLS.find(({ name }) => name === 'zsh');
  if (!zsh) return;
  haveZone();
  const lines = [
    `. '${zsh.plugin}'`,
    'RPROMPT=theirs',
    'cd wt',
    `printf '[[%s]]' "$RPROMPT"`,
    'RPROMPT=',
    ':',
    `printf '[[%s]]' "$RPROMPT"`,
  ];
  const { stdout } = await runLines(zsh, place, lines);
  expect(shown(stdout)).toEqual(['theirs', 'khlone:@feat/auth ●1 ◌2']);
});

test('a plugin manager can load it', async () => {
  const zsh = SHELLS.find(({ name }) => name === 'zsh');
  if (!zsh) return;
  haveZone();
  const { stdout } = await runLines(zsh, place, [
    `. '${join(zsh.plugin, '../../khlone.plugin.zsh')}'`,
    'cd wt',
    SHOW,
  ]);
  expect(shown(stdout)).toEqual(['khlone:@feat/auth ●1 ◌2']);
});
