import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { fitsHost, parseProbe, usableNode } from '../../src/provision/probe.ts';
import { oneLine, shCommand } from '../../src/provision/remote-shell.ts';

describe('what a host says about itself', () => {
  it('is read line by line, and the newest Node that is new enough is taken', () => {
    const probe = parseProbe(
      [
        'uname Linux x86_64',
        'libc glibc 2.36',
        'has gzip',
        'node /usr/bin/nodev20.20.2',
        'node /home/a b/.nvm/versions/node/v24.9.0/bin/nodev24.9.0',
        'node /opt/node-v24/bin/nodev24.10.0',
        'node ',
        'node relative/nodev24.1.0',
        'node /tmp/$(reboot)/nodev99.0.0',
        'something else',
      ].join('\n'),
    );
    expect(probe).toMatchObject({ os: 'Linux', machine: 'x86_64', libc: 'glibc', gzip: true });
    expect(probe.nodes).toHaveLength(3);
    expect(usableNode(probe)).toEqual({ path: '/opt/node-v24/bin/node', version: '24.10.0' });
    expect(fitsHost(probe, { platform: 'linux', arch: 'x64' })).toBe(true);
    expect(fitsHost(probe, { platform: 'linux', arch: 'arm64' })).toBe(false);
    expect(fitsHost(probe, { platform: 'darwin', arch: 'x64' })).toBe(false);
  });

  it('may be anything', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary', size: 'max', maxLength: 2000 }), (text) => {
        for (const node of parseProbe(`node ${text}\nuname ${text}\nlibc ${text}`).nodes)
          expect(node.path).toMatch(/^\/[A-Za-z0-9/._+@ -]+$/);
      }),
    );
  });

  it('is shown as one line that cannot drive a terminal', () => {
    fc.assert(
      fc.property(fc.uint8Array({ size: 'max', maxLength: 2000 }), (bytes) => {
        const shown = oneLine(bytes, 100);
        expect(shown.length).toBeLessThanOrEqual(101);
        expect(shown).not.toMatch(/[\u0000-\u001f\u007f-\u009f\u202a-\u202e]/);
      }),
    );
    expect(oneLine('\x1b[31mred\x1b[0m\r\n\ttext\x07')).toBe('red text?');
  });
});

describe('a script for an unknown login shell', () => {
  it('is refused when some shell would read it otherwise', () => {
    for (const script of ["it's", 'a!b', 'a\\b', 'a\nb', 'é', '', 'x'.repeat(4000)])
      expect(() => shCommand(script), script).toThrow();
  });
});
