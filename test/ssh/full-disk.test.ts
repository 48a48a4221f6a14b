import { readdirSync, statfsSync, unlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { smallDisk } from '../fixtures/small-disk.ts';
import { sshdMissing } from '../fixtures/sshd.ts';
import { createFarWorld, type FarWorld, idOf } from './far-world.ts';

/** The disk of the person's machine is full while the host is away: what has a receipt waits, the rest is refused in words. */

describe.skipIf(sshdMissing)(`a full disk here${sshdMissing ? ` (${sshdMissing})` : ''}`, () => {
  const { dir, isThere } = smallDisk('20m');
  const ballast = join(dir, 'ballast');
  let far: FarWorld;
  const fillUp = (): void => {
    const { bavail, bsize } = statfsSync(dir);
    try {
      writeFileSync(ballast, Buffer.alloc(bavail * bsize + bsize, 1));
    } catch {
      // Full is full.
    }
  };

  beforeAll(async () => {
    if (isThere) far = await createFarWorld({ env: { KHLONE_HOME: join(dir, 'h'), KHLONE_WHO: '@sh' } });
  });
  afterAll(() => far?.dispose());

  it.skipIf(!isThere)(
    'calls a host connected that answers, also where it has no task of the zone yet',
    async () => {
      await far.sshd.close();
      const first = await far.ok(['act', 'echo taken back >> order']);
      await far.ok(['cancel', idOf(first)]);
      await far.sshd.open();
      await far.ok(['reconnect']);
      expect((await far.ok(['status'])).stdout).toMatch(/^zone @main \(ssh zone, connected\) — preparing\n/);
    },
  );

  it.skipIf(!isThere)(
    'refuses what finds no room in words, and sends what it took when the host is back',
    async () => {
      await far.ok(['act', '--await', 'true']);
      await far.sshd.close();
      const kept = await far.ok(['act', 'echo kept >> order']);
      fillUp();
      for (const words of [
        ['act', 'echo never >> order'],
        ['cancel', 'task-0123456789'],
      ])
        expect(await far.khlone(words)).toMatchObject({
          code: 2,
          stderr: `✗ no space left for ${far.home.outbox}\n  ↳ free some space, then try again\n`,
        });
      expect(readdirSync(far.home.outbox).filter((name) => name.startsWith('.'))).toEqual([]);
      await far.sshd.open();
      unlinkSync(ballast);
      expect(await far.khlone(['await', idOf(kept)])).toMatchObject({ code: 0 });
      expect((await far.ok(['act', '--await', 'cat order'])).stdout).toBe('kept\n');
    },
  );

  it.skipIf(!isThere)('does not end the hub by a line of its own log', async () => {
    await far.kill(far.hubPid());
    // A hub that has much to say.
    await far.ok(['reconnect'], { env: { NODE_DEBUG: 'net' } });
    const hub = far.hubPid();
    fillUp();
    for (let n = 0; n < 3; n += 1) await far.khlone(['status']);
    unlinkSync(ballast);
    expect([far.hubPid(), (await far.ok(['act', '--await', 'echo here'])).stdout]).toEqual([hub, 'here\n']);
  });
});
