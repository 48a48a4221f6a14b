import { execFileSync } from 'node:child_process';
import { chmodSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type ssh2 from 'ssh2';
import { describe, expect, it } from 'vitest';
import { openOpensshWire } from '../../../src/client/link/openssh.ts';
import { createSshDial } from '../../../src/client/link/ssh-dial.ts';
import { openSshWire } from '../../../src/client/link/ssh2.ts';
import { oddSshd } from '../../fixtures/odd-sshd.ts';
import {
  afterwards,
  answering,
  appendConfig,
  clientProcesses,
  dialBy,
  echo,
  failure,
  hostLines,
  makeAuthority,
  noClientProcesses,
  RELAY_ONLY,
  sshdWith,
} from '../../fixtures/ssh-wire.ts';
import { type Sshd, type SshdOptions, sshdMissing } from '../../fixtures/sshd.ts';

/** Hosts that only one backend reaches, or both, and how the choice falls. */

const missing = sshdMissing ? ` (${sshdMissing})` : '';
const authorized = (sshd: Sshd) => join(sshd.remoteHome, '../authorized_keys');
const folder = (): string => {
  const path = mkdtempSync(join(tmpdir(), 'khlone-ca-'));
  afterwards(() => rmSync(path, { recursive: true, force: true }));
  return path;
};

describe.skipIf(sshdMissing)(`a host that needs openssh${missing}`, () => {
  it('is found by a user’s certificate, which is all that it takes', async () => {
    const clientHome = folder();
    const authority = makeAuthority({ clientHome }, 'ca');
    const sshd = await sshdWith({ config: [...RELAY_ONLY, `TrustedUserCAKeys ${authority}.pub`] });
    rmSync(authorized(sshd));
    expect((await failure(dialBy(openSshWire, sshd))).code).toBe('ssh-auth');
    const user = execFileSync('whoami', { encoding: 'utf8' }).trim();
    execFileSync('ssh-keygen', ['-q', '-s', authority, '-I', 'ana', '-n', user, `${sshd.userKey}.pub`]);
    const dial = createSshDial(() => undefined);
    expect(dial.choice()).toBeUndefined();
    expect(await echo((await dialBy(dial.open, sshd)).duplex, 'signed')).toBe('signed');
    expect(dial.choice()).toEqual({ backend: 'openssh', why: `a certificate (${sshd.userKey}-cert.pub)` });
    expect(sshd.log()).toContain('ED25519-CERT');
  });

  it('is found by a certificate in the agent', async () => {
    const clientHome = folder();
    const authority = makeAuthority({ clientHome }, 'ca');
    const sshd = await sshdWith({ config: [...RELAY_ONLY, `TrustedUserCAKeys ${authority}.pub`] });
    rmSync(authorized(sshd));
    const user = execFileSync('whoami', { encoding: 'utf8' }).trim();
    execFileSync('ssh-keygen', ['-q', '-s', authority, '-I', 'ana', '-n', user, `${sshd.userKey}.pub`]);
    const socket = join(sshd.clientHome, 'agent.sock');
    const agent = execFileSync('ssh-agent', ['-a', socket], { encoding: 'utf8' });
    afterwards(() => process.kill(Number(agent.match(/SSH_AGENT_PID=(\d+)/)?.[1])));
    execFileSync('ssh-add', ['-q', sshd.userKey], { env: { ...process.env, SSH_AUTH_SOCK: socket } });
    for (const file of ['', '.pub', '-cert.pub']) rmSync(`${sshd.userKey}${file}`);
    const dial = createSshDial(() => undefined);
    const { duplex } = await dialBy(dial.open, sshd, { env: { SSH_AUTH_SOCK: socket } });
    expect(await echo(duplex, 'lent')).toBe('lent');
    expect(dial.choice()?.why).toContain('in the agent');
  });

  it('is verified by its own certificate, and refused when another authority signed it', async () => {
    const clientHome = folder();
    const [authority, stranger] = [
      makeAuthority({ clientHome }, 'ca'),
      makeAuthority({ clientHome }, 'other'),
    ];
    const hostKey = join(clientHome, 'host');
    execFileSync('ssh-keygen', ['-q', '-t', 'ecdsa', '-N', '', '-f', hostKey]);
    execFileSync('ssh-keygen', ['-q', '-h', '-s', authority, '-I', 'h', '-n', '127.0.0.1', `${hostKey}.pub`]);
    const sshd = await sshdWith({
      config: [...RELAY_ONLY, `HostKey ${hostKey}`, `HostCertificate ${hostKey}-cert.pub`],
    });
    const known = (key: string) =>
      writeFileSync(
        sshd.knownHosts,
        `@cert-authority [127.0.0.1]:${sshd.port} ${readFileSync(`${key}.pub`)}`,
      );
    known(authority);
    const dial = createSshDial(() => undefined);
    expect(await echo((await dialBy(dial.open, sshd)).duplex, 'vouched')).toBe('vouched');
    expect(dial.choice()?.why).toContain(`${sshd.knownHosts}:1`);
    known(stranger);
    expect((await failure(dialBy(dial.open, sshd))).code).toBe('host-key');
  });

  it('is noticed when ssh2 fails to agree with it, at once and for as long as the hub lives', async () => {
    const sshd = await sshdWith({
      config: [...RELAY_ONLY, 'KexAlgorithms sntrup761x25519-sha512@openssh.com'],
    });
    const refused = () => sshd.log().match(/Unable to negotiate/g)?.length ?? 0;
    const alone = await failure(dialBy(createSshDial(() => 'ssh2').open, sshd));
    expect(alone).toMatchObject({ code: 'unreachable', hint: expect.stringContaining('openssh') });
    const dial = createSshDial(() => undefined);
    for (const round of ['first', 'second'])
      expect(await echo((await dialBy(dial.open, sshd)).duplex, round)).toBe(round);
    expect(dial.choice()).toEqual({
      backend: 'openssh',
      why: 'ssh2 and the host have no algorithm in common',
    });
    expect(refused()).toBe(2);
  });

  it('is told from the config alone where that allows post-quantum key exchange only', async () => {
    const sshd = await sshdWith({ config: RELAY_ONLY });
    appendConfig(sshd, ['Host *', '  KexAlgorithms sntrup761x25519-sha512@openssh.com']);
    const dial = createSshDial(() => undefined);
    expect(await echo((await dialBy(dial.open, sshd)).duplex, 'quantum')).toBe('quantum');
    expect(dial.choice()?.backend).toBe('openssh');
  });

  it('is dialled as the configuration forces it', async () => {
    const sshd = await sshdWith({ config: RELAY_ONLY });
    for (const backend of ['ssh2', 'openssh'] as const) {
      const dial = createSshDial(() => backend);
      expect(await echo((await dialBy(dial.open, sshd)).duplex, backend)).toBe(backend);
      expect(dial.choice()).toEqual({ backend, why: `zone.backend is ${backend}` });
      expect(clientProcesses(sshd)).toHaveLength(backend === 'openssh' ? 1 : 0);
    }
  });
});

describe.skipIf(sshdMissing)(`a way over other hosts${missing}`, () => {
  for (const [name, open] of [
    ['ssh2', openSshWire],
    ['openssh', openOpensshWire],
  ] as const) {
    it(`leads over two jump hosts, each with its own key and host key, by ${name}`, async () => {
      const options: SshdOptions = { config: RELAY_ONLY };
      const [a, b, sshd] = [await sshdWith(options), await sshdWith(options), await sshdWith(options)];
      const ran = join(sshd.clientHome, 'ran');
      appendConfig(sshd, [
        ...hostLines('a', a, [
          'ControlMaster auto',
          `ControlPath ${ran}`,
          'ControlPersist 60',
          'RemoteCommand echo mine',
        ]),
        ...hostLines('b', b),
        ...hostLines('inner', sshd, ['ProxyJump a,b']),
        ...hostLines('chained', b, ['ProxyJump a']),
        ...hostLines('innermost', sshd, ['ProxyJump chained']),
      ]);
      for (const host of ['inner', 'innermost'])
        expect(await echo((await dialBy(open, sshd, { host })).duplex, host)).toBe(host);
      for (const hop of [a, b]) expect(hop.log()).toContain('Accepted publickey');
      expect(existsSync(ran)).toBe(false);

      await b.restartWithOtherKey();
      const error = await failure(dialBy(open, sshd, { host: 'inner' }));
      expect(error).toMatchObject({ code: 'host-key', exit: 5 });
    });

    it(`asks nobody about an unknown jump host, whatever the config says, by ${name}`, async () => {
      const [a, sshd] = [await sshdWith(), await sshdWith({ config: RELAY_ONLY })];
      rmSync(a.knownHosts);
      appendConfig(sshd, [
        ...hostLines('a', a, ['StrictHostKeyChecking no']),
        ...hostLines('inner', sshd, ['ProxyJump a']),
      ]);
      expect((await failure(dialBy(open, sshd, { host: 'inner' }))).code).toBe('host-key');
      expect(a.log()).not.toContain('Accepted');
      const person = answering('yes');
      const { duplex } = await dialBy(open, sshd, { host: 'inner', asker: person });
      expect(await echo(duplex, 'known now')).toBe('known now');
      expect(person.asked).toHaveLength(1);
    });

    it(`leads through a ProxyCommand, whose words are shown when it fails, by ${name}`, async () => {
      const sshd = await sshdWith({ config: RELAY_ONLY });
      appendConfig(sshd, [
        ...hostLines('proxied', sshd, ['ProxyCommand nc %h %p']),
        ...hostLines('broken', sshd, ['ProxyCommand sh -c "echo no tunnel today >&2; exit 1"']),
      ]);
      const wire = await dialBy(open, sshd, { host: 'proxied' });
      expect(await echo(wire.duplex, 'piped')).toBe('piped');
      wire.close();
      const error = await failure(dialBy(open, sshd, { host: 'broken' }));
      expect(error.code).toBe('unreachable');
      expect(error.message).toContain('no tunnel today');
      await noClientProcesses(sshd);
    });
  }
});

describe.skipIf(sshdMissing)(`a host that refuses ssh2’s login${missing}`, () => {
  it('is tried by openssh where it takes Kerberos and a ticket is there, and only then', async () => {
    const sshd = await sshdWith();
    // ssh2's types do not know this way to log in.
    const accepts = ['gssapi-with-mic', 'publickey'] as unknown as ssh2.AuthenticationType[];
    await oddSshd(sshd, (context) => context.reject(accepts));
    const bin = join(sshd.clientHome, 'klist-bin');
    mkdirSync(bin);
    const env = { PATH: `${bin}:${join(sshd.clientHome, 'bin')}:/usr/bin:/bin` };
    const refusedBy = async (gssapi: 'yes' | 'no', ticket: boolean) => {
      writeFileSync(join(bin, 'klist'), `#!/bin/sh\nexit ${ticket ? 0 : 1}\n`, { mode: 0o755 });
      const text = readFileSync(sshd.sshConfig, 'utf8').replace(/^GSSAPI.*\n/m, '');
      writeFileSync(sshd.sshConfig, `GSSAPIAuthentication ${gssapi}\n${text}`);
      const dial = createSshDial(() => undefined);
      const error = await failure(dialBy(dial.open, sshd, { host: 'odd', env }));
      expect(error.code).toBe('ssh-auth');
      return dial.choice();
    };
    expect(await refusedBy('yes', true)).toEqual({
      backend: 'openssh',
      why: 'the host takes a Kerberos ticket',
    });
    expect((await refusedBy('yes', false))?.backend).toBe('ssh2');
    expect((await refusedBy('no', true))?.backend).toBe('ssh2');
  });
});

describe.skipIf(sshdMissing)(`what openssh asks a person${missing}`, () => {
  it('is a password, hidden, again after a wrong one, and once for a whole first set-up', async () => {
    const sshd = await sshdWith();
    await oddSshd(sshd, (context) => {
      if (context.method === 'password' && context.password === 'right') context.accept();
      else context.reject(['password']);
    });
    const alone = await failure(dialBy(openOpensshWire, sshd, { host: 'odd' }));
    expect(alone).toMatchObject({ code: 'ssh-auth', message: expect.stringContaining('accepts password') });
    const person = answering('wrong', 'right');
    const { duplex } = await dialBy(openOpensshWire, sshd, { host: 'odd', asker: person });
    expect(await echo(duplex, 'let in')).toBe('let in');
    expect(person.asked).toHaveLength(2);
    expect(person.asked[0]).toMatch(/password: $/);
    expect(person.secret).toEqual([true, true]);
    const stubborn = answering('no', 'no', 'no', 'no');
    expect((await failure(dialBy(openOpensshWire, sshd, { host: 'odd', asker: stubborn }))).code).toBe(
      'ssh-auth',
    );
    expect(stubborn.asked).toHaveLength(3);
  });

  it('is a second factor, each time anew, without what would drive the terminal', async () => {
    const sshd = await sshdWith();
    await oddSshd(sshd, (context) => {
      if (context.method !== 'keyboard-interactive') return context.reject(['keyboard-interactive']);
      context.prompt([{ prompt: 'Your \x1b[2Jcode: ', echo: true }], 'Two steps', ([code]) =>
        code === '123456' ? context.accept() : context.reject(),
      );
    });
    const codes = Array.from({ length: 9 }, () => '123456');
    const person = answering(...codes);
    await dialBy(openOpensshWire, sshd, { host: 'odd', asker: person });
    expect(person.asked.length).toBeGreaterThan(1);
    expect(person.asked.join('')).toContain('code: ');
    expect(person.asked.join('')).not.toContain('\x1b');
  });

  it('is nothing where nobody is there: a key that waits for a yes ends the dial, once and for all', async () => {
    const sshd = await sshdWith({ config: RELAY_ONLY });
    const asks = join(sshd.clientHome, 'asks');
    writeFileSync(asks, '#!/bin/sh\nexec sleep 12\n', { mode: 0o755 });
    const socket = join(sshd.clientHome, 'agent.sock');
    const surroundings = { ...process.env, SSH_ASKPASS: asks, DISPLAY: 'none', SSH_AUTH_SOCK: socket };
    const agent = execFileSync('ssh-agent', ['-a', socket], { encoding: 'utf8', env: surroundings });
    afterwards(() => process.kill(Number(agent.match(/SSH_AGENT_PID=(\d+)/)?.[1])));
    execFileSync('ssh-add', ['-q', '-c', sshd.userKey], { env: surroundings });
    rmSync(sshd.userKey);
    const error = await failure(dialBy(openOpensshWire, sshd, { env: { SSH_AUTH_SOCK: socket } }));
    expect(error).toMatchObject({ code: 'ssh-auth', hint: expect.stringContaining('reconnect') });
    await noClientProcesses(sshd);
  });

  it('is told of a key that waits for a touch, while nothing is asked', async () => {
    // No hardware here: an ssh of ours tells as the real one does, then goes on as it.
    const sshd = await sshdWith({ config: RELAY_ONLY });
    const bin = join(sshd.clientHome, 'touch');
    mkdirSync(bin);
    const text =
      '#!/bin/sh\ncase "$*" in *-G*) ;; *) SSH_ASKPASS_PROMPT=none "$SSH_ASKPASS" "Confirm user presence for key X" & ' +
      `p=$!; i=0; while [ ! -e ${bin}/seen ] && [ $i -lt 100 ]; do sleep 0.1; i=$((i+1)); done; kill $p;; esac\n` +
      `exec ${join(sshd.clientHome, 'bin/ssh')} "$@"\n`;
    writeFileSync(join(bin, 'ssh'), text);
    chmodSync(join(bin, 'ssh'), 0o755);
    const notices: string[] = [];
    const person = answering();
    const { duplex } = await dialBy(openOpensshWire, sshd, {
      env: { PATH: `${bin}:/usr/bin:/bin` },
      asker: person,
      notice: (line) => {
        notices.push(line);
        writeFileSync(join(bin, 'seen'), '');
      },
    });
    expect(await echo(duplex, 'touched')).toBe('touched');
    expect(notices[0]).toBe('Confirm user presence for key X');
    expect(person.asked).toEqual([]);
  });
});
