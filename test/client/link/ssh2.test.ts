import { execFileSync } from 'node:child_process';
import { readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { openSshWire } from '../../../src/client/link/ssh2.ts';
import {
  afterwards,
  answering,
  appendConfig,
  type Dial,
  dialBy,
  echo,
  failure,
  hostLines,
  sshdWith,
} from '../../fixtures/ssh-wire.ts';
import { makeUserKey, type Sshd, sshdMissing } from '../../fixtures/sshd.ts';

const dial = (sshd: Sshd, how?: Dial) => dialBy(openSshWire, sshd, how);
const builds = (sshd: Sshd) => readdirSync(join(sshd.remoteHome, '.khlone/server/versions')).sort();
const sessions = (sshd: Sshd) => sshd.log().match(/Starting session/g)?.length ?? 0;
describe.skipIf(sshdMissing)(`an ssh wire over ssh2${sshdMissing ? ` (${sshdMissing})` : ''}`, () => {
  it('sets the server up on a fresh host over one connection, and needs one session the next time', async () => {
    const sshd = await sshdWith({ config: ['LogLevel VERBOSE'] });
    const cold = await dial(sshd);
    expect(await echo(cold.duplex, 'first words')).toBe('first words');
    expect(cold.rttMs).toBeGreaterThan(0);
    expect(builds(sshd)).toEqual([expect.stringMatching(/^0\.1\.0-[0-9a-f]{8}$/)]);
    expect(sshd.log().match(/Accepted publickey/g)).toHaveLength(1);

    const before = sessions(sshd);
    const warm = await dial(sshd);
    expect(await echo(warm.duplex, 'again')).toBe('again');
    expect(sessions(sshd) - before).toBe(1);
    warm.close();
    expect(await warm.closed).toBeUndefined();
  });

  it('needs no more than one session at a time, no forwarding and no pty', async () => {
    const sshd = await sshdWith({ config: ['MaxSessions 1', 'DisableForwarding yes', 'PermitTTY no'] });
    for (const round of ['cold', 'warm']) expect(await echo((await dial(sshd)).duplex, round)).toBe(round);
  });

  it('skips the noise of a login shell and waits for a slow one', async () => {
    const bashrc =
      'echo welcome to khlone-wire/1 land; printf "no line end"; echo oops >&2; read -t 1 -r _ < <(:); for i in $(seq 1500); do echo noise $i; done; /bin/sleep 0.3\n';
    const sshd = await sshdWith({ bashrc });
    for (const round of ['cold', 'warm']) expect(await echo((await dial(sshd)).duplex, round)).toBe(round);
  });

  it('refuses a host whose shell never stops talking, and shows what it said without its control characters', async () => {
    const sshd = await sshdWith({ bashrc: 'printf "\\033]0;title\\007"; yes "too much" | head -c 200000\n' });
    const error = await failure(dial(sshd));
    expect(error).toMatchObject({ code: 'remote-setup', exit: 4 });
    expect(error.message).toContain('prints too much');
    expect(error.message).not.toMatch(/[\x00-\x1f]/);
  });

  it('says which keys a host refused and what it would accept', async () => {
    const sshd = await sshdWith();
    makeUserKey(sshd, 'id');
    const error = await failure(dial(sshd));
    expect(error).toMatchObject({ code: 'ssh-auth', exit: 5 });
    expect(error.message).toContain(sshd.userKey);
    expect(error.message).toContain('accepts publickey');
  });

  it('asks for the passphrase of an encrypted key, again when it was wrong', async () => {
    const sshd = await sshdWith();
    execFileSync('ssh-keygen', ['-q', '-p', '-P', '', '-N', 'open sesame', '-f', sshd.userKey]);
    rmSync(`${sshd.userKey}.pub`);
    const alone = await failure(dial(sshd));
    expect(alone.code).toBe('ssh-auth');
    expect(alone.message).toContain('passphrase');

    const person = answering('wrong', 'open sesame');
    expect(await echo((await dial(sshd, { asker: person })).duplex, 'in')).toBe('in');
    expect(person.asked).toEqual([`Passphrase for ${sshd.userKey}: `, `Passphrase for ${sshd.userKey}: `]);
  });

  it('logs in by RSA and ECDSA keys and by the agent of the caller', async () => {
    for (const type of ['rsa', 'ecdsa']) {
      const sshd = await sshdWith();
      const key = makeUserKey(sshd, `id_${type}`, '', type);
      writeFileSync(join(sshd.remoteHome, '../authorized_keys'), readFileSync(`${key}.pub`));
      const socket = join(sshd.clientHome, 'agent.sock');
      const agent = execFileSync('ssh-agent', ['-a', socket], { encoding: 'utf8' });
      const pid = Number(agent.match(/SSH_AGENT_PID=(\d+)/)?.[1]);
      afterwards(() => process.kill(pid));
      appendConfig(sshd, hostLines('direct', { ...sshd, userKey: key }));
      expect(await echo((await dial(sshd, { host: 'direct' })).duplex, type)).toBe(type);
      execFileSync('ssh-add', ['-q', key], { env: { ...process.env, SSH_AUTH_SOCK: socket } });
      expect(await echo((await dial(sshd, { env: { SSH_AUTH_SOCK: socket } })).duplex, type)).toBe(type);
    }
  });

  it('goes on with key files when the agent socket is dead', async () => {
    const sshd = await sshdWith();
    const wire = await dial(sshd, { env: { SSH_AUTH_SOCK: join(sshd.clientHome, 'gone.sock') } });
    expect(await echo(wire.duplex, 'file')).toBe('file');
  });

  it('passes a jump host, each verified by its own key', async () => {
    const bastion = await sshdWith();
    const sshd = await sshdWith();
    appendConfig(sshd, [
      ...hostLines('bastion', bastion),
      ...hostLines('inner', sshd, ['ProxyJump bastion']),
    ]);
    const wire = await dial(sshd, { host: 'inner' });
    expect(await echo(wire.duplex, 'through')).toBe('through');
    expect(bastion.log()).toContain('Accepted publickey');
    expect(wire.rttMs).toBeUndefined();

    await bastion.restartWithOtherKey();
    const error = await failure(dial(sshd, { host: 'inner' }));
    expect(error.code).toBe('host-key');
    expect(error.message).toContain('bastion');
  });

  it('ends the stream and says so when the host goes away', async () => {
    const sshd = await sshdWith();
    const wire = await dial(sshd);
    const ended = new Promise<void>((resolve) => wire.duplex.resume().once('close', () => resolve()));
    const [session] = execFileSync('pgrep', ['-P', String(sshd.pid)], { encoding: 'utf8' })
      .trim()
      .split('\n');
    process.kill(Number(session), 'SIGKILL');
    await ended;
    await wire.closed;
  });
});
