import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { until } from '../fixtures/khlone.ts';
import { sshdMissing } from '../fixtures/sshd.ts';
import { layRoad, NEAR, openRoad, type Road, roadMissing } from './far-road.ts';
import { createFarWorld, type FarWorld } from './far-world.ts';

/** Outages as a kernel makes them: packets that vanish, retransmissions that double, interfaces that go. */

const LONG = process.env.KHLONE_LONG === '1';
const OUTAGES_MS = LONG ? [1_000, 3_000, 6_000, 12_000, 25_000, 60_000] : [4_000, 9_000];
const missing = sshdMissing ?? roadMissing;

const hangUp = (pid: number): void => {
  try {
    process.kill(pid, 'SIGKILL');
  } catch {
    // It ended by itself in between.
  }
};

describe.skipIf(missing)(`a road that goes away${missing ? ` (${missing})` : ''}`, () => {
  let far: FarWorld;
  let road: Road;
  let laid: ReturnType<typeof layRoad> | undefined;
  const note = (word: string) => ['act', '--who', 'mechanic.1', `echo ${word} >> away`];
  const lines = (): string[] => readFileSync(join(far.zone, 'away'), 'utf8').trim().split('\n');
  const isSent = (): boolean => readdirSync(far.home.outbox).every((name) => !/^\d+\.json$/.test(name));

  beforeAll(async () => {
    laid = layRoad();
    far = await createFarWorld({ sshd: { config: [`ListenAddress ${NEAR}`] } });
    road = await openRoad(far.sshd, laid);
    await far.ok(['act', '--who', '@sh', '--await', 'echo first >> away']);
  }, 60_000);
  afterAll(async () => {
    await far?.dispose();
    if (road) road.close();
    else laid?.remove();
  });

  /** One outage with an act in its middle: when its work was done afterwards, and how long such an act takes after a drop. */
  const outage = async (word: string, awayMs: number, go: () => void, back: () => void) => {
    go();
    const acting = far.ok(note(word));
    await delay(awayMs);
    back();
    const returned = performance.now();
    await until('it ran', () => lines().includes(word), 20_000);
    const tookMs = performance.now() - returned;
    expect((await acting).ms).toBeLessThan(4_000);
    await until('nothing waits here', isSent, 5_000);
    expect(lines().filter((line) => line === word)).toHaveLength(1);
    for (const pid of far.sshd.sessions()) hangUp(pid);
    const usualMs = (await far.ok([...note('usual'), '--await'])).ms;
    console.log(`${word}: done after ${Math.round(tookMs)} ms (after a drop: ${Math.round(usualMs)} ms)`);
    return { tookMs, usualMs };
  };

  for (const awayMs of OUTAGES_MS) {
    it(
      `serves within a second when packets vanished for ${awayMs / 1000} s`,
      async () => {
        const { tookMs, usualMs } = await outage(`hole-${awayMs}`, awayMs, road.swallow, road.restore);
        expect(tookMs).toBeLessThan(1_000 + usualMs);
      },
      60_000 + awayMs,
    );
  }

  it('serves within a second when the interface is up again', async () => {
    const { tookMs, usualMs } = await outage('unplugged', LONG ? 25_000 : 5_000, road.unplug, road.plug);
    expect(tookMs).toBeLessThan(1_000 + usualMs);
  }, 90_000);

  it('is found again at once on another network after long absence, by the interface alone', async () => {
    road.unplug();
    await far.ok(note('moved'));
    await delay(LONG ? 120_000 : 3_000);
    road.plug();
    const returned = performance.now();
    await until('it was sent', isSent, 5_000);
    expect(performance.now() - returned).toBeLessThan(3_000);
    await until('it ran', () => lines().includes('moved'), 20_000);
  }, 180_000);
});
