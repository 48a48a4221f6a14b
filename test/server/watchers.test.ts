import { readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { afterAll, beforeAll, expect, test } from 'vitest';
import type { ZoneSpec } from '../../src/protocol/calls.ts';
import type { Peer } from '../../src/protocol/peer.ts';
import {
  addTask,
  call,
  makeZone,
  POLICY,
  type Seen,
  startZone,
  type TestServer,
  until,
} from '../fixtures/server.ts';

/** Watchers of one journal: a stalled one costs nobody anything. */

let server: TestServer;
let peer: Peer;
let zone: ZoneSpec;
beforeAll(async () => {
  ({ server, peer, zone } = await startZone());
});
afterAll(() => server.dispose());

const rssMb = (): number => {
  const status = readFileSync(`/proc/${server.pid()}/status`, 'utf8');
  return Number(/VmRSS:\s+(\d+) kB/.exec(status)?.[1] ?? 0) / 1024;
};

const READERS = 4;
const STALLED = 24;
/** Lines of 100 bytes: 30 MB of events for every watcher. */
const LINES = 300_000;
/** Far below the 800 MB that wait for the stalled watchers, far above the noise of a garbage collector. */
const GROWTH_MB = 300;

test('watchers that never read hold no memory of the server, and the others get everything once and in order', {
  timeout: 90_000,
}, async () => {
  const leave = new AbortController();
  const { task } = await addTask(peer, zone, 'true');
  const subscription = { zone: zone.id, from: 'start', until: 'never' };
  for (let i = 0; i < STALLED; i++) {
    const own = await server.peer();
    // The answer is there, and its body is never read.
    await own.call('subscribe', subscription, { signal: leave.signal });
  }
  const before = rssMb();
  const line = 'x'.repeat(99);
  const big = await addTask(peer, zone, `yes ${line} | head -n ${LINES}`);
  const read = async (): Promise<{ seqs: number[]; chars: number }> => {
    const own = await server.peer();
    const seqs: number[] = [];
    let chars = 0;
    for await (const raw of own.subscribe(subscription, leave.signal)) {
      const { seq, task: id, event } = raw as Seen;
      seqs.push(seq);
      if (event.type === 'text' && id === big.task.id) chars += event.text?.length ?? 0;
      if (id === big.task.id && event.state === 'done') break;
    }
    return { seqs, chars };
  };
  const readers = await Promise.all(Array.from({ length: READERS }, read));
  for (const { seqs, chars } of readers) {
    expect(chars).toBe(LINES * 100);
    expect(seqs).toEqual(seqs.map((_, i) => i + 1));
  }
  expect(rssMb() - before).toBeLessThan(GROWTH_MB);
  expect(task.state).toBe('queued');
  leave.abort();
});

test('the server takes only so many watchers, says so, and takes new ones when some left', async () => {
  const quiet = makeZone(server);
  await call(peer, 'zone.open', { zone: quiet, policy: POLICY });
  const subscription = { zone: quiet.id, from: 'live', until: 'never' };
  const isTaken = async (on: Peer): Promise<boolean> => {
    const answer = await on.call('subscribe', subscription).catch((error: { code: string }) => error.code);
    if (answer === 'rate-limited') return false;
    expect(answer).toHaveProperty('body');
    return true;
  };
  const [one, two, other] = [await server.peer(), await server.peer(), await server.peer()];
  const at = [...Array.from({ length: 200 }, () => one), ...Array.from({ length: 100 }, () => two)];
  const taken = await Promise.all(at.map(isTaken));
  expect(taken.filter(Boolean).length).toBeLessThanOrEqual(256);
  expect(taken.filter(Boolean).length).toBeGreaterThan(200);
  expect(await isTaken(other)).toBe(false);
  one.close();
  await until('a place for a watcher', () => isTaken(other));
  for (const open of [two, other]) open.close();
});

test('a watcher that leaves a quiet zone frees its place while its connection goes on', async () => {
  const own = await server.peer();
  for (let i = 0; i < 300; i++) {
    const leave = new AbortController();
    const watcher = own.subscribe({ zone: zone.id, from: 'live', until: 'never' }, leave.signal);
    const next = watcher[Symbol.asyncIterator]().next();
    await own.call('zone.get', { zone: zone.id });
    leave.abort();
    await expect(next).rejects.toMatchObject({ code: 'interrupted' });
  }
});

/** Descriptors of the server on journals of a zone: one at most is its own, for writing. */
const journalsOpen = (of: ZoneSpec): number => {
  const fds = `/proc/${server.pid()}/fd`;
  const target = (fd: string): string => {
    try {
      return readlinkSync(`${fds}/${fd}`);
    } catch {
      return '';
    }
  };
  return readdirSync(fds).filter((fd) => target(fd).includes(`/${of.id}/events/`)).length;
};

test('a watcher that leaves in the middle, in whatever way, closes what it read from', async () => {
  const subscription = { zone: zone.id, from: 'start', until: 'never' };
  await until('earlier watchers to have left', () => journalsOpen(zone) <= 1);
  const stalled = async (signal?: AbortSignal): Promise<Peer> => {
    const own = await server.peer();
    await own.call('subscribe', subscription, signal && { signal });
    return own;
  };
  const leave = new AbortController();
  const cut = await Promise.all(Array.from({ length: 10 }, () => stalled()));
  const aborted = await Promise.all(Array.from({ length: 10 }, () => stalled(leave.signal)));
  await until('all to read', () => journalsOpen(zone) >= 20);
  for (const own of cut) own.close();
  leave.abort();
  for (let i = 0; i < 10; i++) {
    const own = await server.peer();
    for await (const _ of own.subscribe(subscription, AbortSignal.timeout(10_000))) break;
    own.close();
  }
  await until('the end of their files', () => journalsOpen(zone) <= 1);
  for (const own of aborted) own.close();
});
