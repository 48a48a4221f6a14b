import { getEventListeners } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import type { App } from '../../src/client/app.ts';
import { awaitTask } from '../../src/client/await-task.ts';
import type { Binding } from '../../src/client/bindings.ts';
import type { Caller } from '../../src/client/caller.ts';
import { createFlusher } from '../../src/client/flush.ts';
import { type RelayFloor, relayAttach } from '../../src/client/hub/attach-relay.ts';
import { createZoneWatch } from '../../src/client/hub/zone-watch.ts';
import { greet } from '../../src/client/link/greet.ts';
import { hostArgv } from '../../src/client/link/ssh-config.ts';
import { type Entry, openOutbox } from '../../src/client/outbox.ts';
import { zoneStatus } from '../../src/client/zone-status.ts';
import { KhloneError } from '../../src/protocol/error.ts';
import { homeOf } from '../../src/protocol/home.ts';
import { type Call, createPeer, type Handlers, items } from '../../src/protocol/peer.ts';
import { peers, socketPair, until } from '../protocol/wire.ts';

/** Servers that fail, stay when they should go, or say nothing: over real sockets. */

const TASK = 'task-0000000001';
const ZONE = {
  ...{ id: 'z-0123456789abcdef', address: 'o/r@b', branch: 'b', mode: 'ssh' as const, path: '~/p' },
};
const VIEW = {
  ...{ id: TASK, zone: ZONE.id, clone: 'mechanic.1', kind: 'act', title: 't', session: 's-1', attempt: 1 },
  ...{ state: 'active', prioritized: false, createdMs: 1 },
};
const ACCEPTED = {
  ...{ task: VIEW, enrolled: false, zoneMade: false, repeated: false, needsEnvironment: true },
  ...{ needsCode: false, notes: [] },
};
const POLICY = {
  ...{ heroRole: 'mechanic', brains: {}, roles: {}, maxClones: 4, maxQueue: 9, sandbox: 'zone' as const },
  trusted: true,
};
const ENTRY: Omit<Entry, 'version'> = {
  ...{ host: 'box', queuedMs: 1, say: 'act true' },
  call: {
    name: 'task.add',
    params: {
      ...{ id: TASK, kind: 'act', prompt: 'true', zone: ZONE, policy: POLICY, session: 's-1' },
      prioritize: false,
    },
  },
};

let dir: string;
const open: (() => Promise<void> | void)[] = [];
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'khlone-odd-'));
});
afterEach(async () => {
  for (const close of open.splice(0)) await close();
  rmSync(dir, { recursive: true });
});

/** A hub as far as sending and waiting need one, connected to a server with these answers. */
const appTo = async (handlers: Handlers): Promise<App> => {
  const { near, close } = await peers(handlers);
  open.push(close);
  const connected = { peer: near, server: { uuid: 'u', boot: 'b', build: '1', host: 'h', home: '/' } };
  const app: unknown = {
    outbox: openOutbox(dir),
    home: homeOf({ KHLONE_HOME: dir }),
    link: () => ({ name: 'box', current: () => connected }),
    environments: new Map([[ZONE.id, { A: 'b' }]]),
    bindings: { all: () => [] },
    flush: createFlusher(() => app as App),
  };
  return app as App;
};

