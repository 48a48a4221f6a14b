import { execFileSync } from 'node:child_process';
import { existsSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Duplex } from 'node:stream';
import { afterEach, describe, expect, it } from 'vitest';
import { type Asker, openSshWire, type Wire } from '../../../src/client/link/ssh2.ts';
import { KhloneError } from '../../../src/protocol/error.ts';
import {
  clientEnv,
  createSshd,
  freePort,
  makeUserKey,
  type Sshd,
  type SshdOptions,
  sshdMissing,
} from '../../fixtures/sshd.ts';

const BUNDLE = join(import.meta.dirname, '../../fixtures/echo-server.mjs');

const cleanups: (() => unknown)[] = [];
afterEach(async () => {
  const endings = cleanups.splice(0).reverse();
  for (const ending of endings) await Promise.resolve().then(ending).catch(console.error);
});

const sshdWith = async (options: SshdOptions = {}): Promise<Sshd> => {
  const sshd = await createSshd(options);
  cleanups.push(sshd.stop);
  return sshd;
};

type Dial = {
  host?: string;
  asker?: Asker;
  env?: Record<string, string>;
  bundle?: string;
  version?: string;
  signal?: AbortSignal;
};

const dial = async (sshd: Sshd, how: Dial = {}): Promise<Wire> => {
  const wire = await openSshWire(
    {
      host: how.host ?? 'zone',
      home: join(sshd.clientHome, 'khlone'),
      env: { ...clientEnv(sshd), ...how.env },
    },
    how.asker,
    {
      serverBundle: how.bundle ?? BUNDLE,
      version: how.version ?? '0.1.0',
      signal: how.signal ?? AbortSignal.timeout(60_000),
    },
  );
  cleanups.push(() => wire.close());
  return wire;
};

const echo = (duplex: Duplex, text: string): Promise<string> =>
  new Promise((resolve, reject) => {
    let came = '';
    const onData = (chunk: Buffer) => {
      came += chunk.toString('latin1');
      if (came.length < text.length) return;
      duplex.off('data', onData);
      resolve(came);
    };
    duplex.on('data', onData).once('close', () => reject(new Error(`closed after "${came}"`)));
    duplex.write(text);
  });

const failure = async (work: Promise<unknown>): Promise<KhloneError> => {
  const error = await work.then(
    () => undefined,
    (thrown) => thrown,
  );
  expect(error).toBeInstanceOf(KhloneError);
  return error as KhloneError;
};

/** Answers questions in order and remembers them. */
const answering = (...answers: string[]) => {
  const asked: string[] = [];
  const ask = async ({ text }: { text: string }) => {
    asked.push(text);
    return answers.shift() ?? '';
  };
  return { asked, ask };
};

