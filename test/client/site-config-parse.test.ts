import { describe, expect, it } from 'vitest';
import { DEFAULT_SITE_CONFIG } from '../../src/client/site-config.ts';
import { parse, refusal } from './khlone-yml.ts';

const EXAMPLE = `
zone:
  mode: ssh                    # local | ssh | ec2 | remote
  host: devbox
  path: ~/zones/{org}/{repo}/{branch}
  backend: auto
  instance: { type: m6i.xlarge, region: us-east-1, ami: ami-0123, disk: 60, market: on-demand }
  constraints: { ttl: 4h, idle: 30m, on_end: halt, cost_limit: 50, on_limit: alert }
supplies: [node@22, pnpm@9, aws-cli, gh]
setup: [[npm, ci]]
repo: { origin: git@github.com:myorg/myrepo.git, deploy_key: ~/.ssh/deploy_myrepo, history: branch }
crew:
  clone.0: { role: foreman, brain: claude }
  defaults: { brain: claude }
  limits: { max_clones: 8, max_queue: 100 }
  permissions: free
  sandbox: zone
  isolation: shared
  brains: { claude: claude, quick: claude:haiku, gpt: codex, other: { acp: [my-agent, --acp] }, tool: { command: [my-tool, --json] } }
roles: { mechanic: ehmpathy/mechanic, reviewer: { path: ./roles/reviewer, brain: codex } }
hooks: { onStop: [ { prompt: "1-line summary", artifact: summary }, { run: [npm, test], artifact: tests } ] }
sync: { auto: false, max_file: 10MB, include: [.env.example], exclude: ["*.mp4"] }
secrets: { ANTHROPIC_API_KEY: env:ANTHROPIC_API_KEY, GH_TOKEN: "cmd:gh auth token" }
retention: { transcripts: 90d, disk: 5GB }
`;

