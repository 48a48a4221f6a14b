import { execFileSync } from 'node:child_process';
import { existsSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { openOpensshWire } from '../../../src/client/link/openssh.ts';
import { KhloneError } from '../../../src/protocol/error.ts';
import { until } from '../../fixtures/server.ts';
import {
  afterwards,
  answering,
  appendConfig,
  clientProcesses,
  type Dial,
  dialBy,
  echo,
  failure,
  noClientProcesses,
  RELAY_ONLY,
  sshdWith,
} from '../../fixtures/ssh-wire.ts';
import { freePort, type Sshd, sshdMissing } from '../../fixtures/sshd.ts';

const dial = (sshd: Sshd, how?: Dial) => dialBy(openOpensshWire, sshd, how);
const logins = (sshd: Sshd) => sshd.log().match(/Accepted /g)?.length ?? 0;
const programOf = (pid: number): string => readFileSync(`/proc/${pid}/comm`, 'latin1').trim();
/** What is left in the folder where ssh's questions arrive. */
const desks = (sshd: Sshd): string[] => {
  const run = join(sshd.clientHome, 'khlone/run');
  return existsSync(run) ? readdirSync(run) : [];
};

describe.skipIf(sshdMissing)(`an ssh wire over openssh${sshdMissing ? ` (${sshdMissing})` : ''}`, () => {
  it('sets the server up on a fresh host, needs one login the next time, and leaves no ssh behind', async () => {
    const sshd = await sshdWith({ config: ['MaxSessions 1', 'DisableForwarding yes', 'PermitTTY no'] });
    expect(await echo((await dial(sshd)).duplex, 'first words')).toBe('first words');
    // One that finds nothing and looks around, one that brings the build, one that stays.
    expect(logins(sshd)).toBe(3);
    const before = logins(sshd);
    const warm = await dial(sshd);
    expect(await echo(warm.duplex, 'again')).toBe('again');
    expect(logins(sshd) - before).toBe(1);
    expect(clientProcesses(sshd)).toHaveLength(2);
    warm.close();
    expect(await warm.closed).toBeUndefined();
    await until('the end of its ssh', () => clientProcesses(sshd).length === 1);
  });

  it('skips the noise of a login shell, a banner and what the config would let ssh say', async () => {
    const banner = join((await sshdWith()).clientHome, 'banner');
    writeFileSync(banner, 'Permission denied (nobody).\nHost key verification failed.\n');
    const bashrc =
      'echo welcome to khlone-wire/1 land; echo oops >&2; for i in $(seq 1500); do echo noise $i; done\n';
    const sshd = await sshdWith({ bashrc, config: [`Banner ${banner}`] });
    appendConfig(sshd, ['Host *', '  LogLevel DEBUG', '  VisualHostKey yes', '  RequestTTY force']);
    for (const round of ['cold', 'warm']) expect(await echo((await dial(sshd)).duplex, round)).toBe(round);
  });

  it('shares nothing with the person’s own sessions and forwards nothing, whatever the config says', async () => {
    const sshd = await sshdWith({ config: RELAY_ONLY });
    const control = join(sshd.clientHome, 'control');
    const port = await freePort();
    const ran = join(sshd.clientHome, 'ran');
    const text = readFileSync(sshd.sshConfig, 'utf8');
    const own = [
      ...['ControlMaster auto', `ControlPath ${control}`, 'ControlPersist 60', 'ForwardAgent yes'],
      ...[`LocalForward ${port} 127.0.0.1:1`, 'RemoteCommand echo mine', 'StdinNull yes'],
      ...['PermitLocalCommand yes', `LocalCommand touch ${ran}`, 'SessionType none'],
    ];
    writeFileSync(sshd.sshConfig, text.replace('Host zone\n', `Host zone\n${own.join('\n')}\n`));
    const { duplex } = await dial(sshd);
    expect(await echo(duplex, 'apart')).toBe('apart');
    expect(existsSync(control)).toBe(false);
    expect(existsSync(ran)).toBe(false);
    const [ssh = 0] = clientProcesses(sshd);
    expect(readFileSync(`/proc/${ssh}/cmdline`, 'latin1')).toContain('ForwardAgent=no');
  });

  it('asks for a passphrase once for all that a first set-up does, again when it was wrong', async () => {
    const sshd = await sshdWith();
    execFileSync('ssh-keygen', ['-q', '-p', '-P', '', '-N', 'open sesame', '-f', sshd.userKey]);
    const alone = await failure(dial(sshd));
    expect(alone).toMatchObject({ code: 'ssh-auth', exit: 5 });
    expect(alone.message).toContain('accepts publickey');

    const person = answering('wrong', 'open sesame');
    expect(await echo((await dial(sshd, { asker: person })).duplex, 'in')).toBe('in');
    expect(person.asked).toEqual([
      expect.stringMatching(/passphrase for key '.*\/id': $/),
      expect.stringMatching(/passphrase for key '.*\/id': $/),
    ]);
    expect(person.secret).toEqual([true, true]);
    expect(logins(sshd)).toBeGreaterThan(2);
    expect(desks(sshd)).toEqual([]);
  });

  it('gives up when the person who was asked is gone', async () => {
    const sshd = await sshdWith();
    execFileSync('ssh-keygen', ['-q', '-p', '-P', '', '-N', 'open sesame', '-f', sshd.userKey]);
    const ask = async () => {
      throw new KhloneError('interrupted', 'interrupted');
    };
    expect((await failure(dial(sshd, { asker: { ask } }))).code).toBe('interrupted');
    await noClientProcesses(sshd);
    expect(desks(sshd)).toEqual([]);
  });

  it('knows a host by khlone’s own known_hosts', async () => {
    const sshd = await sshdWith({ config: RELAY_ONLY });
    const home = join(sshd.clientHome, 'khlone');
    execFileSync('mkdir', ['-p', '-m', '700', home]);
    writeFileSync(join(home, 'known_hosts'), readFileSync(sshd.knownHosts));
    rmSync(sshd.knownHosts);
    expect(await echo((await dial(sshd)).duplex, 'pinned')).toBe('pinned');
  });

  it('names a refused key', async () => {
    const sshd = await sshdWith();
    rmSync(sshd.userKey);
    expect((await failure(dial(sshd))).code).toBe('ssh-auth');
  });

  it('says when there is no ssh', async () => {
    const sshd = await sshdWith();
    const error = await failure(dial(sshd, { env: { PATH: sshd.remoteHome } }));
    expect(error).toMatchObject({ code: 'config', message: 'ssh is not installed here' });
  });

  it('ends the stream when the host goes away, and ends an ssh that ignores being asked to', async () => {
    const sshd = await sshdWith({ config: RELAY_ONLY });
    const gone = await dial(sshd);
    const ended = new Promise<void>((resolve) => gone.duplex.resume().once('close', () => resolve()));
    for (const pid of sshd.sessions()) process.kill(pid, 'SIGKILL');
    await ended;
    await gone.closed;
    await noClientProcesses(sshd);

    // A dead path, and a ProxyCommand that will not go: neither leaves anything.
    const proxy = join(sshd.clientHome, 'proxy');
    writeFileSync(
      proxy,
      `#!/bin/bash\ntrap '' TERM HUP\nsleep 60 &\nnc 127.0.0.1 ${sshd.port} <&0 & wait; wait\n`,
      {
        mode: 0o755,
      },
    );
    const text = readFileSync(sshd.sshConfig, 'utf8');
    writeFileSync(sshd.sshConfig, text.replace('Host zone\n', `Host zone\n  ProxyCommand ${proxy}\n`));
    const stuck = await dial(sshd);
    const [session = 0] = sshd.sessions();
    process.kill(session, 'SIGSTOP');
    afterwards(() => process.kill(session, 'SIGKILL'));
    for (let at = 0; at < 64; at++) stuck.duplex.write(Buffer.alloc(65_536));
    stuck.close();
    await stuck.closed;
    await noClientProcesses(sshd);

    // An ssh that was killed can end its ProxyCommand no more.
    const killed = await dial(sshd);
    killed.duplex.resume();
    const leader = clientProcesses(sshd).find((pid) => programOf(pid) === 'ssh') ?? 0;
    process.kill(leader, 'SIGKILL');
    await killed.closed;
    await noClientProcesses(sshd);
  });
});
