import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { until } from '../fixtures/khlone.ts';
import { sshdMissing } from '../fixtures/sshd.ts';
import { createFarWorld, type FarWorld, idOf } from './far-world.ts';

/** What happens to work while its host cannot be reached. */

describe.skipIf(sshdMissing)(`a host that went away${sshdMissing ? ` (${sshdMissing})` : ''}`, () => {
  let far: FarWorld;
  const note = (word: string) => ['act', '--who', '@sh', `echo ${word} >> order`];
  const order = (): string[] => {
    const file = join(far.zone, 'order');
    return existsSync(file) ? readFileSync(file, 'utf8').trim().split('\n') : [];
  };
  const outbox = (): string[] => readdirSync(far.home.outbox).filter((name) => /^\d+\.json$/.test(name));

  beforeAll(async () => {
    far = await createFarWorld();
    await far.ok([...note('first'), '--await']);
  });
  afterAll(() => far?.dispose());

  it('has its work queued here within 3 s, in order, whatever dies meanwhile, and sent once when it is back', async () => {
    await far.sshd.close();
    const one = await far.ok(note('one'));
    expect(one.stderr).toMatch(/^⚠ task-\w+ → @sh \(@main\) \[queued here: zone unreachable\]$/m);
    expect(one.ms).toBeLessThan(3_500);
    const two = await far.ok(note('two'));
    const three = await far.ok(note('three'));
    await far.ok(['cancel', idOf(two)]);
    await far.kill(far.hubPid());
    const four = await far.ok(note('four'));
    const status = await far.ok(['status']);
    expect(status.stdout).toMatch(/^⚠ zone @main \(ssh zone, offline/);
    expect(status.stdout).toMatch(/queued here {2}3 tasks \(for \ds\)/);
    expect(outbox()).toHaveLength(3);
    const queue = await far.ok(['queue']);
    expect(queue.stderr).toMatch(/^⚠ zone does not answer(: it had \d tasks? \d+s ago)?$/m);
    expect(queue.stdout).toBe(
      [one, three, four]
        .map((ran, n) => `${idOf(ran)}  queued here  act echo ${['one', 'three', 'four'][n]} >> order\n`)
        .join(''),
    );
    expect(JSON.parse((await far.ok(['queue', '--json'])).stdout)).toMatchObject({
      tasks: [],
      answered: false,
    });
    await far.sshd.open();
    await until('the outbox is empty', () => outbox().length === 0, 35_000);
    await far.ok(['await', idOf(four)]);
    expect(order()).toEqual(['first', 'one', 'three', 'four']);
    expect((await far.ok(['await', idOf(three)])).code).toBe(0);
  });

  it.each(['the person', 'the hub'])(
    'is connected to by reconnect, which says what was sent when %s comes first',
    async (first) => {
      await far.sshd.close();
      await far.ok(note('five'));
      const six = await far.ok(note('six'));
      await far.sshd.open();
      // The hub's own next try may come first, and send first: the person is told all the same.
      if (first === 'the hub') await until('the outbox is empty', () => outbox().length === 0, 35_000);
      const back = await far.ok(['reconnect']);
      expect(back.stderr).toMatch(/^✓ connected to zone\n(✓ mechanic.1 active .*\n)?✓ sent 2 tasks\n$/m);
      const again = JSON.parse((await far.ok(['reconnect', '--json'])).stdout);
      expect(again).toMatchObject([
        { host: 'zone', connected: true, sent: { tasks: 0, cancels: 0 }, held: 0 },
      ]);
      await far.ok(['await', idOf(six)]);
      expect(order().slice(-2)).toEqual(['five', 'six']);
    },
  );

  it('is told by reconnect and by status where the server refuses it', async () => {
    await far.sshd.close();
    const nobody = await far.ok(['act', '--who', 'reviewer.7', 'echo nobody']);
    await far.ok(note('seven'));
    await far.sshd.open();
    const refused = `✗ ${idOf(nobody)} (act echo nobody) was refused: no clone reviewer.7 in this zone`;
    expect((await far.ok(['reconnect'])).stderr).toContain(`✓ sent 1 task\n${refused}`);
    expect((await far.ok(['reconnect'])).stderr).not.toContain('refused');
    expect((await far.ok(['status'])).stdout).toContain(refused);
  });
});
