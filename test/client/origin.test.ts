import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { addressBranch, addressPart, formatAddress, parseOrigin } from '../../src/client/origin.ts';
import { parseZone } from '../../src/protocol/address.ts';

describe('parseOrigin', () => {
  it.each([
    ['git@github.com:org/repo.git', 'org/repo'],
    ['github.com:org/repo', 'org/repo'],
    ['git@github.com:/org/repo.git/', 'org/repo'],
    ['ssh://git@github.com/org/repo.git', 'org/repo'],
    ['ssh://git@host:7999/group/sub/repo.git', 'group/sub/repo'],
    ['ssh://[::1]:22/org/repo', 'org/repo'],
    ['[::1]:org/repo.git', 'org/repo'],
    ['https://user:pa:ss@w@gitlab.com/group/sub/repo.git', 'group/sub/repo'],
    ['HTTPS://GitHub.com/Org/Repo', 'Org/Repo'],
    ['https://github.com/org/.github', 'org/.github'],
    ['https://host/org/repo.git?x=1#y', 'org/repo'],
    ['git://host/~user/repo', 'host/repo'],
    ['https://gist.github.com/0123abc.git', 'gist.github.com/0123abc'],
    ['file:///srv/git/repo.git', 'local/repo'],
    ['/srv/git/repo.git', 'local/repo'],
    ['../other/repo/.git', 'local/repo'],
    ['C/with:colon/repo', 'local/repo'],
  ])('reads %s as %s', (url, address) => {
    const origin = parseOrigin(url);
    expect(origin && `${origin.org}/${origin.repo}`).toBe(address);
  });

  it('answers nothing for a url that names nothing', () => {
    for (const url of ['', '/', '..', 'https://host', 'https://host/', 'git@host:', 'file:///']) {
      expect(parseOrigin(url)).toBeUndefined();
    }
  });

  it('gives an address that the grammar takes, whatever the url and the branch', () => {
    const word = fc.oneof(
      fc.constantFrom(
        'https://',
        '@',
        ':',
        '/',
        '.git',
        '..',
        '%2f',
        '%00',
        '\u001b[2J',
        '\n',
        '-',
        '/./',
        '.lock',
        'x',
      ),
      fc.string(),
      fc.string({ unit: 'binary' }),
    );
    const words = fc.array(word, { size: 'max', maxLength: 40 }).map((pieces) => pieces.join(''));
    fc.assert(
      fc.property(words, words, (url, name) => {
        const origin = parseOrigin(url);
        if (!origin) return;
        const branch = addressBranch(name);
        expect(parseZone(formatAddress(origin, branch))).toEqual({ ...origin, branch });
      }),
      { numRuns: 2000 },
    );
  });
});

describe('address parts', () => {
  it('keeps hostile names apart from each other and from honest ones', () => {
    const names = ['a b', 'a\tb', 'a_b', 'a\u001bb', '', '..', '-x'];
    expect(new Set(names.map(addressPart)).size).toBe(names.length);
    expect(addressPart('a_b')).toBe('a_b');
  });

  it('takes ordinary branch names as they are', () => {
    for (const name of [
      'main',
      'feat/auth',
      'release-1.2',
      'dependabot/npm/@types/node-1',
      'größe',
      'x#12',
    ]) {
      expect(addressBranch(name)).toBe(name);
    }
    expect(addressBranch('a\u202Eb c')).toMatch(/^a_b_c-[0-9a-f]{8}$/u);
  });
});
