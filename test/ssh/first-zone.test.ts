import { existsSync, readdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { until } from '../fixtures/khlone.ts';
import { sshdMissing } from '../fixtures/sshd.ts';
import { createFarWorld, type FarWorld, idOf } from './far-world.ts';

/** A host that never saw khlone, from the first act to the end of its zone: the words are those of a local zone. */

describe.skipIf(sshdMissing)(`a fresh host${sshdMissing ? ` (${sshdMissing})` : ''}`, () => {
  let far: FarWorld;
  const act = (line: string, ...more: string[]) => ['act', '--who', '@sh', line, ...more];

  beforeAll(async () => {
    far = await createFarWorld();
    writeFileSync(join(far.repo, 'README.md'), 'changed, not committed\n');
    writeFileSync(join(far.repo, 'new.txt'), 'never added\n');
  });
  afterAll(() => far?.dispose());

  it('is set up by the first act, which is accepted at once and runs on the code as it is here', async () => {
    const first = await far.ok(act('cat README.md new.txt > f; git log --format=%s; pwd'));
    expect(far.mask(first.stderr)).toContain(
      '◌ setting up khlone-server on zone\n' +
        '✓ init @main → mechanic.1\n' +
        '✓ task-1 → mechanic.1 (@main)\n' +
        '◌ preparing zone\n',
    );
    const { stdout } = await far.ok(['await', idOf(first)]);
    expect(stdout).toBe(`begin\n${far.zone}\n`);
    expect(readFileSync(join(far.zone, 'f'), 'utf8')).toBe('changed, not committed\nnever added\n');
    expect(far.git(['status', '--short'])).toBe(' M README.md\n?? new.txt\n');
  });

  it('needs no second set-up', async () => {
    const second = await far.ok(act('true'));
    expect(far.mask(second.stderr)).toBe('✓ task-2 → mechanic.1 (@main)\n');
    expect(second.ms).toBeLessThan(1_000);
    const [version = ''] = readdirSync(join(far.farHome, 'server/versions'));
    expect(existsSync(join(far.farHome, 'server/versions', version, 'relay.cjs'))).toBe(true);
  });

  it('answers an ask, and only the answer is on stdout', async () => {
    const ask = await far.ok(['ask', '--who', '@sh', '--await', 'cat f']);
    expect(ask.stdout).toBe('changed, not committed\nnever added\n');
    const writes = await far.khlone(['ask', '--who', '@sh', '--await', 'echo x > f']);
    expect(writes.code).toBe(1);
    expect(readFileSync(join(far.zone, 'f'), 'utf8')).not.toBe('x\n');
  });

  it('shows its zone, crew, queue and log as a local one does', async () => {
    const running = await far.ok(act('while [ ! -e go ]; do sleep 0.05; done; echo went'));
    const waiting = await far.ok(act('echo never'));
    await until('it runs', async () => (await far.ok(['status'])).stdout.includes('● mechanic.1'));
    const { stdout } = await far.ok(['status']);
    expect(stdout).toMatch(
      /^zone @main \(ssh zone, connected\)\n├─ ● mechanic\.1 +sh .*2 tasks\n└─ queue {2}1 task\n$/,
    );
    expect((await far.ok(['crew'])).stdout).toContain('mechanic.1');
    expect((await far.ok(['queue'])).stdout).toContain('echo never');
    await far.ok(['cancel', idOf(waiting)]);
    await far.ok(['act', '--who', 'mechanic@sh++', 'touch go']);
    expect((await far.ok(['await', idOf(running)])).stdout).toBe('went\n');
    const again = await far.ok(['retry', idOf(running)]);
    expect((await far.ok(['await', idOf(again)])).stdout).toBe('went\n');
    expect((await far.ok(['log'])).stdout).toContain('went');
  });

  it('is told by doctor what it has', async () => {
    const { stdout } = await far.ok(['doctor']);
    for (const what of ['server', 'tmux', 'view', 'sh'])
      expect(stdout).toMatch(new RegExp(`^✓ ${what} on zone: `, 'm'));
    expect(stdout).toMatch(/^○ claude on zone: /m);
  });

  it('halts and goes on', async () => {
    await far.ok(['halt']);
    const held = await far.ok(act('echo again'));
    expect((await far.ok(['status'])).stdout).toContain('halted');
    await far.ok(['init']);
    expect((await far.ok(['await', idOf(held)])).stdout).toBe('again\n');
  });

  it('is not deleted with work that is only there; by force the work is saved first', async () => {
    const refused = await far.khlone(['zone', 'del']);
    expect(refused.code).toBe(3);
    expect(refused.stderr).toContain('holds work that is only there');
    const deleted = await far.ok(['zone', 'del', '--force', '--yes']);
    const patch = /recovery patch on zone: (\S+)/.exec(deleted.stderr)?.[1] ?? '';
    expect(readFileSync(patch, 'utf8')).toContain('diff --git a/f b/f');
    expect(existsSync(far.zone)).toBe(false);
    expect(existsSync(far.repo)).toBe(true);
  });

  it('takes a zone again after one was deleted', async () => {
    expect((await far.ok(act('cat README.md', '--await'))).stdout).toBe('changed, not committed\n');
  });

  it('serves two repositories over one connection, which stop closes', async () => {
    const other = far.repository('other', {
      branch: 'main',
      origin: 'git@nowhere.invalid:org/other.git',
      files: { 'khlone.yml': 'zone: { mode: ssh, host: zone }\n' },
    });
    await far.ok(['trust', '--yes'], { cwd: other });
    expect((await far.ok(act('pwd', '--await'), { cwd: other })).stdout).toContain('zones/org/other/main');
    expect(far.sshd.sessions()).toHaveLength(1);
    await far.ok(['stop']);
    await until('the connection is closed', () => far.sshd.sessions().length === 0);
    expect(far.farServerPid()).toBeDefined();
  });

  it('wants one of two ways on after git switch, and gives the new branch a zone of its own', async () => {
    far.git(['stash', '-q']);
    far.git(['switch', '-qc', 'feat/two']);
    const stopped = await far.khlone(act('pwd'));
    expect(stopped.code).toBe(3);
    expect(stopped.stderr).toContain('git switch main, or khlone zone set --branch');
    await far.ok(['zone', 'set', '--branch']);
    expect((await far.ok(act('pwd', '--await'))).stdout).toContain('zones/org/app/feat--two\n');
    far.git(['switch', '-q', 'main']);
    expect((await far.khlone(act('pwd'))).code).toBe(3);
    await far.ok(['zone', 'set', '--branch']);
    expect((await far.ok(act('pwd', '--await'))).stdout).toContain('zones/org/app/main\n');
  });

  it('goes on after the repository moved here', async () => {
    const moved = `${far.repo}-moved`;
    renameSync(far.repo, moved);
    await far.ok(['trust', '--yes'], { cwd: moved });
    expect((await far.ok(act('pwd', '--await'), { cwd: moved })).stdout).toContain('zones/org/app/main\n');
  });
});