describe('what waits in the outbox', () => {
  test('is sent again after a fault that may pass, and is not told as failed', async () => {
    let calls = 0;
    const app = await appTo({
      'task.add': () => {
        calls += 1;
        if (calls === 1) throw new KhloneError('internal', 'a bug');
        return { value: calls === 2 ? { odd: 'shape' } : { ...ACCEPTED, needsEnvironment: false } };
      },
    });
    app.outbox.put(ENTRY);
    for (const code of ['internal', 'invalid-request']) {
      await expect(app.flush('box')).rejects.toMatchObject({ code });
      expect(app.outbox.list('box')).toHaveLength(1);
    }
    await app.flush('box');
    expect([calls, app.outbox.list().length, app.outbox.refused().length]).toEqual([3, 0, 0]);
  });

  test('is refused after a few such faults, so that what is behind it goes on', async () => {
    const app = await appTo({
      'task.add': () => {
        throw new KhloneError('internal', 'a bug that stays');
      },
    });
    app.outbox.put(ENTRY);
    const isRefused = (): boolean => app.outbox.refused().length > 0;
    let tries = 0;
    vi.useFakeTimers({ toFake: ['performance'] });
    try {
      for (; !isRefused() && tries < 20; tries += 1) {
        vi.advanceTimersByTime(5_000);
        // Commands that come in a row are one try.
        for (let n = 0; n < 10 && !isRefused(); n += 1) await app.flush('box').catch(() => {});
      }
    } finally {
      vi.useRealTimers();
    }
    expect(tries).toBe(6);
    expect(app.outbox.list()).toEqual([]);
    expect(app.outbox.refused()).toMatchObject([{ id: TASK, message: 'a bug that stays' }]);
  });

  test('is not thrown away with the state before it, which could not be sent', async () => {
    const app = await appTo({});
    const stateOf = (letter: string): Omit<Entry, 'version'> => ({
      ...{ host: 'box', queuedMs: 1, say: 'sync' },
      call: { name: 'patch.sync', params: { zone: ZONE.id, tree: letter.repeat(40), files: 1 } },
    });
    let asked = 0;
    const byZone = (): undefined => {
      asked += 1;
      // A person queues the next state while this one is refused.
      if (asked === 1) app.outbox.put(stateOf('b'));
    };
    Object.assign(app, { bindings: { all: () => [], byZone } });
    app.outbox.put(stateOf('a'));
    await app.flush('box');
    expect([asked, app.outbox.list()]).toEqual([2, []]);
    expect(app.outbox.refused().map(({ id }) => id)).toEqual(['b'.repeat(40)]);
  });

  test('is not held for a person where it is a cancel: a server anew has no such task, and says so', async () => {
    const app = await appTo({
      'task.cancel': () => {
        throw new KhloneError('not-found', `no task ${TASK}`);
      },
    });
    const call = { name: 'task.cancel' as const, params: { task: TASK } };
    app.outbox.put({ host: 'box', sentTo: 'one that is gone', queuedMs: 1, say: `cancel ${TASK}`, call });
    await app.flush('box');
    expect(app.outbox.list()).toEqual([]);
    expect(app.outbox.refused()).toMatchObject([{ id: TASK, message: `no task ${TASK}` }]);
  });

  test('is sent when its task was accepted, whatever comes of its environment', async () => {
    let environments = 0;
    const app = await appTo({
      'task.add': () => ({ value: ACCEPTED }),
      'zone.environment': () => {
        environments += 1;
        throw new KhloneError('internal', 'no memory');
      },
    });
    app.outbox.put(ENTRY);
    await app.flush('box');
    expect([environments, app.outbox.list().length, app.outbox.refused().length]).toEqual([1, 0, 0]);
  });
});

test('a wait asks a server that ends every stream at once no more than once a second', async () => {
  let streams = 0;
  const app = await appTo({
    'task.get': () => ({ value: { task: VIEW } }),
    subscribe: () => {
      streams += 1;
      return { value: null, body: items((async function* () {})()) };
    },
  });
  const leave = new AbortController();
  const said = { out: () => {}, err: () => {} };
  const caller = { signal: leave.signal, env: {}, marks: {}, ...said } as unknown as Caller;
  const wish = { task: TASK, answer: false, progress: false, timeoutMs: 400, json: false, quiet: true };
  const waiting = awaitTask(app, caller, { host: 'box' } as Binding, wish);
  await expect(waiting).rejects.toMatchObject({ code: 'timeout' });
  expect(streams).toBe(1);
});

test('what a server tells of another zone is not taken for this one', async () => {
  const told = {
    ...{ ...ZONE, id: 'z-ffffffffffffffff', state: 'ready', epoch: 'e', seq: 1, paused: false },
    ...{ crew: [], attention: [], costUsd: 0, tokens: 7 },
  };
  let asked = 0;
  const app = await appTo({
    'zone.get': () => {
      asked += 1;
      return { value: { zone: told } };
    },
    subscribe: () => ({ value: null, body: items((async function* () {})()) }),
  });
  const put: unknown[] = [];
  const binding = {
    zone: ZONE.id,
    host: 'box',
    root: '/w',
    gitDir: dir,
    ...ZONE,
    usedMs: Date.now(),
  } as unknown as Binding;
  Object.assign(app, {
    ...{ known: { get: () => undefined, put: (view: unknown) => put.push(view), touch: () => {} } },
    ...{ redial: { nextTryMs: () => undefined }, carrier: { trouble: () => undefined } },
    auto: { told: () => undefined },
    bindings: { all: () => [binding] },
  });
  const link = app.link('box');
  app.link = () => ({ ...link, state: () => 'online', lastSeenMs: () => 1, dialing: () => false });
  const caller = { cwd: '/', signal: new AbortController().signal } as unknown as Caller;
  expect((await zoneStatus(app, caller, binding)).view).toMatchObject({ id: ZONE.id, tokens: 0 });
  const watch = createZoneWatch(() => app);
  const connected = link.current();
  if (connected) watch.follow('box', connected);
  await until(() => asked === 2);
  await connected?.peer.call('zone.get', {});
  watch.stop();
  expect(put).toEqual([]);
});

