import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { openPersonTerminal } from '../fixtures/person-terminal.ts';
import { until } from '../fixtures/server.ts';
import { sshdMissing } from '../fixtures/sshd.ts';
import { createFarWorld, type FarWorld, idOf } from './far-world.ts';
import { type FaultLine, faultLine } from './fault-line.ts';

const BYTES_PER_SECOND = 150_000;
const DROPPED_MS = process.env.KHLONE_LONG === '1' ? 60_000 : 6_000;
/** Answers that may be missed because this machine is busy itself: a link that is taken for dead stays so for longer. */
const MAX_UNSURE = 2;
const NOISE_BYTES = (process.env.KHLONE_LONG === '1' ? 60 : 8) * BYTES_PER_SECOND;

/** The terminals that look into the host's zones, by the pid of tmux's client. */
const viewers = ({ farHome }: FarWorld): string =>
  execFileSync('tmux', ['-S', join(farHome, 'server/tmux.sock'), 'list-clients', '-F', '#{client_pid}'], {
    encoding: 'utf8',
  });

describe.skipIf(sshdMissing)(`a slow line${sshdMissing ? ` (${sshdMissing})` : ''}`, () => {
  let far: FarWorld;
  let line: FaultLine;
  beforeAll(async () => {
    far = await createFarWorld();
    // The server is there already: this is about work, not about the first set-up.
    await far.ok(['act', '--who', '@sh', '--await', 'true']);
    await far.ok(['zone', 'del', '--force', '--yes']);
    await far.ok(['stop']);
    line = await faultLine(far.sshd);
    line.rate.up = BYTES_PER_SECOND;
  });
  afterAll(async () => {
    await far?.dispose();
    line?.close();
  });

  it('full of code is not taken for a dead one, and lets a word through meanwhile', async () => {
    const noise = randomBytes(NOISE_BYTES);
    writeFileSync(join(far.repo, 'noise'), noise);
    const act = await far.ok(['act', '--who', '@sh', 'wc -c < noise']);
    expect(act.stderr).toContain('preparing zone');
    const waits: number[] = [];
    let unsure = 0;
    for (;;) {
      const { stdout, ms } = await far.ok(['status']);
      waits.push(ms);
      if (!stdout.includes('preparing')) break;
      expect(stdout).toMatch(/\(ssh zone, (connected|silent for \ds)\)/);
      if (!stdout.includes('connected')) unsure += 1;
    }
    expect(unsure).toBeLessThanOrEqual(MAX_UNSURE);
    expect((await far.ok(['await', idOf(act)])).stdout.trim()).toBe(String(NOISE_BYTES));
    expect(readFileSync(join(far.zone, 'noise')).equals(noise)).toBe(true);
    expect(line.connections()).toBe(1);
    const sorted = waits.toSorted((a, b) => a - b);
    console.log(
      `status beside the upload: median ${Math.round(sorted[sorted.length >> 1] ?? 0)} ms, worst ${Math.round(sorted.at(-1) ?? 0)} ms of ${waits.length}`,
    );
    expect(sorted[sorted.length >> 1]).toBeLessThan(1_000);
    expect(sorted.at(-1)).toBeLessThan(2_500);
  }, 150_000);

  it('that becomes 60 times slower in the middle is not taken for a dead one', async () => {
    await far.khlone(['zone', 'del', '--force', '--yes']);
    line.rate.up = 60 * BYTES_PER_SECOND;
    // A file alone would be over what is carried.
    for (const n of [1, 2, 3]) writeFileSync(join(far.repo, `more-${n}`), randomBytes(8 * 1024 * 1024));
    const carried = line.carried.up;
    const act = await far.ok(['act', '--who', '@sh', 'cat more-* | wc -c']);
    const before = line.connections();
    await until('a quarter is there', () => line.carried.up - carried > 6 * 1024 * 1024);
    line.rate.up = BYTES_PER_SECOND;
    const isCalm = async () => (await far.ok(['status'])).stdout.includes('(ssh zone, connected)');
    // What was sent at the old rate lies before the next word: for that long nobody is sure.
    await until('words pass again', isCalm, 10_000);
    let unsure = 0;
    const end = performance.now() + DROPPED_MS;
    while (performance.now() < end) {
      const { stdout } = await far.ok(['status']);
      expect(stdout).toContain('preparing');
      expect(stdout).toMatch(/\(ssh zone, (connected|silent for \ds)\)/);
      if (!stdout.includes('connected')) unsure += 1;
    }
    expect(unsure).toBeLessThanOrEqual(MAX_UNSURE);
    line.rate.up = Number.POSITIVE_INFINITY;
    expect((await far.ok(['await', idOf(act)])).stdout.trim()).toBe(String(24 * 1024 * 1024));
    expect(line.connections()).toBe(before);
  }, 150_000);

  it('that becomes 60 times slower is not told as a lost one to a person who looks into the zone', async () => {
    line.rate.up = Number.POSITIVE_INFINITY;
    await far.ok(['act', '--who', '@sh', '--await', 'true']);
    const at = await openPersonTerminal(far);
    try {
      await at.line('clear; khlone attach --shell; echo "code=$?"');
      await at.until(/org\/app\/main/);
      line.rate.up = 60 * BYTES_PER_SECOND;
      for (const n of [4, 5, 6]) writeFileSync(join(far.repo, `more-${n}`), randomBytes(8 * 1024 * 1024));
      const carried = line.carried.up;
      const before = line.connections();
      const looking = viewers(far);
      expect(looking).toMatch(/\d/);
      const syncing = far.start(['sync']);
      await until('a quarter is there', () => line.carried.up - carried > 6 * 1024 * 1024);
      line.rate.up = BYTES_PER_SECOND;
      for (const end = performance.now() + DROPPED_MS; performance.now() < end; await delay(50))
        expect(await at.screen()).not.toContain('reconnecting');
      line.rate.up = Number.POSITIVE_INFINITY;
      expect((await syncing.ended).stderr).toContain('3 files sent');
      expect(line.connections()).toBe(before);
      // A way that was opened anew would have another tmux client at its end.
      expect(viewers(far)).toBe(looking);
      await at.line('exit 7');
      await at.until(/code=7/);
    } finally {
      await at.end();
    }
  }, 150_000);
});
