import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { sshdMissing } from '../fixtures/sshd.ts';
import { createFarWorld, type FarWorld, write } from './far-world.ts';

/** docs/patches.md promises that nobody needs khlone to get their work back: each of its lines, with plain git. */

describe.skipIf(sshdMissing)(`work without khlone${sshdMissing ? ` (${sshdMissing})` : ''}`, () => {
  let far: FarWorld;
  const shadow = (): string => join(far.repo, '.git/khlone/shadow.git');
  const plain = (dir: string, ...args: string[]): string =>
    execFileSync('git', [`--git-dir=${dir}`, ...args], {
      env: { PATH: far.env.PATH, HOME: '/nowhere' },
    }).toString();
  const unpack = (dir: string, tree: string, to: string): void => {
    mkdirSync(to);
    execFileSync('sh', ['-c', `git --git-dir="${dir}" archive ${tree} | tar -x -C "${to}"`]);
  };
  const pins = (dir: string): Record<string, string> =>
    JSON.parse(readFileSync(join(dir, 'khlone-pins.json'), 'utf8'));

  beforeAll(async () => {
    far = await createFarWorld({ files: { 'src/a.ts': 'a\n' } });
    await far.ok(['act', '--who', '@sh', 'true', '--await']);
  });
  afterAll(() => far?.dispose());

  it('is in the shadow as whole trees: the last state that was seen of the zone, and what is queued', async () => {
    write(far, 'src/a.ts', 'mine\n');
    writeFileSync(join(far.zone, 'src/a.ts'), 'theirs\n');
    writeFileSync(join(far.zone, 'made'), 'made\n');
    await far.khlone(['pull']);
    await far.sshd.close();
    write(far, 'later', 'later\n');
    await far.ok(['sync']);
    const all = Object.entries(pins(shadow()));
    const [, remote = ''] = all.find(([name]) => /^zone\/[^/]+\/remote$/.test(name)) ?? [];
    const [, queued = ''] = all.find(([name]) => name.startsWith('queued/')) ?? [];
    unpack(shadow(), remote, join(far.base, 'zone-files'));
    expect(readFileSync(join(far.base, 'zone-files/src/a.ts'), 'utf8')).toBe('theirs\n');
    expect(readFileSync(join(far.base, 'zone-files/made'), 'utf8')).toBe('made\n');
    unpack(shadow(), queued, join(far.base, 'queued-files'));
    expect(readFileSync(join(far.base, 'queued-files/later'), 'utf8')).toBe('later\n');
    expect(plain(shadow(), 'diff', '--stat', remote, queued)).toContain('later');
    // The person's own git sees nothing of it.
    expect(far.git(['for-each-ref'])).not.toContain('refs/khlone');
    await far.sshd.open();
    await far.ok(['reconnect']);
  });

  it('lies among the displaced files where a pull replaced it', async () => {
    await far.ok(['pull', '--force']);
    const found = execFileSync('sh', ['-c', 'grep -rl "^mine$" .git/khlone/displaced'], { cwd: far.repo });
    expect(found.toString().trim()).toMatch(/displaced\/.+\/old-\d+$/);
  });

  it('is a patch and a bundle where a zone was deleted by force', async () => {
    await far.ok(['sync']);
    writeFileSync(join(far.zone, 'work'), 'work\n');
    const there = ['-c', 'user.name=C', '-c', 'user.email=c@example.invalid'];
    execFileSync('git', [...there, 'commit', '-qam', 'by a clone'], { cwd: far.zone });
    const said = await far.ok(['zone', 'del', '--force', '--yes']);
    const kept = /recovery patch on zone: (\S+)/.exec(said.stderr)?.[1] ?? '';
    const clone = join(far.base, 'fresh');
    far.git(['clone', '-q', far.repo, clone]);
    execFileSync('git', ['fetch', '-q', kept.replace(/\.patch$/, '.bundle'), '+refs/*:refs/recovered/*'], {
      cwd: clone,
    });
    expect(far.git(['log', '--oneline', 'refs/recovered/heads/main'], clone)).toContain('by a clone');
    expect(far.git(['apply', '--stat', kept], clone)).toContain('work');
    expect(existsSync(far.zone)).toBe(false);
  });
});
