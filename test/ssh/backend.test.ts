import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { until } from '../fixtures/khlone.ts';
import { processesWith } from '../fixtures/server.ts';
import { sshdMissing } from '../fixtures/sshd.ts';
import { createFarWorld, type FarWorld, idOf, write } from './far-world.ts';

/** The whole way of a task over a child ssh: set-up, drops, questions, and the choice itself. */

const yml = (backend: string): string => `zone: { mode: ssh, host: zone, backend: ${backend} }\n`;

describe.skipIf(sshdMissing)(`a zone by the openssh backend${sshdMissing ? ` (${sshdMissing})` : ''}`, () => {
  let far: FarWorld;
  const note = (word: string) => ['act', '--who', '@sh', `echo ${word} >> order`];
  const order = (): string[] => readFileSync(join(far.zone, 'order'), 'utf8').trim().split('\n');
  /** Our ssh children: they have the person's PATH, and the host's side has not. */
  const children = (): number[] =>
    processesWith(join(far.sshd.clientHome, 'bin:')).filter((pid) => {
      try {
        return readFileSync(`/proc/${pid}/comm`, 'latin1').trim() === 'ssh';
      } catch {
        return false;
      }
    });

  beforeAll(async () => {
    far = await createFarWorld({ files: { 'khlone.yml': yml('openssh') } });
  });
  afterAll(() => far?.dispose());

  it('runs an act on a fresh host, over one ssh, and doctor says why by that', async () => {
    await far.ok([...note('first'), '--await']);
    expect(order()).toEqual(['first']);
    expect(children()).toHaveLength(1);
    const { stdout } = await far.khlone(['doctor']);
    expect(stdout).toContain('ssh to zone: by openssh: zone.backend is openssh');
  });

  it('is replaced by a second one when it falls silent, runs the act once, and leaves no ssh behind', async () => {
    const [silent = 0] = far.sshd.sessions();
    const before = children();
    process.kill(silent, 'SIGSTOP');
    try {
      const act = await far.ok(note('silent'));
      expect(act.ms).toBeLessThan(4_000);
      await far.ok(['await', idOf(act)]);
      await until('the end of the silent ssh', () => !children().includes(before[0] ?? 0));
    } finally {
      process.kill(silent, 'SIGKILL');
    }
    expect(children()).toHaveLength(1);
    expect(order()).toEqual(['first', 'silent']);
  });

  it('keeps acts while the host is away, and sends them once, in order', async () => {
    await far.sshd.close();
    const one = await far.ok(note('one'));
    expect(one.stderr).toContain('queued here');
    const two = await far.ok(note('two'));
    await until('the end of every ssh', () => children().length === 0);
    await far.sshd.open();
    await far.ok(['reconnect']);
    await far.ok(['await', idOf(two)]);
    expect(order()).toEqual(['first', 'silent', 'one', 'two']);
  });

  it('asks for a passphrase at the terminal of the command that needs the link, and nowhere else', async () => {
    execFileSync('ssh-keygen', ['-q', '-p', '-P', '', '-N', 'open sesame', '-f', far.sshd.userKey]);
    await far.kill(far.hubPid());
    const alone = await far.khlone(['reconnect']);
    expect(alone.code).toBe(5);
    const asked = far.start(['reconnect'], { tty: true });
    await until('the question', () => asked.stdout().includes('Enter passphrase for key'));
    asked.type('open sesame\n');
    const { code, stdout } = await asked.ended;
    expect(code).toBe(0);
    expect(stdout).not.toContain('open sesame');
    await far.ok([...note('asked'), '--await']);
    expect(order().at(-1)).toBe('asked');
    execFileSync('ssh-keygen', ['-q', '-p', '-P', 'open sesame', '-N', '', '-f', far.sshd.userKey]);
  });

  it('follows the configuration with the next connection', async () => {
    write(far, 'khlone.yml', yml('auto'));
    await far.ok([...note('still'), '--await']);
    expect(children()).toHaveLength(1);
    await far.kill(far.hubPid());
    await until('the end of the ssh without its hub', () => children().length === 0);
    await far.ok([...note('auto'), '--await']);
    const { stdout } = await far.khlone(['doctor']);
    expect(stdout).toContain('ssh to zone: by ssh2: nothing here needs openssh');
    expect(children()).toEqual([]);
  });
});
