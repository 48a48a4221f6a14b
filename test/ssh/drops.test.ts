import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { until } from '../fixtures/khlone.ts';
import { sshdMissing } from '../fixtures/sshd.ts';
import { createFarWorld, type FarWorld, idOf } from './far-world.ts';

/** Connections that break, fall silent or hang up in the middle of the work: nothing is lost, doubled or reordered. */

const LONG = process.env.KHLONE_LONG === '1';
const ACTS = LONG ? 200 : 30;
const KILL_EVERY_MS = 250;

describe.skipIf(sshdMissing)(`a link that breaks${sshdMissing ? ` (${sshdMissing})` : ''}`, () => {
  let far: FarWorld;
  // One clone: only within one is there an order to keep.
  const note = (word: string, file = 'order', who = 'mechanic.1') => [
    ...['act', '--who', who],
    `echo ${word} >> ${file}`,
  ];
  const lines = (file: string): string[] => readFileSync(join(far.zone, file), 'utf8').trim().split('\n');

  beforeAll(async () => {
    far = await createFarWorld();
    await far.ok([...note('first', 'order', '@sh'), '--await']);
  });
  afterAll(() => far?.dispose());

  it('is replaced by a second one when it falls silent, and the act runs once', async () => {
    const [silent = 0] = far.sshd.sessions();
    process.kill(silent, 'SIGSTOP');
    try {
      const act = await far.ok(note('silent'));
      expect(act.ms).toBeLessThan(3_500);
      // It was sent, by the second connection: a receipt that says otherwise would be outdated when it is read.
      expect(act.stderr).toMatch(/^✓ task-\w+ → mechanic\.1 \(@main\)\n$/);
      const answered = await far.ok(['await', idOf(act)]);
      expect(answered.ms).toBeLessThan(3_500);
    } finally {
      process.kill(silent, 'SIGKILL');
    }
    await far.ok([...note('after'), '--await']);
    expect(lines('order')).toEqual(['first', 'silent', 'after']);
  });

  it('lets --await say so, wait, and print the answer once', async () => {
    const waiting = far.start([
      'act',
      '--who',
      '@sh',
      '--await',
      'while [ ! -e go ]; do sleep 0.05; done; echo answer',
    ]);
    await until('the task runs', async () => (await far.ok(['status'])).stdout.includes('● mechanic.1'));
    await far.sshd.close();
    await until('it says that it reconnects', () => waiting.stderr().includes('reconnecting to zone'));
    const offline = await far.ok(['status']);
    expect(offline.stdout).toMatch(
      /^⚠ zone @main \(ssh zone, offline for \d+s(, next try in \d+s|, trying now)?\)\n/,
    );
    expect(offline.stdout).toMatch(/\? mechanic\.1 +sh .*\(as of \d+s ago\)/);
    await far.sshd.open();
    await far.ok(['reconnect']);
    await far.ok(['act', '--who', 'mechanic@sh++', 'touch go']);
    const ran = await waiting.ended;
    expect(ran.stdout).toBe('answer\n');
    expect(ran.code).toBe(0);
    expect(ran.stderr.match(/reconnecting/g)).toHaveLength(1);
  });

  it(`loses, doubles and reorders none of ${ACTS} acts while its sessions are killed at random`, async () => {
    let over = false;
    let kills = 0;
    const killer = (async () => {
      while (!over) {
        await new Promise((resolve) => setTimeout(resolve, Math.random() * KILL_EVERY_MS * 2));
        for (const pid of far.sshd.sessions()) {
          process.kill(pid, 'SIGKILL');
          kills += 1;
        }
      }
    })();
    const ids: string[] = [];
    const receipts: number[] = [];
    for (let n = 1; n <= ACTS; n += 1) {
      const act = await far.ok(note(String(n), 'drops'));
      ids.push(idOf(act));
      receipts.push(act.ms);
    }
    over = true;
    await killer;
    const last = ids.at(-1) ?? '';
    await far.ok(['await', last], { limitMs: 60_000 });
    expect(lines('drops')).toEqual(Array.from({ length: ACTS }, (_, n) => String(n + 1)));
    expect(kills).toBeGreaterThan(3);
    expect(Math.max(...receipts)).toBeLessThan(6_000);
    console.log(`${kills} kills, slowest receipt ${Math.round(Math.max(...receipts))} ms`);
  }, 120_000);
});
