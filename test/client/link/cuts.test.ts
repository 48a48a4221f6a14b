import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Duplex } from 'node:stream';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { App } from '../../../src/client/app.ts';
import { createFlusher } from '../../../src/client/flush.ts';
import { createLink } from '../../../src/client/link/connection.ts';
import type { Link } from '../../../src/client/link/link.ts';
import { openOutbox } from '../../../src/client/outbox.ts';
import { createPeer, items } from '../../../src/protocol/peer.ts';
import { waitingTask as task, ZONE } from '../../fixtures/waiting-task.ts';

/** A conversation that breaks after each of its bytes in turn, at every border of a frame and within each. */

const HELLO = { proto: 1, build: '1.0.0', uuid: 'u', boot: 'b', home: '/', host: 'h' };
const TASKS = 3;
const EVENTS = 5;

type Way = 'up' | 'down';
/** Two ends; after `cutBytes` in one direction both are gone, and what was over the limit never arrived. */
const breakable = (way: Way | undefined, cutBytes: number) => {
  const carried = { up: 0, down: 0 };
  const end = (mine: Way, other: () => Duplex): Duplex =>
    new Duplex({
      read: () => {},
      write: (chunk: Buffer, _encoding, done) => {
        const room = mine === way ? cutBytes - carried[mine] : Number.POSITIVE_INFINITY;
        carried[mine] += chunk.length;
        if (room > 0) other().push(chunk.subarray(0, Math.min(room, chunk.length)));
        done();
        if (chunk.length < room) return;
        setImmediate(() => {
          near.destroy(new Error('reset'));
          far.destroy(new Error('reset'));
        });
      },
    });
  const near: Duplex = end('up', () => far);
  const far: Duplex = end('down', () => near);
  return { near, far, carried };
};

let dir: string;
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'khlone-cuts-'));
});
afterEach(() => rmSync(dir, { recursive: true }));

/** Sends three tasks and reads five events over a line whose first connection breaks at a byte. */
const talk = async (way: Way | undefined, cutBytes: number) => {
  const accepted: string[] = [];
  const seen: number[] = [];
  const first = breakable(way, cutBytes);
  let dials = 0;
  const serve = (far: Duplex): void => {
    createPeer(far, {
      hello: () => ({ value: HELLO }),
      'task.add': ({ params }) => {
        const { id } = params as { id: string };
        if (!accepted.includes(id)) accepted.push(id);
        const view = { id, zone: ZONE.id, clone: 'mechanic.1', kind: 'act', title: 't', session: 's-1' };
        const state = { attempt: 1, state: 'queued', prioritized: false, createdMs: 1 };
        const facts = { enrolled: false, zoneMade: false, repeated: false, needsEnvironment: false };
        return { value: { task: { ...view, ...state }, ...facts, needsCode: false, notes: [] } };
      },
      subscribe: ({ params }) => {
        const { after } = params as { after: number };
        const source = async function* () {
          for (let seq = after + 1; seq <= EVENTS; seq += 1) yield { seq };
        };
        return { value: {}, body: items(source()), klass: 'interactive' };
      },
    });
  };
  const link: Link = createLink({
    ...{ name: 'box', build: '1.0.0', pings: true, events: {} },
    dial: async () => {
      dials += 1;
      const { near, far } = dials === 1 ? first : breakable(undefined, 0);
      serve(far);
      return { duplex: near, close: () => near.destroy() };
    },
  });
  const app = {
    ...{ outbox: openOutbox(dir), link: () => link, bindings: { all: () => [] } },
    redial: { soon: () => {} },
  } as unknown as App;
  const flush = createFlusher(() => app);
  for (let n = 1; n <= TASKS; n += 1) app.outbox.put(task(n));
  for (let tries = 0; tries < 5 && (app.outbox.first('box') || seen.length < EVENTS); tries += 1) {
    try {
      const { peer } = await link.connect({ env: {}, ask: undefined });
      await flush('box');
      for await (const item of peer.subscribe({ after: seen.at(-1) ?? 0 }, new AbortController().signal))
        seen.push((item as { seq: number }).seq);
    } catch {
      // It broke: the next try goes on where this one was.
    }
  }
  link.close();
  return { accepted, seen, dials, carried: first.carried, refused: app.outbox.refused() };
};

const ALL = {
  accepted: [1, 2, 3]
    .map((n) => task(n))
    .flatMap(({ call }) => ('id' in call.params ? [call.params.id] : [])),
  seen: [1, 2, 3, 4, 5],
  refused: [],
};

describe('a conversation that breaks', () => {
  for (const way of ['up', 'down'] as const) {
    it(`after any byte ${way} loses, doubles and reorders nothing`, async () => {
      const whole = await talk(undefined, 0);
      expect(whole).toMatchObject({ ...ALL, dials: 1 });
      // Prime, so that it falls anywhere in a frame.
      const step = process.env.KHLONE_LONG === '1' ? 1 : 13;
      let broken = 0;
      for (let bytes = 1; bytes < whole.carried[way]; bytes += step) {
        rmSync(dir, { recursive: true });
        const cut = await talk(way, bytes);
        expect(cut, `after ${bytes} bytes ${way}`).toMatchObject(ALL);
        broken += cut.dials - 1;
      }
      console.log(`${way}: ${broken} breaks in ${whole.carried[way]} bytes`);
      // The last bytes are receipts, which nobody waits for.
      expect(broken).toBeGreaterThanOrEqual(Math.floor(whole.carried[way] / step) - 3);
    }, 600_000);
  }
});
