import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createPeer } from '../../src/protocol/peer.ts';
import { socketPathIn } from '../../src/protocol/resident.ts';
import { until } from '../fixtures/khlone.ts';
import { openPersonTerminal, type PersonTerminal } from '../fixtures/person-terminal.ts';
import { kill9, processesWith } from '../fixtures/server.ts';
import { sshdMissing } from '../fixtures/sshd.ts';
import { createFarWorld, type FarWorld } from './far-world.ts';
import { type FaultLine, faultLine } from './fault-line.ts';

/** Looking into a zone on another host, over a line that is cut, falls silent, and comes back. */

/** Types into the shell until it says its word: keys that are typed while it is away go nowhere. */
const answers = (at: PersonTerminal, text: string): Promise<void> =>
  until(
    'the shell answers',
    async () => {
      await at.press('C-c');
      await at.line(`echo ${text}-$word`);
      return at.until(new RegExp(`^${text}-kept`, 'm'), 2_000).then(
        () => true,
        () => false,
      );
    },
    30_000,
  );

/** Types a line while nothing arrives: its keys are lost on the way, or come as late as the line lets them. */
const hasEveryKey = async (line: FaultLine, at: PersonTerminal, end = (): unknown => 0): Promise<void> => {
  await at.line('word=kept; clear');
  await at.line('echo is-$word');
  await at.until(/\nis-kept/);
  line.swallow = { up: true, down: true };
  await at.type('echo whole-');
  // Each in a packet of its own, as a person types.
  await delay(200);
  await at.type('$word');
  await delay(200);
  await at.press('Enter');
  await at.until(/reconnecting to zone…/, 15_000);
  end();
  line.heal();
  expect((await at.until(/^whole-kept/m, 20_000)).match(/^whole-kept/gm)).toHaveLength(1);
  await at.line('exit 6');
  await at.until(/code=6/);
};

