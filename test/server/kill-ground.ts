import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { expect } from 'vitest';
import type { ZoneSpec } from '../../src/protocol/calls.ts';
import type { FaultName } from '../../src/protocol/fault-point.ts';
import type { Peer } from '../../src/protocol/peer.ts';
import {
  addTask,
  answerOf,
  bringEnvironment,
  call,
  ENDS,
  journalOf,
  makeZone,
  newId,
  processesWith,
  type Seen,
  startServer,
  type Task,
  type TestServer,
  until,
  type Wish,
} from '../fixtures/server.ts';

/** A home whose server is told where to die, and everything that was promised to whoever sent tasks to it. */

/** What is sent at once. `ends`: how each of its tasks has to end when only the server died. */
export type Scenario = {
  name: string;
  tasks: { kind: 'act' | 'ask'; who: string; script(token: string): string; ends: string }[];
  /** The tasks are cancelled once each of them began. */
  cancelled?: true;
  /** They are sent to the server before, which is killed when the first of them runs. */
  before?: true;
};

type Sent = { id: string; token: string; kind: 'act' | 'ask'; who: string; ends: string };

const ROUND_MS = 30_000;

/** Where the server dies, at the how many-th passing, and with what to do. */
export type Step = readonly [point: FaultName, nth: number, scenario: Scenario];

export type Ground = {
  server: TestServer;
  zone: ZoneSpec;
  kills: number;
  /** Plays steps in a row, each with the server that was started when the one before died. */
  play(steps: readonly Step[], fresh: boolean): Promise<void>;
  /** Everything that was sent came to its end; then what was promised of it is looked at. */
  check(): Promise<void>;
};

export const makeGround = async (): Promise<Ground> => {
  const server = await startServer();
  const zone = makeZone(server);
  const sent: Sent[] = [];
  const told: Seen[] = [];
  let rounds = 0;
  let onLost = (): void => {};
  let peer: Promise<Peer> | undefined;

  /** Repeats a call, on a new connection and so perhaps to a new server, until it is answered. */
  const persist = async <T>(work: (peer: Peer) => Promise<T>): Promise<T> => {
    const end = performance.now() + ROUND_MS;
    for (;;) {
      try {
        peer ??= server.peer();
        return await work(await peer);
      } catch (thrown) {
        peer = undefined;
        onLost();
        const { code = '' } = thrown as { code?: string };
        const again = ['unreachable', 'start-failed', 'shutting-down'].includes(code);
        if (!again || performance.now() > end) throw thrown;
        await delay(5);
      }
    }
  };
  const taskOf = (id: string): Promise<Task> =>
    persist(async (live) => (await call<{ task: Task }>(live, 'task.get', { task: id })).task);
  const bring = (): Promise<unknown> => persist((live) => bringEnvironment(live, server, zone));

  const send = async (scenario: Scenario, fresh: boolean): Promise<Sent[]> => {
    const mine: Sent[] = [];
    for (const { kind, who, script, ends } of scenario.tasks) {
      const task = { id: newId(), token: `token-${sent.length}`, kind, who, ends };
      const wish: Wish = { id: task.id, kind, who, session: fresh ? task.id : 's' };
      await persist((live) => addTask(live, zone, script(task.token), wish));
      sent.push(task);
      mine.push(task);
    }
    await bring();
    return mine;
  };
  const begun = ({ id }: Sent): Promise<void> =>
    until('its beginning', async () => (await taskOf(id)).state === 'active', ROUND_MS);
  const cancel = async (mine: Sent[]): Promise<void> => {
    for (const { id, token } of mine) {
      await until('its effect', () => tokensIn(zone).includes(token));
      await persist((live) => call(live, 'task.cancel', { task: id }));
    }
  };
  /** A server that was started anew knows no environment, which the next connection of a hub brings. */
  const ended = async (mine: readonly Sent[]): Promise<boolean> => {
    await bring();
    for (const { id } of mine) if (!ENDS.includes((await taskOf(id)).state)) return false;
    return true;
  };
  /** What a watcher sees that goes on from its cursor. */
  const readOn = async (): Promise<void> => {
    const last = told.at(-1);
    const from = last ? { epoch: last.epoch, seq: last.seq } : 'start';
    told.push(...(await persist((live) => journalOf(live, zone, from))));
  };

  const ground: Ground = {
    ...{ server, zone, kills: 0 },
    play: async (steps, fresh) => {
      const marks = steps.map((_, i) => join(server.work, `died-${rounds + i}`));
      rounds += steps.length;
      const arm = (i: number): void => {
        const [point, nth] = steps[i] ?? [];
        if (point) server.env.KHLONE_FAULT = `${point}:${nth}:${marks[i]}`;
        armed = i;
      };
      let armed = -1;
      for (const [i, [point, nth, scenario]] of steps.entries()) {
        // The next server is told where to die when it is started, which is when this one died.
        onLost = () => {
          if (armed === i && existsSync(marks[i] ?? '')) arm(i + 1);
        };
        const earlier = scenario.before && (await send(scenario, fresh));
        if (earlier?.[0]) await begun(earlier[0]);
        if (armed !== i || earlier) {
          arm(i);
          await server.kill9();
        }
        const mine = earlier ?? (await send(scenario, fresh));
        if (scenario.cancelled) await cancel(mine);
        await until(`the end of ${scenario.name} at ${point}:${nth}`, () => ended(mine), ROUND_MS);
        expect(existsSync(marks[i] ?? ''), `${point}:${nth} was passed in ${scenario.name}`).toBe(true);
        ground.kills += 1;
      }
      await readOn();
    },
    check: async () => {
      onLost = () => {};
      delete server.env.KHLONE_FAULT;
      await checkTasks(sent, zone, (id) => persist((live) => answerOf(live, id)));
      await readOn();
      const whole = await persist((live) => journalOf(live, zone));
      expect(told, 'what was told from cursor to cursor is the journal').toEqual(whole);
      checkJournal(whole, sent);
      await server.stop(false);
      expect(processesWith(`TMPDIR=${server.home.zonesDir}`), 'processes left behind').toEqual([]);
    },
  };
  return ground;
};

