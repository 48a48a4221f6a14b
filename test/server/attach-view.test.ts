import { duplexPair } from 'node:stream';
import { expect, test } from 'vitest';
import { createPeer } from '../../src/protocol/peer.ts';
import { follow, newPlace } from '../../src/server/attach/view.ts';

/** What a viewer's pane prints, where the server is ahead of what was read from it. */

const ZONE = 'z-0123456789abcdef';
const clone = { name: 'mechanic.1', role: 'mechanic', brain: 'sh', state: 'idle', queued: 0 };
const zone = {
  ...{ id: ZONE, address: 'org/app@main', branch: 'main', mode: 'local', path: '/app', state: 'ready' },
  ...{ epoch: 'e', seq: 2, paused: false, crew: [clone], attention: [], costUsd: 0, tokens: 0 },
};
const item = (seq: number, state: string) => ({
  ...{ epoch: 'e', seq, atMs: seq, task: 'task-0000000000', clone: 'mechanic.1' },
  event: { type: 'task', state, kind: 'act', title: 'mend the roof' },
});

async function* lines(items: readonly unknown[]): AsyncGenerator<Uint8Array> {
  for (const one of items) yield Buffer.from(`${JSON.stringify(one)}\n`);
}

test('a clone is told to be idle only below the line that ended its task', async () => {
  const [near, far] = duplexPair();
  createPeer(far, {
    'zone.get': () => ({ value: { zone } }),
    // The task ends between the past and what comes live: by then the server knows it, and the view does not.
    subscribe: ({ params }) => {
      const isPast = (params as { until?: string }).until === 'now';
      return { value: {}, body: lines(isPast ? [item(1, 'active')] : [item(2, 'done')]) };
    },
  });
  const printed: string[] = [];
  const world = {
    zone: ZONE,
    clone: 'mechanic.1',
    print: (all: readonly string[]) => void printed.push(...all),
  };
  const peer = createPeer(near, {});
  await follow(peer, world, newPlace());
  peer.close();
  const found = (words: string): number => printed.findIndex((line) => line.includes(words));
  expect(printed.filter((line) => line.includes('idle'))).toHaveLength(1);
  expect(found('idle')).toBe(printed.length - 1);
  expect(found('done')).toBeGreaterThanOrEqual(0);
});

test('a flood is shown at ease: the view asks for the newest, rests, and says what passed', async () => {
  const [near, far] = duplexPair();
  const words = (seq: number) => ({
    ...{ epoch: 'e', seq, atMs: seq, task: 'task-0000000000', clone: 'mechanic.1' },
    event: { type: 'text', text: `${'x'.repeat(99_999)}\n`, final: false },
  });
  const asked: unknown[] = [];
  let state = 'idle';
  createPeer(far, {
    'zone.get': () => ({ value: { zone: { ...zone, crew: [{ ...clone, state, title: 'mend' }] } } }),
    subscribe: ({ params }) => {
      asked.push((params as { newest?: number }).newest);
      if ((params as { until?: string }).until === 'now')
        return { value: {}, body: lines([item(1, 'done')]) };
      state = 'active';
      const gap = { epoch: 'e', gap: { from: 2, to: 41, kept: true } };
      return { value: {}, body: lines([gap, ...Array.from({ length: 30 }, (_, i) => words(42 + i))]) };
    },
  });
  const printed: string[] = [];
  const world = {
    zone: ZONE,
    clone: 'mechanic.1',
    print: (all: readonly string[]) => void printed.push(...all),
  };
  const place = newPlace();
  const begunMs = performance.now();
  const peer = createPeer(near, {});
  await follow(peer, world, place);
  peer.close();
  expect(asked.every((newest) => newest === asked[0] && Number(newest) > 1_000_000)).toBe(true);
  const passed = printed.findIndex((line) => line.includes('more was printed meanwhile'));
  expect(passed).toBeGreaterThan(0);
  // The words that said so are among those that passed.
  expect(printed.findIndex((line) => line.includes('at work: mend'))).toBeGreaterThan(passed);
  expect(printed.filter((line) => line.includes('at work'))).toHaveLength(1);
  expect(printed.filter((line) => line.includes('xxx'))).toHaveLength(30);
  expect(place.cursor).toEqual({ epoch: 'e', seq: 71 });
  expect(performance.now() - begunMs).toBeGreaterThan(900);
});
