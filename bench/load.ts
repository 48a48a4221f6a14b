import { setTimeout as delay } from 'node:timers/promises';
import type { ZoneSpec } from '../src/protocol/calls.ts';
import type { Peer } from '../src/protocol/peer.ts';
import { hostPlaces } from '../src/server/places.ts';
import {
  addTask,
  bringEnvironment,
  makeZone,
  POLICY,
  type Seen,
  startServer,
} from '../test/fixtures/server.ts';
import { cpuMs, rssMb } from './process.ts';
import { percentile, type Row } from './row.ts';

/**
 * A busy server: 16 clones that print 20 lines a second each, through the real run loop, to 64 watchers on connections of
 * their own, half of whom read nothing. An event's time is from the line's printing to its arrival at a watcher.
 */

const CLONES = 16;
/** A machine with few cores lets fewer clones work at a time: each then prints so much more. */
const WORKING = Math.min(CLONES, hostPlaces());
const LINES_PER_SECOND = (CLONES * 20) / WORKING;
const READERS = 32;
const STALLED = 32;
const WARM_MS = 3_000;
const MEASURED_MS = 12_000;
const ACK_EVERY_MS = 50;
const TASK_SECONDS = 25;
const policy = { ...POLICY, maxClones: CLONES, maxQueue: 10_000 };

/** Prints the time, 20 times a second, without a process for each line. */
const PRINTER = `exec bash -c 'exec {f}<> <(:); for ((i = 0; i < ${TASK_SECONDS * LINES_PER_SECOND}; i++)); do
  echo "at \${EPOCHREALTIME/[.,]/}"; read -r -t ${1 / LINES_PER_SECOND} -u $f; done'`;

const AT = /at (\d+)\n?/g;

/** Follows a zone for as long as the signal lets it, and keeps how old each line was when it came. */
const follow = async (peer: Peer, zone: ZoneSpec, ages: number[], signal: AbortSignal): Promise<void> => {
  try {
    for await (const raw of peer.subscribe({ zone: zone.id, from: 'live', until: 'never' }, signal)) {
      const nowMs = performance.timeOrigin + performance.now();
      const { event } = raw as Seen;
      if (event.type !== 'text') continue;
      for (const [, us] of (event.text ?? '').matchAll(AT)) ages.push(nowMs - Number(us) / 1000);
    }
  } catch (thrown) {
    if (!signal.aborted) throw thrown;
  }
};

const acks = async (peer: Peer, zone: ZoneSpec, untilMs: number): Promise<number[]> => {
  const times: number[] = [];
  while (performance.now() < untilMs) {
    const begun = performance.now();
    await addTask(peer, zone, 'true', { who: 'mechanic.1', policy });
    times.push(performance.now() - begun);
    await delay(ACK_EVERY_MS);
  }
  return times;
};

const bar = (name: string, value: number, unit: string, reach: number): Row => ({
  ...{ name: `server under load: ${name}`, value, unit, anchor: '–' },
  ...{ target: `< ${reach} ${unit}`, ok: value < reach },
});

export const benchLoad = async (): Promise<Row[]> => {
  const server = await startServer();
  const leave = new AbortController();
  try {
    const peer = await server.peer();
    const zone = makeZone(server);

    await bringEnvironment(peer, server, zone);
    for (let n = 1; n <= WORKING; n += 1)
      await addTask(peer, zone, PRINTER, { who: 'mechanic@sh++', policy });
    const subscription = { zone: zone.id, from: 'live', until: 'never' };
    for (let i = 0; i < STALLED; i += 1)
      await (await server.peer()).call('subscribe', subscription, { signal: leave.signal });
    const ages: number[] = [];
    const readers: Promise<void>[] = [];
    for (let i = 0; i < READERS; i += 1) readers.push(follow(await server.peer(), zone, ages, leave.signal));
    await delay(WARM_MS);
    ages.length = 0;
    const pid = server.pid() ?? 0;
    const [cpu, begun] = [cpuMs(pid), performance.now()];
    const times = await acks(await server.peer(), zone, begun + MEASURED_MS);
    const share = ((cpuMs(pid) - cpu) * 100) / (performance.now() - begun);
    const seen = ages.length;
    const wanted = WORKING * LINES_PER_SECOND * READERS * (MEASURED_MS / 1000);
    const memory = rssMb(pid);
    leave.abort();
    await Promise.all(readers);
    return [
      bar('memory', memory, 'MB', 150),
      bar('CPU', share, '% of a core', 25),
      { ...bar('event p99', percentile(ages, 0.99), 'ms', 100), anchor: `${seen} of about ${wanted} lines` },
      { ...bar('ack p99', percentile(times, 0.99), 'ms', 50), anchor: `${times.length} enqueues` },
    ];
  } finally {
    await server.dispose();
  }
};
