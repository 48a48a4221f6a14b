import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { until } from '../fixtures/khlone.ts';
import { sshdMissing } from '../fixtures/sshd.ts';
import { createFarWorld, type FarWorld, write } from './far-world.ts';

/** How far both sides are apart, seen at a glance: nobody has to ask, and nothing waits for the answer. */

describe.skipIf(sshdMissing)(`both sides at a glance${sshdMissing ? ` (${sshdMissing})` : ''}`, () => {
  let far: FarWorld;
  const there = (name: string, text: string): void => writeFileSync(join(far.zone, name), text);
  const status = async (): Promise<string> => (await far.ok(['status'])).stdout;
  const says = (line: RegExp) => until(`status says ${line}`, async () => line.test(await status()), 20_000);
  const prompt = (): string => {
    const dir = join(far.home.root, 'shell/zones');
    const fields = readFileSync(join(dir, readdirSync(dir)[0] ?? ''), 'utf8').split('\t');
    return `${fields[6]} ${fields[7]}`;
  };

  beforeAll(async () => {
    far = await createFarWorld({ files: { 'src/api.ts': 'a\nb\nc\n' } });
    await far.ok(['act', '--who', '@sh', 'true', '--await']);
  });
  afterAll(() => far?.dispose());

  it('is told by status, without a sync or a pull, and by the prompt', async () => {
    for (const name of ['one', 'two', 'three']) write(far, name, '1\n');
    write(far, 'src/api.ts', 'a\nmine\nc\n');
    there('src/api.ts', 'a\ntheirs\nc\n');
    // A conflict is known once the zone's version is here.
    expect((await far.khlone(['pull'])).code).toBe(3);
    there('four', '1\n');
    there('five', '1\n');
    await says(/^.─ sync {2}3 files to send, 2 to pull, 1 conflict$/m);
    expect(prompt()).toBe('2 1');
    const [told] = JSON.parse((await far.ok(['status', '--json'])).stdout);
    expect(told.sync).toMatchObject({ toSend: 3, toPull: 2, conflicts: 1 });
  });

  it('follows what clones do by itself', async () => {
    await far.khlone(['pull']);
    expect(prompt()).toBe('0 1');
    await far.ok(['act', '--who', '@sh', 'echo 1 > six', '--await']);
    await until('the prompt tells the new file', () => prompt() === '1 1', 20_000);
  });

  it('is told off line with its age, beside what waits here', async () => {
    await far.ok(['resolve', 'src/api.ts', '--keep', 'remote']);
    await far.ok(['sync']);
    await far.ok(['pull']);
    for (const name of ['one', 'two', 'three']) write(far, name, '2\n');
    await says(/^.─ sync {2}3 files to send$/m);
    await far.sshd.close();
    await far.ok(['sync']);
    await far.ok(['act', '--who', '@sh', 'true']);
    await far.ok(['act', '--who', '@sh', 'true']);
    expect(await status()).toMatch(/^.─ queued here {2}2 tasks, 1 patch \(3 files\)/m);
    await says(/^.─ sync {2}3 files to send \(as of \d+s ago\)$/m);
    expect((await far.ok(['diff', '--out'])).stderr).toMatch(/^as of \d+s ago\n/);
    await far.sshd.open();
    await far.ok(['reconnect']);
    await until('both sides are in step', async () => !/ sync /.test(await status()), 20_000);
  });
});