describe.skipIf(sshdMissing)(`attach over ssh${sshdMissing ? ` (${sshdMissing})` : ''}`, () => {
  let far: FarWorld;
  let line: FaultLine;
  const terminals: PersonTerminal[] = [];
  const VIEW = /hello from afar[\s\S]*idle/;
  const AWAY = /reconnecting to zone…/;

  const look = async (words: string): Promise<PersonTerminal> => {
    const at = await openPersonTerminal(far);
    terminals.push(at);
    await at.line(`clear; khlone attach ${words}; echo "code=$?"`);
    return at;
  };
  const shell = async (): Promise<PersonTerminal> => {
    const at = await look('--shell');
    await at.until(/org\/app\/main/);
    await at.line('word=kept; clear');
    await at.line('echo is-$word');
    await at.until(/\nis-kept/);
    return at;
  };

  beforeAll(async () => {
    far = await createFarWorld();
    line = await faultLine(far.sshd);
    await far.ok(['act', '--who', 'mechanic@sh', '--await', 'echo hello from afar']);
  }, 60_000);
  afterAll(async () => {
    for (const at of terminals) await at.end();
    await far?.dispose();
    line?.close();
  });

  it('shows the work there, and leaves by Ctrl-D and by ~.', async () => {
    for (const leave of ['C-d', '~.']) {
      const at = await look('mechanic.1');
      await at.until(VIEW);
      await (leave === '~.' ? at.type(leave) : at.press(leave));
      expect(await at.until(/code=0/)).toMatch(/✓ detached from mechanic\.1; it goes on\ncode=0/);
      expect(await at.fact('#{alternate_on} #{mouse_any_flag} #{cursor_flag}')).toBe('0 0 1');
    }
  });

  it('opens a shell in the worktree there, which follows the size and ends with its own code', async () => {
    const at = await shell();
    await at.line('clear; pwd; stty size');
    await at.until(new RegExp(`${far.zone}\\n24 100`));
    await at.resize(71, 19);
    await until('the new size is there', async () => {
      await at.line('clear; stty size');
      return /^19 71/m.test(await at.until(/^\d+ \d+/m));
    });
    await at.line('exit 7');
    expect(await at.until(/code=7/)).toContain('✓ the shell of @main ended');
  });

  it('goes on in the same shell after a host was away', async () => {
    const at = await shell();
    await far.sshd.close();
    line.reset();
    await at.until(AWAY);
    await at.type('these keys go nowhere');
    await at.until(/reconnecting to zone… \d+ s \(~\. leaves\)/);
    await far.sshd.open();
    await at.until(/^(?![\s\S]*reconnecting)[\s\S]*is-kept/);
    await at.line('echo still-$word');
    expect(await at.until(/\nstill-kept/)).not.toContain('these keys');
    await at.type('~.');
    await at.until(/code=0/);
  });

  it('says so when the line falls silent, and leaves at once', async () => {
    const at = await shell();
    line.swallow = { up: true, down: true };
    await at.type('x');
    await at.until(AWAY, 8_000);
    const begun = performance.now();
    await at.type('~.');
    await at.until(/code=0/, 1_500);
    expect(performance.now() - begun).toBeLessThan(1_500);
    expect(await at.fact('#{alternate_on}')).toBe('0');
    line.heal();
  });

  it('says so within 5 s though nobody types and nothing is drawn, and goes on when the line is whole', async () => {
    const at = await look('mechanic.1');
    await at.until(VIEW);
    // Longer than an idle line is left alone while nobody looks.
    await delay(3_000);
    line.swallow = { up: true, down: true };
    await at.until(AWAY, 6_000);
    line.heal();
    await at.until(/^(?![\s\S]*reconnecting)[\s\S]*hello from afar/);
    await at.press('C-d');
    await at.until(/code=0/);
  });

  it('goes on by itself when a silent line speaks again', async () => {
    const at = await shell();
    line.swallow = { up: true, down: true };
    await at.type('x');
    await at.until(AWAY, 8_000);
    line.heal();
    await at.until(/^(?![\s\S]*reconnecting)[\s\S]*is-kept/);
    await answers(at, 'still');
    await at.type('~.');
    await at.until(/code=0/);
  });

  it.each([
    ['and was given up', () => line.reset()],
    ['and speaks again', () => {}],
  ])('has every key once that was typed into a line which had just fallen silent %s', async (_how, end) => {
    const at = await shell();
    await hasEveryKey(line, at, end);
  });

  it('outlives the hub here, the server there and the program that makes its terminal', async () => {
    const at = await shell();
    const program = join(far.farHome, 'server/viewers/pty-proxy.pl');
    const deaths = {
      hub: () => far.hubPid(),
      server: () => far.farServerPid(),
      proxy: () => processesWith(program).at(-1),
    };
    for (const [name, pid] of Object.entries(deaths)) {
      // What died last may just be on its way back, and take this one along.
      await until(`the ${name} is there`, () => {
        const found = pid();
        kill9(found === undefined ? [] : [found]);
        return found !== undefined;
      });
      await answers(at, name);
    }
    await at.line('exit 3');
    await at.until(/code=3/);
  });

  it('goes on in the same shell when the server there makes room for another build', async () => {
    const at = await shell();
    const before = far.farServerPid();
    const peer = createPeer(connect(socketPathIn(far.farHome, 'server')), {});
    await peer.call('stop', { keep: true });
    peer.close();
    await until('another server is there', () => ![undefined, before].includes(far.farServerPid()));
    await answers(at, 'next');
    await at.line('exit 4');
    await at.until(/code=4/);
  });

  it('ends when the person stops khlone, and starts nothing anew', async () => {
    const at = await look('mechanic.1');
    await at.until(VIEW);
    await far.khlone(['stop']);
    expect(await at.until(/code=4/)).toMatch(/^✗ khlone was stopped\n/);
    await until('the hub is gone', () => far.residents().hubs === 0);
  });

  it('ends with what a person has to mend when the host has another key', async () => {
    const at = await look('mechanic.1');
    await at.until(VIEW);
    await far.sshd.close();
    line.reset();
    await far.sshd.restartWithOtherKey();
    expect(await at.until(/code=5/)).toMatch(/✗ .*key/);
    expect(await at.fact('#{alternate_on}')).toBe('0');
  });
});

