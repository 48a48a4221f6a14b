import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { sshdMissing } from '../fixtures/sshd.ts';
import { createFarWorld, type FarWorld } from './far-world.ts';

describe.skipIf(sshdMissing)(`a fresh host${sshdMissing ? ` (${sshdMissing})` : ''}`, () => {
  let far: FarWorld;
  let zone: string;
  beforeAll(async () => {
    far = await createFarWorld();
    zone = join(far.sshd.remoteHome, 'zones/org/app/main');
    writeFileSync(join(far.repo, 'README.md'), 'changed, not committed\n');
    writeFileSync(join(far.repo, 'new.txt'), 'never added\n');
  });
  afterAll(() => far?.dispose());

  it('takes an act, carries the code and runs it there', async () => {
    const act = await far.ok(['act', '--who', '@sh', 'cat README.md new.txt > f; pwd']);
    console.log(act);
    const id = /task-\w+/.exec(act.stderr)?.[0] ?? '';
    const end = await far.khlone(['await', id]);
    console.log(end);
    console.log(await far.khlone(['status']));
    expect(readFileSync(join(zone, 'f'), 'utf8')).toBe('changed, not committed\nnever added\n');
    const ask = await far.khlone(['ask', '--who', '@sh', '--await', 'cat f']);
    console.log(ask);
    console.log(await far.khlone(['log']));
    console.log(await far.khlone(['crew']));
    console.log(await far.khlone(['queue']));
    console.log(await far.khlone(['doctor']));
    console.log(await far.khlone(['zone', 'del']));
    console.log(await far.khlone(['zone', 'halt']));
    console.log(await far.khlone(['init']));
    console.log(await far.khlone(['zone', 'del', '--force']));
    console.log(far.sshd.sessions(), existsSync(zone));
    console.log(await far.khlone(['stop']));
  });
});