test('what happens between the first look at a zone and the watch over it is not missed', async () => {
  let asked = 0;
  const seen: unknown[] = [];
  // The task ended just after the view was taken.
  const item = { epoch: 'e', seq: 6, atMs: 1, event: { type: 'task', state: 'done', kind: 'act' } };
  const app = await appTo({
    'zone.get': () => {
      asked += 1;
      const view = { ...ZONE, state: 'ready', epoch: 'e', seq: asked === 1 ? 5 : 6, paused: false };
      return { value: { zone: { ...view, crew: [], attention: [], costUsd: 0, tokens: 0 } } };
    },
    subscribe: ({ params, signal }) => {
      const { from } = params as { from: 'live' | { seq: number } };
      const missed = from === 'live' || from.seq >= 6 ? [] : [item];
      const told = async function* () {
        yield* missed;
        await new Promise((resolve) => signal.addEventListener('abort', resolve));
      };
      return { value: null, body: items(told()) };
    },
  });
  const binding = { zone: ZONE.id, host: 'box', usedMs: Date.now() } as unknown as Binding;
  Object.assign(app, {
    known: { put: ({ seq }: { seq: number }) => seen.push(seq), touch: () => {} },
    bindings: { all: () => [binding] },
  });
  const watch = createZoneWatch(() => app);
  const connected = app.link('box').current();
  if (connected) watch.follow('box', connected);
  await until(() => seen.length === 2);
  watch.stop();
  expect(seen).toEqual([5, 6]);
});

test('a terminal that asks for a host again and again leaves nothing behind with the hub', async () => {
  const stopping = new AbortController().signal;
  const away = new KhloneError('unreachable', 'box does not answer');
  const app = {
    link: () => ({ current: () => undefined, connect: () => Promise.reject(away) }),
    bindings: { all: () => [{ host: 'box' }] },
  };
  const floor = { app, channels: {}, stopping, leaving: false } as unknown as RelayFloor;
  const params = { host: 'box', env: {}, name: 'attach.end', params: {} };
  for (let n = 0; n < 5; n += 1) {
    const call = { params, body: undefined, signal: new AbortController().signal } as unknown as Call;
    await expect(relayAttach(floor, call)).rejects.toMatchObject({ code: 'unreachable' });
  }
  expect(getEventListeners(stopping, 'abort')).toEqual([]);
});

test('an older server that answers and stays is left after 10 s, and used as it is', async () => {
  let asked = 0;
  const dial = async () => {
    const [near, far] = await socketPair();
    const server = createPeer(far, {
      hello: () => ({ value: { proto: 1, build: '1.0.0', uuid: 'u', boot: 'b', home: '/', host: 'h' } }),
      stop: () => {
        asked += 1;
        return { value: { ended: 0 } };
      },
    });
    open.push(() => server.close());
    return { duplex: near, close: () => near.destroy() };
  };
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
  let greeted: Awaited<ReturnType<typeof greet>> | undefined;
  try {
    const greeting = greet(dial, { build: '2.0.0', local: false }).then((made) => {
      greeted = made;
    });
    const later = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));
    for (let n = 0; n < 10_000 && asked === 0; n += 1) await later();
    for (let n = 0; n < 100; n += 1) await later();
    expect([asked, greeted]).toEqual([1, undefined]);
    await vi.advanceTimersByTimeAsync(10_000);
    await greeting;
  } finally {
    vi.useRealTimers();
  }
  expect(greeted?.made.server.build).toBe('1.0.0');
  await until(() => open.length === 2);
  greeted?.made.peer.close();
});

test('ssh gets the user and the port of a host as it was written', () => {
  expect(hostArgv('box')).toEqual(['--', 'box']);
  expect(hostArgv('me@box:2222')).toEqual(['-l', 'me', '-p', '2222', '--', 'box']);
  expect(hostArgv('me@[::1]:22')).toEqual(['-l', 'me', '-p', '22', '--', '::1']);
  expect(() => hostArgv('-oProxyCommand=x')).toThrow(KhloneError);
});
