import { execFileSync } from 'node:child_process';
import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { setTimeout as delay } from 'node:timers/promises';
import type { ZoneSpec } from '../../src/protocol/calls.ts';
import type { Peer } from '../../src/protocol/peer.ts';
import {
  addTask,
  bringEnvironment,
  call,
  ENDS,
  kill9,
  makeZone,
  newId,
  POLICY,
  processesWith,
  type Seen,
  startServer,
  type TestServer,
} from '../fixtures/server.ts';

/** A home under torture: clients that send, a watcher that reads on from its cursor, and a killer. */

/** A seeded generator (mulberry32): a failed run is repeated by its seed. */
export const seeded = (seed: number): (() => number) => {
  let a = seed;
  return () => {
    a = (a + 0x6d2b79f5) | 0;
    let t = Math.imul(a ^ (a >>> 15), 1 | a);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
};

export type Sent = { id: string; token: string; kind: 'act' | 'ask'; cancelled: boolean };
/** What one client sent to one clone, in the order of its receipts. */
export type Line = { zone: ZoneSpec; who: string; sent: Sent[] };
export type Watched = { zone: ZoneSpec; seqs: number[]; gaps: number; ends: Map<string, string[]> };

export type Ground = {
  server: TestServer;
  lines: Line[];
  watched: Watched[];
  kills: Record<string, number>;
  /** Kills one thing at a random moment. */
  round(): Promise<void>;
  /** No more kills and no more tasks: waits until every task came to an end. */
  settle(deadlineMs: number): Promise<void>;
  dispose(): Promise<void>;
};

const MAX_AHEAD = 4;
const PROGRESS_MS = 1_000;
const WHO = ['mechanic', 'reviewer'];
const TOKENS = 'tokens';

/** The words of a task. An act appends its token to a file by one write, sooner or later. */
const promptOf = (token: string, kind: 'act' | 'ask', dice: number): string => {
  if (kind === 'ask') return dice < 0.5 ? `echo ${token}` : `sleep 0.03; echo ${token}`;
  const effect = `echo ${token} >> ${TOKENS}`;
  if (dice < 0.4) return effect;
  if (dice < 0.7) return `${effect}; echo some; sleep 0.05; echo more`;
  return `sleep 0.04; ${effect}`;
};

export const tokensIn = (zone: ZoneSpec): string[] =>
  existsSync(join(zone.path, TOKENS))
    ? readFileSync(join(zone.path, TOKENS), 'utf8').split('\n').filter(Boolean)
    : [];

/** A connection that is made anew whenever it was lost; calls are repeated, with the same ids, until one is answered. */
const createClient = (server: TestServer, isOver: () => boolean) => {
  let peer: Promise<Peer> | undefined;
  const connected = async (): Promise<Peer> => {
    peer ??= server.peer();
    const live = await peer;
    void live.closed.then(() => {
      peer = undefined;
    });
    return live;
  };
  const again = new Set(['unreachable', 'start-failed', 'shutting-down', 'timeout']);
  const persist = async <T>(work: (peer: Peer) => Promise<T>): Promise<T> => {
    for (;;) {
      try {
        return await work(await connected());
      } catch (thrown) {
        peer = undefined;
        const { code } = thrown as { code?: string };
        if (isOver() || code === undefined || !again.has(code)) throw thrown;
        await delay(5);
      }
    }
  };
  return { persist, close: async () => void (await peer?.catch(() => undefined))?.close() };
};

const runProcesses = (server: TestServer): number[] =>
  processesWith(`TMPDIR=${server.home.zonesDir}`).filter((pid) => {
    try {
      return readFileSync(`/proc/${pid}/environ`, 'latin1').includes('KHLONE_RUN=');
    } catch {
      return false;
    }
  });

const runners = (server: TestServer, zones: readonly ZoneSpec[]): number[] =>
  zones.flatMap((zone) => {
    const dir = join(server.home.zonesDir, zone.id, 'runs');
    const runs = existsSync(dir) ? readdirSync(dir) : [];
    return runs.flatMap((run) => {
      const meta = join(dir, run, 'meta.json');
      if (!existsSync(meta) || existsSync(join(dir, run, 'exit'))) return [];
      const { pid } = JSON.parse(readFileSync(meta, 'utf8')) as { pid: number };
      return existsSync(`/proc/${pid}`) ? [pid] : [];
    });
  });

/** What there is to see when a task does not end: the processes, the latest runs, and the words of the server. */
const evidence = (server: TestServer): string => {
  const ps = execFileSync('ps', ['-eo', 'pid,ppid,stat,etimes,args'], { encoding: 'utf8' }).split('\n');
  const own = new Set(server.processes().map(String));
  const db = new DatabaseSync(server.home.stateDb, { readOnly: true });
  const rows = db.prepare('SELECT * FROM runs WHERE live = 1').all();
  const tasks = db
    .prepare(
      `SELECT id, state, clone, run, uuid, attempt, effect, hold, ${Date.now()} - since_ms AS age_ms
       FROM tasks WHERE state NOT IN ('done', 'failed', 'cancelled')`,
    )
    .all();
  const inputs = db.prepare('SELECT clone, run, off, length(bytes) AS size FROM inputs').all();
  db.close();
  const runs = readdirSync(server.home.zonesDir, { recursive: true, withFileTypes: true })
    .filter(
      (entry) =>
        entry.isFile() &&
        /\/runs\//.test(entry.parentPath) &&
        statSync(join(entry.parentPath, entry.name)).mtimeMs > Date.now() - 120_000,
    )
    .map(
      (entry) =>
        `${entry.parentPath}/${entry.name}: ${readFileSync(join(entry.parentPath, entry.name), 'utf8').slice(-600)}`,
    );
  const said = readFileSync(server.home.bootLog('server'), 'utf8');
  const living = ps.filter((line) => own.has(line.trim().split(' ')[0] ?? ''));
  return [living.join('\n'), JSON.stringify({ rows, tasks, inputs }, null, 1), runs.join('\n'), said].join(
    '\n---\n',
  );
};

export const makeGround = async (random: () => number): Promise<Ground> => {
  const server = await startServer();
  const zones = [makeZone(server), makeZone(server)];
  const lines = zones.flatMap((zone) => WHO.map((who): Line => ({ zone, who, sent: [] })));
  const watched = zones.map((zone): Watched => ({ zone, seqs: [], gaps: 0, ends: new Map() }));
  const kills: Record<string, number> = { server: 0, tmux: 0, runner: 0, brain: 0 };
  let feeding = true;
  let over = false;
  const leave = new AbortController();
  const one = createClient(server, () => over);

  const pick = <T>(list: readonly T[]): T | undefined => list[Math.floor(random() * list.length)];
  const endsOf = (zone: ZoneSpec): Map<string, string[]> =>
    watched.find((w) => w.zone.id === zone.id)?.ends ?? new Map();
  const bring = (zone: ZoneSpec): Promise<unknown> =>
    one.persist((peer) => bringEnvironment(peer, server, zone));

  const send = async (line: Line): Promise<void> => {
    const { zone, who } = line;
    const task: Sent = {
      ...{ id: newId(), token: `${who}-${line.sent.length}` },
      ...{ kind: random() < 0.8 ? 'act' : 'ask', cancelled: random() < 0.08 },
    };
    const prompt = promptOf(task.token, task.kind, random());
    const added = await one.persist((peer) =>
      addTask(peer, zone, prompt, { id: task.id, kind: task.kind, who, session: who }),
    );
    line.sent.push(task);
    if (added.needsEnvironment) await bring(zone);
    if (task.cancelled) await one.persist((peer) => call(peer, 'task.cancel', { task: task.id }));
  };
  const feed = async (line: Line): Promise<void> => {
    while (feeding) {
      const open = line.sent.filter(({ id }) => !endsOf(line.zone).has(id)).length;
      if (open < MAX_AHEAD) await send(line);
      else await delay(5);
    }
  };
  const note = (w: Watched, item: Seen & { gap?: unknown }): void => {
    if (item.gap) {
      w.gaps += 1;
      return;
    }
    w.seqs.push(item.seq);
    if (item.event.type !== 'task' || !item.task || !ENDS.includes(item.event.state ?? '')) return;
    w.ends.set(item.task, [...(w.ends.get(item.task) ?? []), item.event.state ?? '']);
  };
  const watch = async (w: Watched): Promise<void> => {
    let from: unknown = 'start';
    while (!leave.signal.aborted) {
      try {
        const peer = await server.peer();
        for await (const raw of peer.subscribe({ zone: w.zone.id, from, until: 'never' }, leave.signal)) {
          const item = raw as Seen;
          note(w, item);
          from = { epoch: item.epoch, seq: item.seq };
        }
      } catch {
        await delay(5);
      }
    }
  };
  /** What a hub does on every connection: a server that was killed has no environments. */
  const keepEnvironments = async (): Promise<void> => {
    while (!over) {
      for (const zone of zones) await bring(zone);
      await delay(20);
    }
  };

  const victims: Record<string, () => number | undefined> = {
    server: () => server.pid(),
    tmux: () => server.tmuxPid(),
    runner: () => pick(runners(server, zones)),
    brain: () => pick(runProcesses(server)),
  };
  const told = (): number => watched.reduce((sum, w) => sum + w.seqs.length, 0);
  /** Something has to go on between two kills, or nothing is ever met in its middle. */
  const progress = async (): Promise<void> => {
    const before = told();
    const end = performance.now() + PROGRESS_MS;
    while (told() < before + 3 && performance.now() < end) await delay(3);
  };
  const round = async (): Promise<void> => {
    await progress();
    await delay(random() * 80);
    const what = pick(['server', 'server', 'server', 'runner', 'brain', 'brain', 'tmux']) ?? 'server';
    const victim = victims[what]?.();
    if (victim === undefined) return round();
    kill9([victim]);
    kills[what] = (kills[what] ?? 0) + 1;
  };

  for (const zone of zones) await one.persist((peer) => call(peer, 'zone.open', { zone, policy: POLICY }));
  for (const zone of zones) await bring(zone);
  const busy = [...lines.map(feed), keepEnvironments(), ...watched.map(watch)];
  const failed = Promise.race(busy.map((work) => work.then(() => new Promise<never>(() => {}))));
  failed.catch(() => {});

  return {
    server,
    lines,
    watched,
    kills,
    round: () => Promise.race([round(), failed]),
    settle: async (deadlineMs) => {
      feeding = false;
      const end = performance.now() + deadlineMs;
      const isSettled = (): boolean =>
        lines.every(({ zone, sent }) => sent.every(({ id }) => endsOf(zone).has(id)));
      await Promise.race([failed, Promise.all(busy.slice(0, lines.length))]);
      while (!isSettled() && performance.now() < end) await Promise.race([failed, delay(20)]);
      if (!isSettled()) console.log(evidence(server));
      over = true;
      leave.abort();
      await Promise.all(busy);
      await one.close();
    },
    dispose: async () => {
      feeding = false;
      over = true;
      leave.abort();
      await Promise.allSettled(busy);
      await server.dispose();
    },
  };
};
