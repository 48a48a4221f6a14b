import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, describe, expect, it } from 'vitest';
import { until } from '../fixtures/khlone.ts';
import { openPersonTerminal } from '../fixtures/person-terminal.ts';
import { sshdMissing } from '../fixtures/sshd.ts';
import { createFarWorld, type FarWorld } from './far-world.ts';

/** Taking khlone off a host: what it made goes, what a person would miss stays. */

describe.skipIf(sshdMissing)(`uninstall of a host${sshdMissing ? ` (${sshdMissing})` : ''}`, () => {
  let far: FarWorld;
  afterEach(() => far?.dispose());

  const uninstall = (...flags: string[]) => far.khlone(['uninstall', 'zone', ...flags]);
  const act = (script: string) => far.ok(['act', '--who', '@sh', '--await', script]);
  const nobodyThere = () => until('the end of all', () => far.farProcesses().length === 0);

  it('removes server, state, builds and zone, and sets nothing up again', async () => {
    far = await createFarWorld();
    await act('true');
    expect(existsSync(far.zone)).toBe(true);
    const refused = await uninstall();
    expect(refused.stderr).toBe(
      '✗ nothing was removed: khlone and its 1 zone (org/app@main) stay on zone\n  ↳ khlone uninstall zone --yes\n',
    );
    expect(refused.code).toBe(3);
    expect(await uninstall('--yes')).toMatchObject({ code: 0, stderr: '✓ khlone is gone from zone\n' });
    await nobodyThere();
    await until('the last files', () => !existsSync(far.farHome));
    expect(existsSync(far.zone)).toBe(false);
    expect(existsSync(join(far.repo, '.khlone'))).toBe(false);
    expect(await far.says(['status', '--all'])).toContain('no zones yet');
    expect(far.farProcesses()).toEqual([]);
    // The same host again is as new.
    expect((await act('echo again')).stdout).toBe('again\n');
  });

  it('ends who looks into a zone there, and is not set up again by them', async () => {
    far = await createFarWorld();
    await act('true');
    const at = await openPersonTerminal(far);
    try {
      await at.line('clear; khlone attach --shell; echo "code=$?"');
      await at.until(/org\/app\/main/);
      expect(await uninstall('--yes')).toMatchObject({ code: 0 });
      expect(await at.until(/code=/)).toMatch(/detached|no zone/);
      await nobodyThere();
      await until('the last files', () => !existsSync(far.farHome));
      expect(far.farProcesses()).toEqual([]);
    } finally {
      await at.end();
    }
  });

  it('refuses while work is only there; --force saves it first, and that stays', async () => {
    far = await createFarWorld();
    await act('echo precious > work.txt');
    expect(await uninstall('--yes')).toMatchObject({
      code: 3,
      stderr: expect.stringContaining('holds work that is only there: 1 changed file'),
    });
    expect((await act('cat work.txt')).stdout).toBe('precious\n');
    const forced = await uninstall('--yes', '--force');
    const kept = /recovery patch there: (.*)/.exec(forced.stderr)?.[1] ?? '';
    await nobodyThere();
    expect(readFileSync(kept, 'utf8')).toContain('+precious');
    await until('the last files', () => !existsSync(join(far.farHome, 'run')));
    expect(readdirSync(far.farHome)).toEqual(['server']);
    expect(readdirSync(join(far.farHome, 'server'))).toEqual(['recovery']);
  });

  it('refuses while a task runs; --force ends it', async () => {
    far = await createFarWorld();
    await far.ok(['act', '--who', '@sh', 'touch begun; sleep 100']);
    await until('the task', () => existsSync(join(far.zone, 'begun')));
    expect(await uninstall('--yes')).toMatchObject({
      code: 3,
      stderr: expect.stringContaining('✗ tasks did not end in org/app@main\n'),
    });
    expect(await uninstall('--yes', '--force')).toMatchObject({ code: 0 });
    await nobodyThere();
  });

  it('of this machine waits for that of the host, then leaves only what khlone did not make', async () => {
    far = await createFarWorld();
    await act('true');
    writeFileSync(join(far.home.root, 'mine'), '');
    expect(await far.says(['uninstall', '--yes'])).toBe(
      '! ✗ there are zones on zone\n!   ↳ khlone uninstall zone first; --force leaves them there\n[exit 3]\n',
    );
    expect(await uninstall('--yes')).toMatchObject({ code: 0 });
    expect(await far.says(['uninstall', '--yes'])).toBe('! ✓ khlone is gone from this machine\n');
    await until('the last files', () => readdirSync(far.home.root).length === 1);
    expect(readdirSync(far.home.root)).toEqual(['mine']);
    await until('the end of hub and server', () => far.residents().hubs + far.residents().servers === 0);
    expect(existsSync(join(far.repo, 'khlone.yml'))).toBe(true);
  });
});
