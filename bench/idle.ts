import { setTimeout as delay } from 'node:timers/promises';
import { createFarWorld } from '../test/ssh/far-world.ts';
import { cpuMs, rssMb, wakeUps } from './process.ts';
import { LONG, median, type Row } from './row.ts';

/**
 * What a hub with one link and a server with one clone take while nobody does anything. The wake-ups are those of the
 * usual second: a heartbeat now and then is no polling.
 */

/** Both sides are compared once after the last command, and that is over then. */
const SETTLE_MS = 16_000;
const SECONDS = LONG ? 60 : 20;
const REACH_MB = 80;

type Resident = 'hub' | 'server';

export const benchIdle = async (): Promise<Row[]> => {
  const far = await createFarWorld();
  try {
    await far.ok(['act', '--who', '@sh', '--await', 'true']);
    await far.ok(['status']);
    await delay(SETTLE_MS);
    const pids: Record<Resident, number> = { hub: far.hubPid() ?? 0, server: far.farServerPid() ?? 0 };
    const wakes: Record<Resident, number[]> = { hub: [], server: [] };
    const cpu = { hub: cpuMs(pids.hub), server: cpuMs(pids.server) };
    for (let second = 0; second < SECONDS; second += 1) {
      const before = { hub: wakeUps(pids.hub), server: wakeUps(pids.server) };
      await delay(1_000);
      for (const name of ['hub', 'server'] as const) wakes[name].push(wakeUps(pids[name]) - before[name]);
    }
    return (['hub', 'server'] as const).flatMap((name): Row[] => {
      const mb = rssMb(pids[name]);
      const perSecond = median(wakes[name]);
      const mean = wakes[name].reduce((sum, one) => sum + one, 0) / SECONDS;
      const took = (cpuMs(pids[name]) - cpu[name]) / SECONDS;
      return [
        {
          ...{ name: `${name} idle with a link, memory`, value: mb, unit: 'MB', anchor: '–' },
          ...{ target: `≤ ${REACH_MB} MB`, ok: mb <= REACH_MB },
        },
        {
          ...{ name: `${name} idle with a link, wake-ups`, value: perSecond, unit: '/s' },
          anchor: `mean ${mean.toFixed(1)} /s, CPU ${took.toFixed(1)} ms/s`,
          ...{ target: '≤ 1 /s', ok: perSecond <= 1 },
        },
      ];
    });
  } finally {
    await far.dispose();
  }
};
