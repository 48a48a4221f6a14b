import { readFileSync } from 'node:fs';
import { afterAll, beforeAll, expect, test } from 'vitest';
import {
  addTask,
  bringEnvironment,
  makeZone,
  startServer,
  type TestServer,
  until,
  untilTask,
} from '../fixtures/server.ts';
import { askTmux, endOf, openViewer, paneOf, SIZE } from './attach-ground.ts';

/** A clone that prints without end, and terminals that do not read: neither costs the other anything. */

let server: TestServer;
beforeAll(async () => {
  server = await startServer();
});
afterAll(() => server.dispose());

const HERO = { kind: 'view', clone: 'mechanic.1' } as const;
/** What the clone prints, in MB, and what may be held at most meanwhile: 125 and 25 were measured. */
const FLOOD_MB = 30;
const MOST_SERVER_MB = 150;
const MOST_TMUX_MB = 60;
const MOST_VIEW_MB = 140;

const textOf = (path: string): string => {
  try {
    return readFileSync(path, 'latin1');
  } catch {
    return '';
  }
};
const commandOf = (pid: number): string => textOf(`/proc/${pid}/cmdline`);
const residentMb = (pid: number | undefined): number =>
  Number(/^VmRSS:\s+(\d+)/m.exec(textOf(`/proc/${pid}/status`))?.[1] ?? 0) / 1024;

test('five viewers of a flood, one of them stopped, leave the server small and the clone fast', async () => {
  const peer = await server.peer();
  const zone = makeZone(server);
  await bringEnvironment(peer, server, zone);
  const { task } = await addTask(peer, zone, 'true');
  await untilTask(peer, zone, task.id);
  const viewers = [];
  for (const columns of [40, 80, 100, 150, 200]) {
    const stalled = await server.peer();
    viewers.push(await openViewer(stalled, zone, HERO, { size: { columns, rows: SIZE.rows } }));
  }
  for (const { viewer } of viewers) await until('a view', () => paneOf(server, viewer).includes('is empty'));
  viewers[0]?.stall();

  let mostServer = 0;
  let mostTmux = 0;
  const pid = server.pid();
  let mostView = 0;
  const watch = setInterval(() => {
    const views = server.processes().filter((one) => commandOf(one).includes('\0view\0'));
    mostView = Math.max(mostView, ...views.map(residentMb));
    mostServer = Math.max(mostServer, residentMb(pid));
    mostTmux = Math.max(mostTmux, residentMb(server.tmuxPid()));
  }, 200);
  const line = 'x'.repeat(99);
  const flood = await addTask(peer, zone, `yes ${line} | head -c ${FLOOD_MB}000000; echo the end`);
  await untilTask(peer, zone, flood.task.id, undefined, 60_000);
  for (const { viewer } of viewers.slice(1)) {
    await until('the end of the flood', () => paneOf(server, viewer).includes('is empty'), 60_000);
  }
  clearInterval(watch);
  expect(mostServer).toBeLessThan(MOST_SERVER_MB);
  expect(mostTmux).toBeLessThan(MOST_TMUX_MB);
  expect(mostView).toBeLessThan(MOST_VIEW_MB);
  expect(
    Number(askTmux(server, 'display-message', '-p', '-t', `=${viewers[1]?.viewer}:`, '#{history_size}')),
  ).toBeGreaterThan(1000);
  for (const { viewer } of viewers) await endOf(peer, viewer);
}, 120_000);