/** Longer than keys may be without any sign of life. */
const SILENT_S = 7;

/** Where terminals come from, by what a host lacks: twice from sshd, then from the server. */
const POOR_HOSTS = [
  ['script(1) and perl', 'ssh2', ['script', 'perl']],
  ['script(1)', 'openssh', ['script']],
  ['perl', 'ssh2', ['perl']],
] as const;

describe.skipIf(sshdMissing).each(POOR_HOSTS)(
  `a host without %s, by %s${sshdMissing ? ` (${sshdMissing})` : ''}`,
  (_name, backend, lacking) => {
    let far: FarWorld;
    let at: PersonTerminal;

    let bin = '';

    beforeAll(async () => {
      // As script on BSD: there is a program of that name, which cannot do it.
      bin = mkdtempSync(join(tmpdir(), 'khlone-bin-'));
      for (const program of lacking)
        writeFileSync(join(bin, program), '#!/bin/sh\necho usage >&2\nexit 1\n', { mode: 0o755 });
      far = await createFarWorld({
        sshd: { path: `${bin}:/usr/local/bin:/usr/bin:/bin` },
        files: { 'khlone.yml': `zone: { mode: ssh, host: zone, backend: ${backend} }\n` },
      });
      await far.ok(['act', '--who', 'mechanic@sh', '--await', 'echo hello from afar']);
      at = await openPersonTerminal(far);
    }, 60_000);
    /** When the terminal that is there now began to look. */
    const viewedSince = (): string =>
      execFileSync(
        'tmux',
        [
          '-S',
          join(far.farHome, 'server/tmux.sock'),
          'list-clients',
          '-F',
          '#{client_pid} #{client_created}',
        ],
        {
          encoding: 'utf8',
        },
      );

    afterAll(async () => {
      await at?.end();
      await far?.dispose();
      rmSync(bin, { recursive: true, force: true });
    });

    it('is looked into at a terminal that has sizes, codes and drops as well', async () => {
      await at.line('clear; khlone attach --shell; echo "code=$?"');
      await at.until(/org\/app\/main/);
      await at.line('word=kept; clear; stty size');
      await at.until(/^24 100/m);
      await at.resize(80, 20);
      await until('the new size is there', async () => {
        await at.line('clear; stty size');
        return /^20 80/m.test(await at.until(/^\d+ \d+/m));
      });
      // Nothing is drawn for seconds, though somebody types: a password's prompt looks like this, and is no dead path.
      const before = viewedSince();
      await at.line(`clear; read -rs -t ${SILENT_S} -n 999 typed; echo "is \${#typed} long"`);
      const end = performance.now() + (SILENT_S - 1) * 1_000;
      let keys = 0;
      for (; performance.now() < end; keys += 1) {
        await at.type('k');
        await delay(100);
      }
      await at.until(new RegExp(`is ${keys} long`));
      expect(viewedSince()).toBe(before);
      // By ssh2 it is a channel of the one connection.
      expect(far.sshd.sessions()).toHaveLength(backend === 'ssh2' ? 1 : 2);
      await far.sshd.close();
      await at.until(/reconnecting to zone…/);
      await far.sshd.open();
      await answers(at, 'still');
      await at.line('exit 5');
      expect(await at.until(/code=5/)).toContain('the shell of @main ended');
      await until('the terminal’s own login is over', () => far.sshd.sessions().length === 1);
    });

    // A terminal of sshd's does not tell how much was typed.
    if (!lacking.some((program) => program === 'script'))
      it('has every key once that was typed into a line which had just fallen silent and speaks again', async () => {
        const line = await faultLine(far.sshd);
        await far.ok(['stop']);
        await at.line('clear; khlone attach --shell; echo "code=$?"');
        await at.until(/org\/app\/main/);
        await hasEveryKey(line, at);
        line.close();
      });
  },
);
