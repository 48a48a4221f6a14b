import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  chooseBackend,
  forcedBackend,
  type HopFacts,
  opensshMayHelp,
} from '../../../src/client/link/choose-backend.ts';
import { keyTypeOf, parseIdentities } from '../../../src/client/link/openssh-agent.ts';
import { opensshFailure } from '../../../src/client/link/openssh-error.ts';
import { gatherFacts } from '../../../src/client/link/openssh-facts.ts';
import { resolveRoute } from '../../../src/client/link/ssh-config.ts';
import { momentOf } from '../../../src/client/link/ssh-error.ts';
import { sshdWith } from '../../fixtures/ssh-wire.ts';
import { clientEnv, sshdMissing } from '../../fixtures/sshd.ts';

const PLAIN: HopFacts = {
  host: 'devbox',
  ...{ certificates: [], keyTypes: ['ssh-ed25519'], gssapiTicket: false, hostBased: false },
  ...{ pkcs11Provider: undefined, knownHostsCommand: false, proxyUseFdpass: false },
  ...{ certAuthority: undefined, kexAlgorithms: ['sntrup761x25519-sha512@openssh.com', 'curve25519-sha256'] },
};
const choose = (facts: Partial<HopFacts>) => chooseBackend([{ ...PLAIN, ...facts }], undefined);

describe('the choice of an ssh backend', () => {
  it('is ssh2 for keys, for no keys at all, and for what a distribution turns on for everybody', () => {
    expect(choose({}).backend).toBe('ssh2');
    expect(choose({ keyTypes: [] }).backend).toBe('ssh2');
    expect(choose({ keyTypes: ['sk-ssh-ed25519@openssh.com', 'ssh-rsa'] }).backend).toBe('ssh2');
    expect(choose({ gssapiTicket: true }).backend).toBe('ssh2');
    expect(choose({ kexAlgorithms: [] }).backend).toBe('ssh2');
  });

  it.each<[string, Partial<HopFacts>]>([
    ['a certificate', { certificates: ['/home/ana/.ssh/id-cert.pub'] }],
    ['PKCS#11', { pkcs11Provider: '/usr/lib/opensc-pkcs11.so' }],
    ['host-based', { hostBased: true }],
    ['@cert-authority', { certAuthority: '/home/ana/.ssh/known_hosts:3' }],
    ['KnownHostsCommand', { knownHostsCommand: true }],
    ['ProxyUseFdpass', { proxyUseFdpass: true }],
    ['key exchange', { kexAlgorithms: ['mlkem768x25519-sha256', 'sntrup761x25519-sha512@openssh.com'] }],
    ['sk-ssh-ed25519@openssh.com', { keyTypes: ['sk-ssh-ed25519@openssh.com'] }],
    ['Kerberos', { keyTypes: [], gssapiTicket: true }],
  ])('is openssh, with its reason, where it takes %s', (why, facts) => {
    expect(choose(facts)).toEqual({ backend: 'openssh', why: expect.stringContaining(why) });
    // What the configuration forces wins over all of it.
    expect(chooseBackend([{ ...PLAIN, ...facts }], 'ssh2').backend).toBe('ssh2');
  });

  it('is made by whichever host of the way needs it, and names that host', () => {
    const bastion = { ...PLAIN, host: 'bastion', certificates: ['a'] };
    expect(chooseBackend([bastion, PLAIN], undefined)).toEqual({
      backend: 'openssh',
      why: 'bastion on the way: a certificate (a)',
    });
  });

  it('is tried anew with openssh only where that may get further', () => {
    expect(opensshMayHelp({ noCommonAlgorithm: true }, false)).toContain('algorithm');
    expect(opensshMayHelp({ accepts: ['publickey', 'gssapi-with-mic'] }, true)).toContain('Kerberos');
    expect(opensshMayHelp({ accepts: ['gssapi-with-mic'] }, false)).toBeUndefined();
    expect(opensshMayHelp({ accepts: ['publickey', 'password'] }, true)).toBeUndefined();
    expect(opensshMayHelp({}, true)).toBeUndefined();
  });

  it('follows the zone used last where two zones of a host force different ones, and any that forces at all', () => {
    expect(forcedBackend([{ usedMs: 9 }, { backend: 'ssh2', usedMs: 1 }, { usedMs: 8 }])).toBe('ssh2');
    const both = [
      { backend: 'ssh2', usedMs: 1 },
      { backend: 'openssh', usedMs: 2 },
    ] as const;
    expect(forcedBackend(both)).toBe('openssh');
    expect(forcedBackend([{ usedMs: 9 }])).toBeUndefined();
  });
});

const string = (text: string | Buffer): Buffer => {
  const bytes = Buffer.from(text);
  const length = Buffer.alloc(4);
  length.writeUInt32BE(bytes.length);
  return Buffer.concat([length, bytes]);
};
const keyBlob = (type: string): Buffer => Buffer.concat([string(type), string('body')]);

describe('what an agent says of its keys', () => {
  it('is read with certificates and hardware keys, and may be anything', () => {
    const types = ['ssh-ed25519-cert-v01@openssh.com', 'sk-ssh-ed25519@openssh.com', 'ssh-rsa'];
    const answer = Buffer.concat([
      Buffer.from([12, 0, 0, 0, types.length]),
      ...types.flatMap((type) => [string(keyBlob(type)), string(`label of ${type}`)]),
    ]);
    expect(parseIdentities(answer).map(({ type }) => type)).toEqual(types);
    expect(parseIdentities(answer.subarray(0, -3))).toHaveLength(2);
    fc.assert(
      fc.property(fc.uint8Array({ size: 'max', maxLength: 2000 }), (bytes) => {
        for (const { blob } of parseIdentities(Buffer.from(bytes))) keyTypeOf(blob);
      }),
    );
  });
});