describe('parseSiteConfig', () => {
  it('reads the whole example', () => {
    expect(parse(EXAMPLE)).toEqual({
      zone: {
        mode: 'ssh',
        modeGiven: true,
        host: 'devbox',
        path: '~/zones/{org}/{repo}/{branch}',
        backend: 'auto',
        instance: {
          type: 'm6i.xlarge',
          region: 'us-east-1',
          ami: 'ami-0123',
          diskGb: 60,
          market: 'on-demand',
        },
        constraints: {
          ttlMs: 14_400_000,
          idleMs: 1_800_000,
          onEnd: 'halt',
          costLimitUsd: 50,
          onLimit: 'alert',
        },
      },
      supplies: ['node@22', 'pnpm@9', 'aws-cli', 'gh'],
      setup: [['npm', 'ci']],
      repo: {
        origin: 'git@github.com:myorg/myrepo.git',
        deployKey: '~/.ssh/deploy_myrepo',
        history: 'branch',
      },
      crew: {
        hero: { role: 'foreman', brain: 'claude' },
        defaults: { brain: 'claude' },
        limits: { maxClones: 8, maxQueue: 100 },
        permissions: 'free',
        sandbox: 'zone',
        isolation: 'shared',
        brains: {
          claude: 'claude',
          quick: 'claude:haiku',
          gpt: 'codex',
          other: { acp: ['my-agent', '--acp'] },
          tool: { command: ['my-tool', '--json'] },
        },
      },
      roles: { mechanic: 'ehmpathy/mechanic', reviewer: { path: './roles/reviewer', brain: 'codex' } },
      hooks: {
        onStop: [
          { prompt: '1-line summary', artifact: 'summary' },
          { run: ['npm', 'test'], artifact: 'tests' },
        ],
      },
      sync: {
        auto: false,
        autoGiven: true,
        maxFileBytes: 10_000_000,
        include: ['.env.example'],
        exclude: ['*.mp4'],
      },
      secrets: { ANTHROPIC_API_KEY: 'env:ANTHROPIC_API_KEY', GH_TOKEN: 'cmd:gh auth token' },
      retention: { transcriptsMs: 90 * 86_400_000, diskBytes: 5e9 },
    });
  });

  it('gives the defaults for an empty file, for comments, and for empty keys', () => {
    for (const text of [
      '',
      '# nothing\n',
      '---\n',
      '\uFEFF',
      'zone:\ncrew:\nhooks:\n  onStop:\n',
      'zone: {}\r\n',
    ]) {
      expect(parse(text)).toEqual(DEFAULT_SITE_CONFIG);
    }
  });

  it('gives an ec2 zone an end, a disk and no sandbox, and the others none of it', () => {
    const ec2 = parse('zone: { mode: ec2, constraints: { idle: 10m } }');
    expect(ec2.zone.constraints).toEqual({
      ttlMs: 14_400_000,
      idleMs: 600_000,
      onEnd: 'halt',
      onLimit: 'alert',
    });
    expect(ec2.zone.instance).toEqual({ diskGb: 60, market: 'on-demand' });
    expect(ec2.crew.sandbox).toBe('off');
    expect(parse('zone: { mode: ssh, host: a }').zone.constraints).toEqual({
      onEnd: 'halt',
      onLimit: 'alert',
    });
  });

  it('reads remote as ec2 with an instance and as ssh without', () => {
    expect(parse('zone: { mode: remote, instance: { type: t3.small } }').zone.mode).toBe('ec2');
    expect(parse('zone: { mode: remote, host: a }').zone.mode).toBe('ssh');
    expect(refusal('zone:\n  mode: remote\n')).toBe(
      'khlone.yml:2:3 zone.mode: remote needs zone.host (or zone.instance)',
    );
  });

  it('accepts the older layout, and refuses one thing said twice', () => {
    const old = parse(
      'zone: { mode: ec2 }\ninstance: { type: t3.small }\nclone.0: foreman\nlimits: { max_clones: 2 }\n',
    );
    expect(old.zone.instance?.type).toBe('t3.small');
    expect(old.crew.hero).toEqual({ role: 'foreman' });
    expect(old.crew.limits).toEqual({ maxClones: 2, maxQueue: 100 });
    expect(refusal('crew: { hero: a }\nhero: b\n')).toBe(
      'khlone.yml:2:1 hero is set here and in crew; keep crew.hero',
    );
    expect(refusal('crew:\n  hero: a\n  clone.0: b\n')).toBe(
      'khlone.yml:2:3 hero and clone.0 are the same key; keep one',
    );
  });

  it('cannot be changed afterwards', () => {
    const config = parse(EXAMPLE);
    expect(() => config.setup[0]?.push('x')).toThrow(TypeError);
    expect(() => Object.assign(config.zone, { host: 'evil' })).toThrow(TypeError);
  });

  it.each([
    ['zone:\n  mod: ssh\n', '2:3 unknown key zone.mod; did you mean mode?'],
    [
      'zone:\n  max-clones: 1\n',
      '2:3 unknown key zone.max-clones; known here: mode, host, path, backend, instance, constraints',
    ],
    [
      'crew:\n  limits:\n    max_clone: 3\n',
      '3:5 unknown key crew.limits.max_clone; did you mean max_clones?',
    ],
    ['crew: { clone.0: { rol: a } }', '1:20 unknown key crew.clone.0.rol; did you mean role?'],
    [
      'hooks:\n  onStop:\n    - { promt: x }\n',
      '3:9 unknown key hooks.onStop[0].promt; did you mean prompt?',
    ],
    [
      'zone:\n  mode: shh\n  host: a',
      '2:9 zone.mode: "shh" is not one of local, ssh, ec2, remote; did you mean ssh?',
    ],
    [
      'zone: { constraints: { ttl: 4 } }',
      '1:29 zone.constraints.ttl: expected a duration with its unit, such as 4h, 30m or 90d',
    ],
    ['sync:\n  max_file: lots', '2:13 sync.max_file: expected a size with its unit, such as 10MB'],
    ['setup: npm ci', '1:8 setup: expected a list of commands, such as [[npm, ci]], not "npm ci"'],
    ['setup: [npm ci]', '1:9 setup[0]: expected a list of words, such as [npm, ci], not "npm ci"'],
    ['setup: [[npm, 1]]', '1:15 setup[0][1]: expected words, such as [npm, ci], not "1"'],
    ['setup: [[-rf]]', '1:9 setup[0]: the first word is not a program'],
    ['sync: { auto: yes }', '1:15 sync.auto: expected true or false, not "yes"'],
    [
      'secrets: { A: "cmd:pass x | head -1" }',
      '1:15 secrets.A: expected env:NAME or "cmd:program words" (words, not a shell)',
    ],
    [
      'secrets: { A: plaintext }',
      '1:15 secrets.A: expected env:NAME or "cmd:program words" (words, not a shell)',
    ],
    ['secrets: { A-B: env:A }', '1:12 secrets.A-B: expected a variable name'],
    ['secrets: { KHLONE_HOME: env:A }', '1:12 secrets.KHLONE_HOME: expected a variable name'],
    [
      'zone: { mode: ssh, host: -oProxyCommand=x }',
      '1:26 zone.host: expected a Host of ~/.ssh/config, or user@host:port',
    ],
    [
      'zone: { mode: ssh, host: "a b" }',
      '1:26 zone.host: expected a Host of ~/.ssh/config, or user@host:port',
    ],
    ['zone: { path: ../up }', '1:15 zone.path: expected an absolute path or one from ~/, without ".."'],
    ['roles: { a: { path: ../up } }', '1:21 roles.a.path: expected a path inside the repository'],
    ['sync: { include: [/etc/passwd] }', '1:19 sync.include[0]: expected a path inside the repository'],
    ['crew: [a]', '1:7 crew: expected keys, not a list'],
    ['crew: { hero: { role: [a] } }', '1:23 crew.hero.role: expected text, not a list'],
    ['- a\n', '1:1 expected keys, not a list'],
    ['just words', '1:1 expected keys, not "just words"'],
    ['a: 1\na: 2\n', '2:1 this key stands here twice'],
    ['zone: {}\n---\nzone: {}\n', '2:1 a second document begins here; only one is read'],
    ['zone: !!js/function "x"\n', '1:7 tags (!) have no meaning here'],
    ['zone: !!str x\n', '1:13 tags (!) have no meaning here'],
    ['? [a, b]\n: c\n', '1:3 a key must be one word'],
    ['__proto__: { polluted: 1 }\n', '1:1 __proto__ is not a key here'],
    ['zone: {\n', null],
    ['zone:\n\tmode: ssh', null],
    ['<<: { zone: {} }', null],
    ['zone: *nowhere', null],
    ['repo: { origin: --upload-pack=x }', '1:17 repo.origin: expected the url of a git repository'],
    ['crew: { brains: { x: { acp: [] } } }', '1:29 crew.brains.x.acp: needs at least the program'],
    ['crew: { brains: { x: { acp: [a], command: [b] } } }', null],
    ['zone: { constraints: { cost_limit: -1 } }', '1:36 zone.constraints.cost_limit: expected more than 0'],
    ['zone: { constraints: { cost_limit: .inf } }', null],
    ['crew: { limits: { max_clones: 1e9 } }', '1:31 crew.limits.max_clones: is over 256'],
  ])('refuses %j', (text, says) => {
    const message = refusal(text);
    if (says === null) expect(message).toMatch(/^khlone\.yml:\d+:\d+ \S/u);
    else expect(message).toBe(`khlone.yml:${says}`);
    expect(Object.getOwnPropertyNames(Object.prototype)).not.toContain('polluted');
  });

  it('reports at most five mistakes, in the order of the file', () => {
    const text = ['sync: { aut: 1 }', ...'abcdefg'.split('').map((letter) => `${letter}${letter}x: 1`)].join(
      '\n',
    );
    const lines = refusal(text).split('\n');
    expect(lines.map((line) => line.slice(0, 15).trim().split(' ')[0])).toEqual([
      'khlone.yml:1:9',
      'khlone.yml:2:1',
      'khlone.yml:3:1',
      'khlone.yml:4:1',
      'khlone.yml:5:1',
      '…',
    ]);
    expect(lines[5]).toBe('… and 3 more');
  });
});
