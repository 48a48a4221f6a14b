import { cpSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { khloneProgram } from '../fixtures/built.ts';
import { until } from '../fixtures/khlone.ts';
import { kill9 } from '../fixtures/server.ts';
import { sshdMissing } from '../fixtures/sshd.ts';
import { createFarWorld, type FarWorld, idOf } from './far-world.ts';

/** Other builds, and other servers, on a host that was used before. */

describe.skipIf(sshdMissing)(`a host of another time${sshdMissing ? ` (${sshdMissing})` : ''}`, () => {
  let far: FarWorld;
  beforeAll(async () => {
    far = await createFarWorld();
  });
  afterAll(() => far?.dispose());

  /** This build under an older version's name. */
  const olderProgram = (): string => {
    const folder = join(far.base, 'older');
    const from = join(dirname(khloneProgram()), '..');
    for (const part of ['bin', 'dist', 'package.json'])
      cpSync(join(from, part), join(folder, part), { recursive: true });
    const { version } = JSON.parse(readFileSync(join(from, 'package.json'), 'utf8')) as { version: string };
    for (const name of readdirSync(join(folder, 'dist')).filter((file) => /\.[cm]js$/.test(file))) {
      const path = join(folder, 'dist', name);
      writeFileSync(path, readFileSync(path, 'utf8').replaceAll(`"${version}`, '"0.0.1'));
    }
    return join(folder, 'bin', 'khlone');
  };

  const builds = (): string[] =>
    readdirSync(join(far.farHome, 'server/versions')).filter((name) => /^\d/.test(name));
  const onHost = async (): Promise<string> => {
    const { stdout } = await far.ok(['doctor']);
    return /server on zone: (\S+),/.exec(stdout)?.[1] ?? '';
  };

  it('has its older server replaced, and the clone that works goes on', async () => {
    symlinkSync(olderProgram(), join(far.base, 'bin/older'));
    const old = await far.sh(`older act --who @sh 'while [ ! -e go ]; do sleep 0.05; done; echo worked'`);
    expect(old.code, old.stderr).toBe(0);
    await until('it runs', async () => (await far.sh('older status')).stdout.includes('● mechanic.1'));
    const before = far.farServerPid();
    expect(builds()).toHaveLength(1);
    expect(await onHost()).not.toMatch(/^0\.0\.1/);
    expect(far.farServerPid()).not.toBe(before);
    expect(builds()).toHaveLength(2);
    expect((await far.ok(['status'])).stdout).toContain('● mechanic.1');
    await far.ok(['act', '--who', 'mechanic@sh++', 'touch go']);
    expect((await far.ok(['await', idOf(old)])).stdout).toBe('worked\n');
  });

  it('is used by an older client without being replaced', async () => {
    const server = far.farServerPid();
    expect((await far.sh(`older act --who @sh --await 'echo both'`)).stdout).toBe('both\n');
    expect(far.farServerPid()).toBe(server);
  });

  it('that lost its state is not sent what may have run there, until a person says so', async () => {
    await far.ok(['status']);
    await far.sshd.close();
    const before = await far.ok(['act', '--who', '@sh', 'echo before']);
    expect(before.stderr).toContain('queued here');
    // As if it had been on its way when the link broke: the entry says which server may have it.
    const [name = ''] = readdirSync(far.home.outbox).filter((file) => /^\d+\.json$/.test(file));
    const path = join(far.home.outbox, name);
    await far.kill(far.hubPid());
    const entry = JSON.parse(readFileSync(path, 'utf8')) as Record<string, unknown>;
    writeFileSync(path, JSON.stringify({ ...entry, sentTo: 'a-server-that-was' }));
    const behind = await far.ok(['act', '--who', '@sh', 'echo behind']);
    await far.sshd.open();
    await far.ok(['reconnect']);
    expect((await far.ok(['await', idOf(behind)])).stdout).toBe('behind\n');
    expect((await far.ok(['status'])).stdout).toContain(`⚠ ${idOf(before)} outcome unknown`);
    await far.ok(['retry', idOf(before)]);
    expect((await far.ok(['await', idOf(before)])).stdout).toBe('before\n');
    expect(readdirSync(far.home.outbox)).toEqual([]);
  });

  it('is set up anew where khlone was removed from it', async () => {
    await far.ok(['stop']);
    kill9(far.farProcesses());
    rmSync(join(far.sshd.remoteHome, '.khlone'), { recursive: true });
    rmSync(join(far.sshd.remoteHome, 'zones'), { recursive: true });
    expect((await far.ok(['act', '--who', '@sh', '--await', 'cat README.md'])).stdout).toBe('hello\n');
  });
});
