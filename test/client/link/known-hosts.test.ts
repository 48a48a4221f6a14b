import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import {
  algorithmOrder,
  appendKnownHost,
  entryMatches,
  hashedName,
  judgeHostKey,
  knownHostName,
  parseKnownHosts,
  readKnownHosts,
  wildcardMatches,
} from '../../../src/client/link/known-hosts.ts';

let folder = '';
const keys: Record<string, string> = {};
const keyOf = (name: string) => keys[name] ?? '';
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'khlone-known-'));
  for (const [name, type] of [
    ['a', 'ed25519'],
    ['b', 'ed25519'],
    ['c', 'ecdsa'],
  ] as const) {
    execFileSync('ssh-keygen', ['-q', '-t', type, '-N', '', '-f', join(folder, name)]);
    keys[name] = readFileSync(join(folder, `${name}.pub`), 'utf8').split(' ')[1] ?? '';
  }
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const judge = (text: string, name: string, key: string) =>
  judgeHostKey(parseKnownHosts(text, 'file'), name, key);

describe('known_hosts', () => {
  it('knows a host by name, by port, by wildcard and by hash', () => {
    const line = (patterns: string) => `${patterns} ssh-ed25519 ${keyOf('a')} a comment`;
    expect(judge(line('box,10.0.0.1'), 'box', keyOf('a')).kind).toBe('known');
    expect(judge(line('[box]:2222'), knownHostName('Box', 2222), keyOf('a')).kind).toBe('known');
    expect(judge(line('[box]:2222'), 'box', keyOf('a')).kind).toBe('unknown');
    expect(judge(line('*.example.org'), 'zone.example.org', keyOf('a')).kind).toBe('known');
    expect(judge(line('*,!bad.org'), 'bad.org', keyOf('a')).kind).toBe('unknown');
    expect(judge(line(hashedName('box', randomBytes(20))), 'box', keyOf('a')).kind).toBe('known');
  });

  it('tells a changed key with its line, whatever its type', () => {
    const text = `# a comment\n\nbox ssh-ed25519 ${keyOf('a')}\n`;
    for (const other of ['b', 'c'])
      expect(judge(text, 'box', keyOf(other))).toMatchObject({
        kind: 'changed',
        at: { file: 'file', line: 3 },
      });
  });

  it('lets a revocation win and tells a certificate authority apart from a key', () => {
    const revoked = `box ssh-ed25519 ${keyOf('a')}\n@revoked * ssh-ed25519 ${keyOf('a')}`;
    expect(judge(revoked, 'box', keyOf('a'))).toMatchObject({ kind: 'revoked', at: { line: 2 } });
    const authority = `@cert-authority *.org ssh-ed25519 ${keyOf('a')}`;
    expect(judge(authority, 'box.org', keyOf('a'))).toMatchObject({
      kind: 'unknown',
      authority: { line: 1 },
    });
    expect(judge(`@strange box ssh-ed25519 ${keyOf('a')}`, 'box', keyOf('a'))).toEqual({
      kind: 'unknown',
      authority: undefined,
    });
  });

  it('offers the algorithms of known keys first', () => {
    const entries = parseKnownHosts(`box ssh-rsa AAAA\nother ssh-ed25519 ${keyOf('a')}`, 'file');
    const order = algorithmOrder(entries, 'box', ['ssh-ed25519', 'rsa-sha2-512', 'rsa-sha2-256']);
    expect(order).toEqual(['rsa-sha2-512', 'rsa-sha2-256', 'ssh-ed25519']);
  });

  it('agrees with ssh-keygen about any list of patterns', () => {
    const name = fc.stringMatching(/^[ab.]{1,5}$/);
    const pattern = fc
      .tuple(fc.constantFrom('', '!'), fc.stringMatching(/^[ab.*?]{1,5}$/))
      .map(([mark, text]) => mark + text);
    const path = join(folder, 'patterns');
    fc.assert(
      fc.property(fc.array(pattern, { minLength: 1, maxLength: 4 }), name, (patterns, host) => {
        const text = `${patterns.join(',')} ssh-ed25519 ${keyOf('a')}\n`;
        writeFileSync(path, text);
        let found = true;
        try {
          execFileSync('ssh-keygen', ['-F', host, '-f', path], { stdio: 'ignore' });
        } catch {
          found = false;
        }
        const [entry] = parseKnownHosts(text, path);
        expect(entry !== undefined && entryMatches(entry, host)).toBe(found);
      }),
      { numRuns: 150 },
    );
  });

  it('survives any text, and a pattern made to be slow', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary', size: 'max', maxLength: 3000 }), fc.string(), (text, host) => {
        judgeHostKey(
          parseKnownHosts(`${text}\nx ${text} ${text}\n@revoked ${text}`, 'file'),
          host,
          keyOf('a'),
        );
      }),
    );
    const startedMs = performance.now();
    expect(wildcardMatches(`${'a*'.repeat(200)}b`, 'a'.repeat(20_000))).toBe(false);
    expect(performance.now() - startedMs).toBeLessThan(2000);
  });

  it('appends what ssh-keygen finds, private to its owner, on a line of its own', async () => {
    const file = join(folder, 'new', 'known_hosts');
    await appendKnownHost(file, '[box]:2222', keyOf('a'));
    expect(statSync(file).mode & 0o777).toBe(0o600);
    writeFileSync(file, readFileSync(file, 'utf8').trimEnd());
    await appendKnownHost(file, hashedName('hidden', randomBytes(20)), keyOf('c'));
    for (const host of ['[box]:2222', 'hidden'])
      execFileSync('ssh-keygen', ['-F', host, '-f', file], { stdio: 'ignore' });
    const entries = await readKnownHosts([file, join(folder, 'absent')]);
    expect(judgeHostKey(entries, 'hidden', keyOf('c')).kind).toBe('known');
    expect(entries.map((entry) => entry.type)).toEqual(['ssh-ed25519', 'ecdsa-sha2-nistp256']);
  });
});
