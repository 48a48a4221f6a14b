import { execFile } from 'node:child_process';
import { chmodSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import * as fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { hashOf, sensitiveParts } from '../../src/client/sensitive.ts';
import { parseSiteConfig } from '../../src/client/site-config-parse.ts';
import {
  agree,
  describeChange,
  diffTrust,
  needsTrust,
  requireTrust,
  trustState,
} from '../../src/client/trust.ts';

const parse = (text: string) => parseSiteConfig(text, 'khlone.yml');
const keys = (text: string): string[] => sensitiveParts(parse(text)).map(({ key }) => key);
const REPO = { org: 'org', repo: 'repo', commonDir: '/home/me/repo/.git' };

describe('sensitiveParts', () => {
  it.each([
    ['zone: { mode: ssh, host: devbox }', 'zone.host', 'reach'],
    ['zone: { host: devbox }', 'zone.host', 'reach'],
    ['zone: { path: /srv/x }', 'zone.path', 'reach'],
    ['zone: { instance: { type: m6i.xlarge } }', 'zone.instance', 'spend'],
    ['zone: { mode: ec2 }', 'zone.instance', 'spend'],
    ['zone: { mode: ec2, constraints: { ttl: 900h } }', 'zone.constraints', 'spend'],
    ['instance: { type: m6i.xlarge }', 'zone.instance', 'spend'],
    ['supplies: [node@22]', 'supplies.node@22', 'run'],
    ['setup: [[npm, ci]]', 'setup.0', 'run'],
    ['repo: { origin: "git@host:a/b" }', 'repo.origin', 'reach'],
    ['repo: { deploy_key: ~/.ssh/id_rsa }', 'repo.deploy_key', 'read'],
    ['secrets: { A: env:AWS_SECRET }', 'secrets.A', 'read'],
    ['secrets: { A: "cmd:cat /etc/passwd" }', 'secrets.A', 'run'],
    ['hooks: { onStop: [ { prompt: p }, { run: [sh, x] } ] }', 'hooks.onStop.1', 'run'],
    ['crew: { brains: { x: { acp: [evil] } } }', 'crew.brains.x', 'run'],
    ['brains: { x: { command: [evil] } }', 'crew.brains.x', 'run'],
    ['crew: { limits: { max_clones: 9 } }', 'crew.limits', 'spend'],
    ['crew: { sandbox: off }', 'crew.sandbox', 'loosen'],
    ['zone: { mode: ssh, host: h }\nsync: { include: [config/.env] }', 'sync.include.config/.env', 'send'],
    ['zone: { mode: ssh, host: h }\nsync: { include: ["**/*"] }', 'sync.include.**/*', 'send'],
    ['zone: { mode: ssh, host: h }\nsync: { include: ["*nv"] }', 'sync.include.*nv', 'send'],
    ['zone: { mode: ssh, host: h }\nsync: { include: [".e*"] }', 'sync.include..e*', 'send'],
    ['zone: { mode: ssh, host: h }\nsync: { auto: true }', 'sync.auto', 'send'],
    // A zone that is elsewhere stays elsewhere, whatever a pulled file says of it.
    ['sync: { auto: true }', 'sync.auto', 'send'],
    ['sync: { include: [.env] }', 'sync.include..env', 'send'],
    ['sync: { max_file: 10001KB }', 'sync.max_file', 'send'],
    ['repo: { history: full }', 'repo.history', 'send'],
    ['zone: { mode: ssh, host: h }\nsync: { include: [conf] }', 'sync.include.conf', 'send'],
    ['zone: { mode: ssh, host: h }\nsync: { include: [x.example/] }', 'sync.include.x.example/', 'send'],
    ['zone: { mode: ssh, host: h }\nsync: { include: [.ssh/] }', 'sync.include..ssh/', 'send'],
  ])('names what this does: %s', (text, key, kind) => {
    const found = sensitiveParts(parse(text)).find((part) => part.key === key);
    expect(found?.kind).toBe(kind);
    expect(found?.says).toMatch(/\w{3}/u);
  });

  it('finds nothing in a configuration of words', () => {
    expect(
      keys(`crew: { hero: foreman, defaults: { brain: claude }, brains: { quick: claude:haiku }, limits: { max_clones: 2 } }
roles: { reviewer: { path: ./roles/reviewer } }
hooks: { onStop: [ { prompt: summary } ] }
sync: { auto: false, max_file: 1MB, include: [.env.example], exclude: [big] }
retention: { disk: 1GB }`),
    ).toEqual([]);
    expect(keys('zone: { mode: ssh, host: h }\nsync: { include: [.env.example, x/.env.dist] }')).toEqual([
      'zone.host',
    ]);
  });

  it('counts the content of an executable skill', () => {
    const skill = { name: 'deploy', path: '.agent/role=x/skills/deploy.sh', sha256: 'a'.repeat(64) };
    const before = sensitiveParts(parse(''), [skill]);
    const after = sensitiveParts(parse(''), [{ ...skill, sha256: 'b'.repeat(64) }]);
    expect(hashOf(before)).not.toBe(hashOf(after));
  });

  it('shows hostile words safely, and never hides the end of a long one', () => {
    const text = `setup: [["sh", "-c", "a\\e[2K\\u202E\\nb ${'x'.repeat(5000)}; rm -rf /"]]`;
    const [part] = sensitiveParts(parse(text));
    expect(part?.says).toMatch(/^[^\u0000-\u001F\u007F-\u009F\u202E]*$/u);
    expect(part?.says).toMatch(/and \d+ characters more/u);
  });

  it('has one hash for equal content, whatever its order', () => {
    const one = sensitiveParts(parse('secrets: { A: env:A, B: env:B }\nsetup: [[x]]'));
    const other = sensitiveParts(parse('setup: [[x]]\nsecrets: { B: env:B, A: env:A }'));
    expect(hashOf(one)).toBe(hashOf(other));
    expect(hashOf(one)).not.toBe(
      hashOf(sensitiveParts(parse('secrets: { A: env:B, B: env:A }\nsetup: [[x]]'))),
    );
  });
});

describe('trust', () => {
  let home = '';
  beforeEach(() => {
    home = mkdtempSync(join(tmpdir(), 'khlone-trust-'));
  });
  afterEach(() => rmSync(home, { recursive: true, force: true }));
  const place = () => ({ trust: join(home, 'trust.json') });

  const SETUP = parse('setup: [[npm, ci]]\nsecrets: { T: env:T }');

  it('holds only after a person agreed, and asks nothing of a harmless repository', async () => {
    expect((await trustState(place(), REPO, parse(''))).state).toBe('nothing-to-trust');
    expect((await trustState(place(), REPO, SETUP)).state).toBe('asks');
    await expect(requireTrust(place(), REPO, SETUP)).rejects.toMatchObject({
      code: 'not-trusted',
      exit: 3,
      hint: 'khlone trust',
      message:
        'khlone.yml wants what you have not agreed to: runs in the zone at setup: npm ci and 1 other thing',
    });
    await agree(place(), REPO, SETUP);
    expect((await trustState(place(), REPO, SETUP)).state).toBe('trusted');
    await requireTrust(place(), REPO, SETUP);
    expect(statSync(place().trust).mode & 0o777).toBe(0o600);
  });

  it('asks again for what was added or changed, and shows only that', async () => {
    await agree(place(), REPO, SETUP);
    const now = parse('setup: [[npm, ci, --force]]\nzone: { mode: ssh, host: evil }');
    const question = await needsTrust(place(), REPO, now);
    expect(question?.text).toBe(
      [
        'khlone.yml of org/repo changed since you agreed:',
        '  + works on the host evil over ssh  [zone.host]',
        '  - runs in the zone at setup: npm ci',
        '  + runs in the zone at setup: npm ci --force  [setup.0]',
        '  - reads T of your environment, and gives it to clones as T',
      ].join('\n'),
    );
    expect(question?.short).toBe('works on the host evil over ssh and 1 other thing');
    expect((await trustState(place(), REPO, parse('secrets: { T: env:T }'))).state).toBe('trusted');
  });

  it('does not carry over to another repository, nor to another place of the same one', async () => {
    await agree(place(), REPO, SETUP);
    for (const other of [
      { ...REPO, repo: 'other' },
      { ...REPO, org: 'evil' },
      { ...REPO, commonDir: '/tmp/clone/.git' },
      { org: 'org', repo: 'repo /home', commonDir: REPO.commonDir },
      { org: '__proto__', repo: 'x', commonDir: 'y' },
    ]) {
      expect((await trustState(place(), other, SETUP)).state).toBe('asks');
    }
  });

  it('forgets an older yes when a newer one is given', async () => {
    await agree(place(), REPO, SETUP);
    await agree(place(), REPO, parse('setup: [[npm, test]]'));
    expect((await trustState(place(), REPO, SETUP)).state).toBe('asks');
  });

  it('agrees to nothing when its file is damaged, and is refused when others can write to it', async () => {
    await agree(place(), REPO, SETUP);
    const whole = readFileSync(place().trust, 'utf8');
    for (const text of [
      '',
      '{',
      '[]',
      'null',
      '{"version":1}',
      whole.slice(0, -20),
      whole.replace('"version":1', '"version":2').replace('"version": 1', '"version": 2'),
    ]) {
      writeFileSync(place().trust, text);
      expect((await trustState(place(), REPO, SETUP)).state).toBe('asks');
    }
    writeFileSync(place().trust, '{"version":1,"agreements":{"x":{"items":{"a":1}},"y":null}}');
    await agree(place(), REPO, SETUP);
    expect((await trustState(place(), REPO, SETUP)).state).toBe('trusted');
    chmodSync(place().trust, 0o666);
    await expect(trustState(place(), REPO, SETUP)).rejects.toMatchObject({ code: 'denied' });
  });

  it('loses no yes when several processes agree at once, and leaves no litter', async () => {
    const source = join(import.meta.dirname, '../../src/client');
    const script = `
      import { agree } from ${JSON.stringify(join(source, 'trust.ts'))};
      import { parseSiteConfig } from ${JSON.stringify(join(source, 'site-config-parse.ts'))};
      const config = parseSiteConfig('setup: [[npm, ci]]', 'khlone.yml');
      const [trust, name] = process.argv.slice(1);
      await Promise.all([0, 1, 2, 3, 4].map((n) => agree({ trust }, { org: name, repo: String(n), commonDir: '/x' }, config)));
    `;
    const run = promisify(execFile);
    const args = (name: string) => ['--input-type=module', '-e', script, place().trust, name];
    await Promise.all(['a', 'b', 'c', 'd'].map((name) => run(process.execPath, args(name))));
    const config = parse('setup: [[npm, ci]]');
    for (const org of ['a', 'b', 'c', 'd']) {
      for (let n = 0; n < 5; n += 1) {
        const state = await trustState(place(), { org, repo: String(n), commonDir: '/x' }, config);
        expect(state.state).toBe('trusted');
      }
    }
    expect(readdirSync(home).filter((name) => !name.startsWith('trust.json'))).toEqual([]);
  });

  it('is trusted exactly when every part was agreed to, whatever the parts', () => {
    const part = fc.record({
      key: fc.constantFrom('a', 'b', 'c', '__proto__', 'constructor'),
      kind: fc.constant('run' as const),
      says: fc.string(),
      value: fc.constantFrom('1', '2'),
    });
    const parts = fc.uniqueArray(part, { selector: ({ key }) => key, maxLength: 5 });
    fc.assert(
      fc.property(parts, parts, (before, now) => {
        const agreed = Object.fromEntries(before.map(({ key, says, value }) => [key, { says, value }]));
        const change = diffTrust(agreed, now);
        const covered = now.every((one) =>
          before.some(({ key, value }) => key === one.key && value === one.value),
        );
        expect(change.added.length + change.changed.length === 0).toBe(covered);
        expect(describeChange(REPO, diffTrust(undefined, now)).split('\n').length).toBeGreaterThanOrEqual(
          now.length + 1,
        );
      }),
    );
  });
});