const builds = (sshd: Sshd) => readdirSync(join(sshd.remoteHome, '.khlone/server/versions')).sort();
const sessions = (sshd: Sshd) => sshd.log().match(/Starting session/g)?.length ?? 0;
const appendConfig = (sshd: Sshd, lines: string[]) =>
  writeFileSync(sshd.sshConfig, `${readFileSync(sshd.sshConfig, 'utf8')}\n${lines.join('\n')}\n`);

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

  it('carries every byte unchanged, both ways, past the flow control window', async () => {
    const { duplex } = await dial(await sshdWith());
    const all = Buffer.alloc(
      5 << 20,
      Uint8Array.from({ length: 256 }, (_, at) => at),
    );
    const text = all.toString('latin1');
    const came = new Promise<Buffer>((resolve) => {
      const chunks: Buffer[] = [];
      duplex
        .on('data', (chunk: Buffer) => chunks.push(chunk))
        .once('end', () => resolve(Buffer.concat(chunks)));
    });
    duplex.end(all);
    expect((await came).toString('latin1') === text).toBe(true);
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

  it('speaks through a forced command that is the relay', async () => {
    const keyOptions = `restrict,command="${process.execPath} ${BUNDLE} relay"`;
    const sshd = await sshdWith({ keyOptions });
    expect(await echo((await dial(sshd)).duplex, 'restricted')).toBe('restricted');
    expect(existsSync(join(sshd.remoteHome, '.khlone'))).toBe(false);
  });

  it('says what a forced command that is something else answered', async () => {
    const sshd = await sshdWith({ keyOptions: 'restrict,command="echo only backups here"' });
    const error = await failure(dial(sshd));
    expect(error.code).toBe('remote-setup');
    expect(error.message).toContain('only backups here');
  });

  it('refuses a changed host key with the line that holds the old one and the way to remove it', async () => {
    const sshd = await sshdWith();
    await sshd.restartWithOtherKey();
    const error = await failure(dial(sshd, { asker: answering('yes') }));
    expect(error).toMatchObject({ code: 'host-key', exit: 5 });
    expect(error.message).toContain(`${sshd.knownHosts}:1`);
    expect(error.hint).toContain(`ssh-keygen -R '[127.0.0.1]:${sshd.port}'`);
    expect(sshd.log()).not.toContain('Accepted');
  });

  it('refuses an unknown host where nobody can be asked, even when the config would accept it', async () => {
    const sshd = await sshdWith();
    rmSync(sshd.knownHosts);
    appendConfig(sshd, ['Host *', '  StrictHostKeyChecking accept-new']);
    const error = await failure(dial(sshd));
    expect(error).toMatchObject({ code: 'host-key', exit: 5 });
    expect(error.hint).toContain('ssh zone, or khlone reconnect');
    expect(existsSync(sshd.knownHosts)).toBe(false);
  });

  it('asks once about an unknown host, shows the fingerprint and keeps the key where ssh finds it', async () => {
    const sshd = await sshdWith();
    rmSync(sshd.knownHosts);
    expect((await failure(dial(sshd, { asker: answering('no') }))).code).toBe('host-key');
    expect(existsSync(sshd.knownHosts)).toBe(false);

    const person = answering('yes');
    await dial(sshd, { asker: person });
    const shown = execFileSync('ssh-keygen', ['-lf', sshd.knownHosts], { encoding: 'utf8' }).split(' ')[1];
    expect(person.asked).toHaveLength(1);
    expect(person.asked[0]).toContain(shown);
    await dial(sshd);
    execFileSync('ssh', [
      '-F',
      sshd.sshConfig,
      '-o',
      'BatchMode=yes',
      '-o',
      'StrictHostKeyChecking=yes',
      'zone',
      'true',
    ]);
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
      cleanups.push(() => process.kill(pid));
      appendConfig(sshd, [
        'Host direct',
        '  HostName 127.0.0.1',
        `  Port ${sshd.port}`,
        `  IdentityFile ${key}`,
        `  UserKnownHostsFile ${sshd.knownHosts}`,
      ]);
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

  it('names a closed port and a name without an address', async () => {
    const sshd = await sshdWith();
    const port = await freePort();
    const refused = await failure(dial(sshd, { host: `127.0.0.1:${port}` }));
    expect(refused).toMatchObject({ code: 'unreachable', exit: 4 });
    expect(refused.message).toContain('refuses connections');
    const nowhere = await failure(dial(sshd, { host: 'nowhere.invalid' }));
    expect(nowhere.code).toBe('unreachable');
  });

  it('refuses host names that are options or shell words', async () => {
    const sshd = await sshdWith();
    const marker = join(sshd.clientHome, 'ran');
    for (const host of [
      `-oProxyCommand=touch ${marker}`,
      'a b',
      `x;touch ${marker}`,
      'a\nb',
      '$(id)',
      '-x@zone',
      'zone:99999',
      '',
    ])
      expect((await failure(dial(sshd, { host }))).code, host).toBe('config');
    expect(existsSync(marker)).toBe(false);
  });

  it('passes a jump host, each verified by its own key', async () => {
    const bastion = await sshdWith();
    const sshd = await sshdWith();
    appendConfig(sshd, [
      'Host bastion',
      `  HostName 127.0.0.1`,
      `  Port ${bastion.port}`,
      `  IdentityFile ${bastion.userKey}`,
      `  UserKnownHostsFile ${bastion.knownHosts}`,
      'Host inner',
      '  HostName 127.0.0.1',
      `  Port ${sshd.port}`,
      `  IdentityFile ${sshd.userKey}`,
      `  UserKnownHostsFile ${sshd.knownHosts}`,
      '  ProxyJump bastion',
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

  it('runs a ProxyCommand and shows what it said when it fails', async () => {
    const sshd = await sshdWith();
    const hop = [
      '  HostName 127.0.0.1',
      `  Port ${sshd.port}`,
      `  IdentityFile ${sshd.userKey}`,
      `  UserKnownHostsFile ${sshd.knownHosts}`,
    ];
    appendConfig(sshd, [
      'Host proxied',
      ...hop,
      '  ProxyCommand nc %h %p',
      'Host broken',
      ...hop,
      '  ProxyCommand echo no tunnel today >&2',
    ]);
    expect(await echo((await dial(sshd, { host: 'proxied' })).duplex, 'piped')).toBe('piped');
    const error = await failure(dial(sshd, { host: 'broken' }));
    expect(error.code).toBe('unreachable');
    expect(error.message).toContain('no tunnel today');
  });

  it('stops at once when the caller gives up', async () => {
    const sshd = await sshdWith({ bashrc: '/bin/sleep 20\n' });
    const giveUp = new AbortController();
    const work = dial(sshd, { signal: giveUp.signal });
    await expect.poll(() => sshd.log(), { timeout: 10_000 }).toContain('Accepted publickey');
    giveUp.abort(new KhloneError('interrupted', 'interrupted'));
    expect((await failure(work)).code).toBe('interrupted');
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
