import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { until } from '../fixtures/server.ts';
import { sshdMissing } from '../fixtures/sshd.ts';
import { createFarWorld, type FarWorld, idOf, write } from './far-world.ts';
import { type FaultLine, faultLine } from './fault-line.ts';

/** What commands say while the line swallows all there is: known things at once, and the rest as one line. */

/** With the start of the command itself, on a machine that has more to do. */
const AT_ONCE_MS = 1_500;
const SOON_MS = 2_500;

describe.skipIf(sshdMissing)(
  `a line that was cut${sshdMissing ? ` (${sshdMissing})` : ''}`,
  () => {
    let far: FarWorld;
    let line: FaultLine;
    let task = '';
    let running = '';
    const cut = (isCut: boolean): void => {
      line.swallow.up = isCut;
      line.swallow.down = isCut;
    };
    const outbox = (): string[] => readdirSync(far.home.outbox).filter((name) => /^\d+\.json$/.test(name));

    beforeAll(async () => {
      far = await createFarWorld();
      line = await faultLine(far.sshd);
      task = idOf(await far.ok(['act', '--who', '@sh', '--await', 'echo made > made']));
      running = idOf(await far.ok(['act', '--who', '@sh', 'while [ ! -e go ]; do sleep 0.1; done']));
      await until('it runs', async () => (await far.ok(['status'])).stdout.includes('● mechanic.1'));
      await far.ok(['diff']);
    });
    afterAll(async () => {
      cut(false);
      await far?.dispose();
      line?.close();
    });

    it('has the first sync queued soon, though nobody knew of the cut yet', async () => {
      write(far, 'mine', 'mine\n');
      // Nothing came for a while: a byte of just now would prove the line.
      await new Promise((done) => setTimeout(done, 1_100));
      cut(true);
      const synced = await far.ok(['sync']);
      expect(synced.stderr).toMatch(/^⚠ 1 file \[queued here: zone unreachable\]$/m);
      expect(synced.ms).toBeLessThan(SOON_MS + 1_000);
      const pulled = await far.khlone(['pull']);
      expect(pulled).toMatchObject({ code: 4, stdout: '' });
      expect(pulled.ms).toBeLessThan(6_000);
    });

    it('lets each command that reads answer at once from what is known, with its age', async () => {
      await until(
        'it is known to be down',
        async () => (await far.ok(['status'])).stdout.includes('offline'),
        30_000,
      );
      const known: [string[], RegExp][] = [
        [['status'], /^⚠ zone @main \(ssh zone, offline for \d+s/],
        [['crew'], /\? mechanic\.1 .*\(as of \d+s ago\)/],
        [['queue'], /^⚠ zone does not answer: it had 1 task \d+s ago$/m],
        [['list'], /^org\/app@main +ssh zone/m],
        [['list', 'crews'], /mechanic\.1/],
        [['list', 'crews'], /^⚠ zone: offline, as of \d+s ago$/m],
        [['list', 'tasks'], /^⚠ zone.* \(offline for \d+s\): what runs or needs you, as of \d+s ago$/m],
        [['list', 'tasks'], new RegExp(`^${running} +mechanic\\.1 +active`, 'm')],
        [['diff'], /^as of \d+s ago$/m],
        [['patch', 'list'], /^in +1 file to pull +\(as of \d+s ago\)$/m],
        [['patch', 'show', 'in'], /^\+made$/m],
      ];
      for (const [words, said] of known) {
        const ran = await far.khlone(words);
        expect({ words, code: ran.code, said: ran.stdout + ran.stderr }).toMatchObject({
          ...{ words, code: 0 },
          said: expect.stringMatching(said),
        });
        expect(ran.ms, words.join(' ')).toBeLessThan(AT_ONCE_MS);
      }
    }, 60_000);

    it('is told by watch at once, which waits for it', async () => {
      const watching = far.start(['watch']);
      const begun = performance.now();
      await until('it says so', () => watching.stderr().includes('reconnecting to zone'), 5_000);
      expect(performance.now() - begun).toBeLessThan(AT_ONCE_MS);
      watching.signal('SIGINT');
      expect((await watching.ended).code).toBe(130);
    });

    it('lets a task be waited for that is known, or named by its whole id, for as long as was asked', async () => {
      const words = ['await', '--timeout', '1s'];
      for (const id of [running, running.slice(0, -3), task]) {
        const late = await far.khlone([...words, id]);
        expect([late.code, late.stderr]).toEqual([
          124,
          expect.stringMatching(
            /^\[await\] task: reconnecting to zone\n✗ task-\w+ is not done yet; it goes on\n/,
          ),
        ]);
        expect(late.ms).toBeLessThan(AT_ONCE_MS + SOON_MS);
      }
      expect(await far.khlone([...words, 'task-zz'])).toMatchObject({ code: 4 });
    });

    it('is told in one line with the next step by a command that needs the host', async () => {
      const next = String.raw`zone.* \(offline for \d+s\)\n {2}↳ .*khlone reconnect.*\n$`;
      const needy: [string[], string][] = [
        [['log'], '^✗ the transcript cannot be read: '],
        [['log', '--task', task], `^✗ task ${task} is not known here, and `],
        [['pull'], '^✗ nothing was pulled: '],
        [['cancel', 'nosuch'], '^✗ task nosuch is not known here, and '],
        [['status', '--task', task], `^✗ task ${task} is not known here, and `],
        [['queue', 'pause'], '^✗ '],
      ];
      // Together: each of them only waits.
      const rans = await Promise.all(needy.map(([words]) => far.khlone(words)));
      for (const [n, [words, said]] of needy.entries()) {
        const ran = rans[n];
        const stderr = expect.stringMatching(new RegExp(`${said}${next}`));
        expect({ words, ...ran }).toMatchObject({ words, code: 4, stdout: '', stderr });
        expect(ran?.ms, words.join(' ')).toBeLessThan(3_000);
      }
    });

    it('has a cancel queued of a task that is known by its whole id or was seen at work, and a sync as well', async () => {
      // One by its whole id, the other by a part of what was last seen of it.
      for (const [id, word] of [
        [task, task],
        [running, running.slice(0, -3)],
      ] as const) {
        const cancelled = await far.ok(['cancel', word]);
        expect(cancelled.stderr).toBe(`⚠ cancel ${id} [queued here: zone unreachable]\n`);
        expect(cancelled.ms).toBeLessThan(2_000);
      }
      write(far, 'mine', 'mine too\n');
      const synced = await far.ok(['sync']);
      expect(synced.stderr).toMatch(/queued here: zone unreachable/m);
      expect(synced.ms).toBeLessThan(2_000);
    });

    it('is used again by the very command that meets it whole', async () => {
      cut(false);
      const pulled = await far.ok(['pull']);
      expect(pulled.stderr).toContain('✓ 1 file pulled');
      expect(pulled.ms).toBeLessThan(SOON_MS);
      expect(existsSync(join(far.repo, 'made'))).toBe(true);
      await until('nothing waits here', () => outbox().length === 0, 10_000);
      expect((await far.ok(['status', '--task', running])).stdout).toMatch(/ cancel(led|ling)/);
      expect(existsSync(join(far.zone, 'mine'))).toBe(true);
    });
  },
  60_000,
);