describe.skipIf(sshdMissing)(`the facts of a host${sshdMissing ? ` (${sshdMissing})` : ''}`, () => {
  it('come from key files, the agent’s socket, known_hosts and ssh -G', async () => {
    const sshd = await sshdWith();
    const { clientHome, knownHosts } = sshd;
    const target = { host: 'zone', home: join(clientHome, 'khlone'), env: clientEnv(sshd) };
    const facts = async (more: string[] = []) => {
      writeFileSync(
        sshd.sshConfig,
        ['Host *', 'HostName 127.0.0.1', `UserKnownHostsFile ${knownHosts}`, ...more].join('\n'),
      );
      const signal = AbortSignal.timeout(20_000);
      const [only] = await gatherFacts(await resolveRoute('zone', target.env, signal), target);
      return only;
    };
    const hardware = join(clientHome, 'id_sk.pub');
    writeFileSync(
      hardware,
      `sk-ssh-ed25519@openssh.com ${keyBlob('sk-ssh-ed25519@openssh.com').toString('base64')} x\n`,
    );
    expect(await facts([`IdentityFile ${hardware}`])).toMatchObject({
      ...{
        host: 'zone',
        keyTypes: ['sk-ssh-ed25519@openssh.com'],
        certificates: [],
        certAuthority: undefined,
      },
      kexAlgorithms: expect.arrayContaining(['curve25519-sha256']),
    });
    expect(await facts([`IdentityFile ${sshd.userKey}`])).toMatchObject({ keyTypes: ['ssh-ed25519'] });
    writeFileSync(`${sshd.userKey}-cert.pub`, 'ssh-ed25519-cert-v01@openssh.com AAAA\n');
    writeFileSync(knownHosts, '@cert-authority *.org,127.0.0.* ssh-ed25519 AAAAC3Nz\n');
    expect(
      await facts([
        ...[`IdentityFile ${sshd.userKey}`, 'PKCS11Provider /no/such.so', 'HostbasedAuthentication yes'],
        ...['KexAlgorithms sntrup761x25519-sha512@openssh.com', 'GSSAPIAuthentication yes'],
      ]),
    ).toMatchObject({
      certificates: [`${sshd.userKey}-cert.pub`],
      certAuthority: `${knownHosts}:1`,
      ...{ pkcs11Provider: '/no/such.so', hostBased: true, gssapiTicket: false },
      kexAlgorithms: ['sntrup761x25519-sha512@openssh.com'],
    });
  });
});

describe('what ssh says when it fails', () => {
  const settings = { alias: 'box', hostname: 'box.example', port: 22 } as Parameters<typeof momentOf>[0];
  const failure = (said: string) => opensshFailure(said, momentOf(settings, 'login'));

  it.each([
    ['ssh: Could not resolve hostname box: Name or service not known', 'unreachable', 'has no address'],
    ['ssh: connect to host box port 22: Connection refused', 'unreachable', 'refuses connections'],
    ['ssh: connect to host box port 22: Connection timed out', 'unreachable', 'does not answer'],
    ['Connection timed out during banner exchange', 'unreachable', 'does not answer'],
    [
      'ssh: connect to host box port 22: No route to host',
      'unreachable',
      'cannot be reached from this network',
    ],
    ['ssh: connect to host box port 22: Network is unreachable', 'unreachable', 'from this network'],
    [
      'ssh: Could not resolve hostname box: Temporary failure in name resolution',
      'unreachable',
      'no name server',
    ],
    ['kex_exchange_identification: Connection closed by remote host', 'unreachable', 'Connection closed'],
    ['', 'unreachable', 'closed the connection'],
    [
      'Unable to negotiate with 1.2.3.4 port 22: no matching key exchange method found. Their offer: x',
      'unreachable',
      'no algorithm in common',
    ],
    ['ana@box: Permission denied (publickey,password).', 'ssh-auth', 'accepts publickey, password'],
    ['Received disconnect from 1.2.3.4 port 22:2: Too many authentication failures', 'ssh-auth', 'Too many'],
    [
      'sign_and_send_pubkey: signing failed for ED25519-SK "k": device not found\nana@box: Permission denied (publickey).',
      'ssh-auth',
      'device not found',
    ],
    [
      'No ED25519 host key is known for box and you have requested strict checking.\nHost key verification failed.',
      'host-key',
      'unknown',
    ],
    [
      '@ WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED! @\nOffending ED25519 key in /k:7\nHost key verification failed.',
      'host-key',
      '/k:7',
    ],
    ['@ WARNING: REVOKED HOST KEY DETECTED! @\nHost key verification failed.', 'host-key', 'revoked'],
    ['Certificate invalid: expired\nHost key verification failed.', 'host-key', 'not accepted'],
    ['/home/ana/.ssh/config: line 3: Bad configuration option: nonsense', 'config', 'nonsense'],
  ])('%s', (said, code, words) => {
    expect(failure(`${said}\r\n`)).toMatchObject({ code, message: expect.stringContaining(words) });
  });

  it('may be anything: the answer is one plain line', () => {
    const hostile = fc.string({ unit: 'binary', size: 'max', maxLength: 2000 });
    fc.assert(
      fc.property(
        hostile,
        fc.constantFrom('', 'Permission denied (', 'Offending key in '),
        (text, before) => {
          expect(failure(before + text).message).not.toMatch(/[\u0000-\u001f\u007f-\u009f]/);
        },
      ),
    );
  });
});
