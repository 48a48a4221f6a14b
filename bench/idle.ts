import { setTimeout as delay } from 'node:timers/promises';
import { createFarWorld } from '../test/ssh/far-world.ts';
import { cpuMs, rssMb, wakeUps } from './process.ts';
import { LONG, type Row } from './row.ts';

/** What a hub with one link and a server with one clone take while nobody does anything. */

const SETTLE_MS = 16_000;
const WATCHED_MS = LONG ? 60_000 : 20_000;
const REACH_MB = 80;

export const benchIdle = async (): Promise<Row[]> => {
  const far = await createFarWorld();
  try {
    await far.ok(['act', '--who', '@sh', '--await', 'true']);
    await far.ok(['status']);
    await delay(SETTLE_MS);
    const pids = { hub: far.hubPid() ?? 0, server: far.farServerPid() ?? 0 };
    const look = (pid: number) => ({ wakes: wakeUps(pid), cpu: cpuMs(pid), mb: rssMb(pid) });
    const before = { hub: look(pids.hub), server: look(pids.server) };
    await delay(WATCHED_MS);
    const seconds = WATCHED_MS / 1000;
    return (['hub', 'server'] as const).flatMap((name): Row[] => {
      const now = look(pids[name]);
      const wakes = (now.wakes - before[name].wakes) / seconds;
      const cpu = (now.cpu - before[name].cpu) / seconds;
      return [
        {
          ...{ name: `${name} idle with a link, memory`, value: now.mb, unit: 'MB', anchor: '–' },
          ...{ target: `≤ ${REACH_MB} MB`, ok: now.mb <= REACH_MB },
        },
        {
          ...{ name: `${name} idle with a link, wake-ups`, value: wakes, unit: '/s' },
          ...{ anchor: `CPU ${cpu.toFixed(1)} ms/s`, target: '≤ 1 /s', ok: wakes <= 1 },
        },
      ];
    });
  } finally {
    await far.dispose();
  }
};
