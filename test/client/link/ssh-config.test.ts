import { writeFileSync } from 'node:fs';
import { userInfo } from 'node:os';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { expandTokens, parseHostWord, parseSshG, resolveRoute } from '../../../src/client/link/ssh-config.ts';
import { clientEnv, createSshd, sshdMissing } from '../../fixtures/sshd.ts';

describe('a host as a person writes it', () => {
  it('is split into user, host and port', () => {
    expect(parseHostWord('devbox')).toEqual({ host: 'devbox' });
    expect(parseHostWord('ana@devbox:2222')).toEqual({ user: 'ana', host: 'devbox', port: 2222 });
    expect(parseHostWord('ssh://ana@10.0.0.1:22/')).toEqual({ user: 'ana', host: '10.0.0.1', port: 22 });
    expect(parseHostWord('[fe80::1%eth0]:22')).toEqual({ host: 'fe80::1%eth0', port: 22 });
    expect(parseHostWord('a@b.org@host')).toEqual({ user: 'a@b.org', host: 'host' });
  });

  it('never yields an option or a word with a meaning for a shell', () => {
    const odd = fc.string({ unit: fc.constantFrom(...'ab-@:[]%;|&$`"\'\\<>(){}* \n\t~!#'), maxLength: 12 });
    fc.assert(
      fc.property(odd, (text) => {
        try {
          const { host, user = 'u' } = parseHostWord(text);
          for (const word of [host, user]) expect(word).not.toMatch(/^-|[\s;|&`"'\\<>(){}*~!#]/);
        } catch (error) {
          expect(error).toMatchObject({ code: 'config' });
        }
      }),
      { numRuns: 5000 },
    );
  });
});

describe('what ssh -G says', () => {
  it('is read with the defaults of ssh', () => {
    const settings = parseSshG(
      'box',
      [
        'hostname box.example.org',
        'port 2222',
        'user ana',
        'identityfile ~/.ssh/id_%h',
        'identityfile "/keys/with space"',
        'identityfile none',
        'identityagent SSH_AUTH_SOCK',
        'identitiesonly yes',
        'userknownhostsfile /a/known "/b c/known"',
        'globalknownhostsfile /dev/null',
        'proxyjump ana@one:2222,two',
        'proxycommand none',
        'nonsense',
      ].join('\n'),
    );
    expect(settings).toMatchObject({
      ...{ alias: 'box', hostname: 'box.example.org', port: 2222, user: 'ana', identitiesOnly: true },
      identityFiles: [`${userInfo().homedir}/.ssh/id_box.example.org`, '/keys/with space'],
      userKnownHosts: ['/a/known', '/b c/known'],
      ...{ proxyJump: ['ana@one:2222', 'two'], proxyCommand: undefined, hostKeyAlias: undefined },
    });
    expect(expandTokens('nc %h %p %r %n %%', settings)).toBe('nc box.example.org 2222 ana box %');
  });

  it('may be anything', () => {
    fc.assert(
      fc.property(
        fc.string({ unit: 'binary', size: 'max', maxLength: 2000 }),
        (text) => void parseSshG('box', text),
      ),
    );
  });

  it.skipIf(sshdMissing)(
    'gives the hosts to pass in order, and refuses a way that leads nowhere',
    async () => {
      const sshd = await createSshd();
      try {
        const routeOf = async (config: string[], host: string) => {
          writeFileSync(sshd.sshConfig, `${config.join('\n')}\n`);
          const route = await resolveRoute(host, clientEnv(sshd), AbortSignal.timeout(20_000));
          return route.map((hop) => hop.hostname);
        };
        expect(
          await routeOf(
            ['Host d', 'ProxyJump b,c', 'Host b', 'ProxyJump a', 'Host c', 'ProxyJump never'],
            'd',
          ),
        ).toEqual(['a', 'b', 'c', 'd']);
        await expect(routeOf(['Host *', 'ProxyJump bastion'], 'd')).rejects.toMatchObject({ code: 'config' });
        await expect(routeOf(['Host a', 'ProxyJump b', 'Host b', 'ProxyJump a'], 'a')).rejects.toMatchObject({
          code: 'config',
          message: 'more than 8 jumps to a',
        });
        const row = Array.from({ length: 8 }, (_, n) => [`Host h${n}`, `ProxyJump h${n + 1}`]).flat();
        expect(await routeOf(row, 'h1')).toHaveLength(8);
        await expect(routeOf(row, 'h0')).rejects.toMatchObject({ message: 'more than 8 jumps to h0' });
        await expect(routeOf(['Host evil', 'HostName -oProxyCommand=x'], 'evil')).rejects.toMatchObject({
          code: 'config',
        });
        await expect(routeOf(['Nonsense yes'], 'a')).rejects.toMatchObject({
          code: 'config',
          message: expect.stringContaining('onsense'),
        });
      } finally {
        await sshd.stop();
      }
    },
  );
});
