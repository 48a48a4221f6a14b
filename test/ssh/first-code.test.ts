import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, describe, expect, it } from 'vitest';
import { until } from '../fixtures/khlone.ts';
import { sshdMissing } from '../fixtures/sshd.ts';
import { createFarWorld, type FarWorld, idOf } from './far-world.ts';

/** The first act makes the zone; its code follows, whatever dies on the way. */

const BIG_BYTES = 12 * 1024 * 1024;

describe.skipIf(sshdMissing)(`the first code${sshdMissing ? ` (${sshdMissing})` : ''}`, () => {
  let far: FarWorld;
  afterEach(() => far?.dispose());

  /** A worktree whose pack takes a while: noise does not compress. */
  const createLarge = async (): Promise<void> => {
    far = await createFarWorld();
    writeFileSync(join(far.repo, 'noise'), randomBytes(BIG_BYTES / 8));
    for (let n = 0; n < 7; n += 1) writeFileSync(join(far.repo, `noise-${n}`), randomBytes(BIG_BYTES / 8));
    writeFileSync(join(far.repo, 'README.md'), 'not committed\n');
  };
  const sum = (folder: string): string =>
    execFileSync('sh', ['-c', 'cat noise* README.md | sha256sum'], { cwd: folder }).toString();
  const state = async (): Promise<string> =>
    JSON.parse((await far.ok(['status', '--json'])).stdout)[0].view.state;

  it('is carried again by the next hub when the hub was killed in the middle', async () => {
    await createLarge();
    const act = await far.ok(['act', '--who', '@sh', 'cat README.md']);
    expect(act.stderr).toContain('◌ preparing zone\n');
    await far.kill(far.hubPid());
    expect(await state()).toBe('preparing');
    await until('the code is there', async () => (await state()) === 'ready');
    expect((await far.ok(['await', idOf(act)])).stdout).toBe('not committed\n');
    expect(sum(far.zone)).toBe(sum(far.repo));
  });

  it('is carried again by itself when the link broke in the middle', async () => {
    await createLarge();
    const act = await far.ok(['act', '--who', '@sh', 'cat README.md']);
    await far.sshd.close();
    expect(existsSync(join(far.zone, 'README.md'))).toBe(false);
    await far.sshd.open();
    expect((await far.ok(['await', idOf(act)])).stdout).toBe('not committed\n');
    expect(sum(far.zone)).toBe(sum(far.repo));
  });

  it('says what keeps it away, and goes on after the next init', async () => {
    await createLarge();
    const act = await far.ok(['act', '--who', '@sh', 'cat README.md']);
    await far.kill(far.hubPid());
    const yml = readFileSync(join(far.repo, 'khlone.yml'), 'utf8');
    writeFileSync(join(far.repo, 'khlone.yml'), `${yml}secrets: { A: env:HOME }\n`);
    await far.ok(['status']);
    await until('it says why', async () => (await far.ok(['status'])).stdout.includes('khlone trust'));
    await far.ok(['trust', '--yes']);
    await far.ok(['init']);
    expect((await far.ok(['await', idOf(act)])).stdout).toBe('not committed\n');
  });
});