export const tokensIn = (zone: ZoneSpec): string[] =>
  existsSync(join(zone.path, 'tokens'))
    ? readFileSync(join(zone.path, 'tokens'), 'utf8').split('\n').filter(Boolean)
    : [];

/** Every task ended as it has to, and what acts did was done once, in the order of their receipts. */
const checkTasks = async (
  sent: readonly Sent[],
  zone: ZoneSpec,
  look: (id: string) => Promise<{ task: Task; answer: string }>,
): Promise<void> => {
  for (const { id, token, kind, ends } of sent) {
    const { task, answer } = await look(id);
    expect(task, token).toMatchObject({ id, state: ends });
    if (kind === 'ask' && ends === 'done') expect(answer).toBe(token);
  }
  for (const who of new Set(sent.map((task) => task.who))) {
    const acts = sent.filter((task) => task.who === who && task.kind === 'act').map((task) => task.token);
    expect(
      tokensIn(zone).filter((token) => acts.includes(token)),
      who,
    ).toEqual(acts);
  }
};

const countOf = (items: readonly Seen[], type: string, state?: string): number =>
  items.filter(({ event }) => event.type === type && (state === undefined || event.state === state)).length;

/** No event is missing, none is told twice: of one turn, one beginning, one text, one end. */
const checkJournal = (items: readonly Seen[], sent: readonly Sent[]): void => {
  expect(items.map(({ seq }) => seq)).toEqual(items.map((_, i) => i + 1));
  for (const { id, token, ends } of sent) {
    const own = items.filter((item) => item.task === id);
    expect(countOf(own, 'tool.start'), `beginnings of ${token}`).toBe(1);
    expect(countOf(own, 'task', ends), `ends of ${token}`).toBe(1);
    const said = own.flatMap(({ event }) => (event.type === 'text' ? [event.text] : [])).join('');
    if (ends === 'done') expect(said.trim(), `words of ${token}`).toBe(token);
  }
};
