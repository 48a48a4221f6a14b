import { mkdirSync, statfsSync } from 'node:fs';
import { createServer } from 'node:net';
import { homedir } from 'node:os';
import { dirname, join } from 'node:path';
import { setShEntry } from '../brains/registry.ts';
import { KhloneError } from '../protocol/error.ts';
import type { Home } from '../protocol/home.ts';
import { removeServerHome } from '../protocol/leave.ts';
import { createPeer, type Handlers } from '../protocol/peer.ts';
import {
  holdLifeLock,
  listenByRename,
  signalReady,
  socketFolder,
  socketPathIn,
} from '../protocol/resident.ts';
import { createViewers, type Viewers } from './attach/viewers.ts';
import { baseEnvironment } from './environment.ts';
import { createHall, type Hall } from './hall.ts';
import { attachRoutes, withFarewell } from './handlers/attach.ts';
import { hangUpOnSilence, LONG_SILENCE } from './handlers/attended.ts';
import { codeRoutes } from './handlers/code.ts';
import { machineRoutes } from './handlers/machine.ts';
import { patchRoutes } from './handlers/patches.ts';
import { subscribeHandler } from './handlers/subscribe.ts';
import { taskRoutes } from './handlers/tasks.ts';
import { uninstallRoutes } from './handlers/uninstall.ts';
import { zoneRoutes } from './handlers/zones.ts';
import { startRetention } from './retention.ts';
import { bootId } from './run-dir.ts';
import { openStore, type Store } from './store/store.ts';
import { createSurvey, fallbackBrain } from './survey.ts';
import { createHolder, type Holder } from './tmux/panes.ts';
import { expandHome } from './zone-paths.ts';
import { removeZone } from './zone-removal.ts';

/** The resident khlone-server: lock, open, recover, listen, until it is told to stop. */

/** Connections at once; each is a hub, a relay or a clone's own command. */
const MAX_CONNECTIONS = 512;
/** Below this much free space nothing new is accepted, so that what runs can still be recorded. */
const DISK_MIN_BYTES = 64 * 1024 * 1024;

/** How long an answer about free space holds, in milliseconds. */
const DISK_LOOK_MS = 200;
/** A clone's process that waits for work is ended after this long and resumed on demand. */
const IDLE_MS = 10 * 60_000;

const diskCheck = (dir: string): (() => void) => {
  let lookedAtMs = -Infinity;
  let free = 0;
  return () => {
    const now = performance.now();
    if (now - lookedAtMs > DISK_LOOK_MS) {
      const { bavail, bsize } = statfsSync(dir);
      free = bavail * bsize;
      lookedAtMs = now;
    }
    if (free > DISK_MIN_BYTES) return;
    const hint = 'free some space, then try again';
    throw new KhloneError('disk-low', `the disk with ${dir} is nearly full`, hint);
  };
};

export type ServeSpec = {
  home: Home;
  build: string;
  /** The running bundle: it is the built-in brain too, and must stay readable in a view. */
  entry: string;
  /** How long a clone's process may wait for work; for tests. */
  idleMs?: number;
  log(line: string): void;
};

type Parts = { store: Store; hall: Hall; holder: Holder; viewers: Viewers; handlers: Handlers };

/** The longest path of a socket that the probe of a view makes. */
const PROBED_SOCKET = 'khlone view-123456/hidden/socket';

type Ends = { stop(keep: boolean): Promise<number>; leave(): Promise<void> };

const assemble = (spec: ServeSpec, { stop, leave }: Ends): Parts => {
  const { home } = spec;
  setShEntry([spec.entry]);
  const store = openStore(home.stateDb, home.zonesDir);
  const survey = createSurvey(socketFolder(home.root, home.serverDir, PROBED_SOCKET));
  const base = baseEnvironment(process.env, homedir());
  const boot = bootId();
  const tmuxSocket = join(socketFolder(home.root, home.serverDir, 'tmux.sock'), 'tmux.sock');
  const holder = createHolder({
    socketPath: tmuxSocket,
    configPath: home.tmuxConfig,
    path: base.PATH ?? '',
  });
  const hall = createHall({
    store,
    zonesDir: home.zonesDir,
    home: home.root,
    holder,
    boot,
    readable: [spec.entry, process.execPath],
    probe: survey.probe,
    view: survey.view,
    log: spec.log,
    idleMs: spec.idleMs ?? IDLE_MS,
    baseEnvironment: base,
  });
  const viewers = createViewers({
    ...{
      store,
      holder,
      socketPath: tmuxSocket,
      dir: join(home.serverDir, 'viewers'),
      bundle: spec.entry,
    },
    ...{ home: home.root, baseEnvironment: base, environmentOf: hall.environmentOf, log: spec.log },
  });
  const deps = {
    hall,
    zonesDir: home.zonesDir,
    expandPath: expandHome,
    viewNote: survey.viewNote,
    assertDisk: diskCheck(home.serverDir),
    fallbackBrain: fallbackBrain(store, (zone) => ({ ...base, ...hall.environmentOf(zone) })),
    removeZone: removeZone(home.serverDir),
    // A tmux that is gone took the window along, and one that does not answer is told of elsewhere.
    forgetPane: (clone: string) => void holder.end(clone).catch(() => undefined),
  };
  const handlers: Handlers = {
    ...Object.fromEntries([
      ...machineRoutes({ store, build: spec.build, boot, home: home.root, survey: survey.machine, stop }),
      ...taskRoutes(deps),
      ...withFarewell(zoneRoutes(deps), viewers),
      ...attachRoutes(viewers),
      ...codeRoutes(deps),
      ...uninstallRoutes({ ...deps, leave }),
      ...patchRoutes(deps),
    ]),
    subscribe: subscribeHandler(store),
  };
  return { store, hall, holder, viewers, handlers };
};

/** Every clone with something left to do gets its loop: what ran is judged by proof, what waits is looked at. */
const recover = ({ store, hall }: Parts): void => {
  const rows = store.all<{ clone: number }>(
    `SELECT DISTINCT clone FROM tasks WHERE state NOT IN ('done', 'failed', 'cancelled')
     UNION SELECT clone FROM runs WHERE live = 1`,
  );
  for (const { clone } of rows) hall.wake(clone);
};

/** Serves until `stop` is called or a signal arrives. Throws where another server holds the home. */
export const serve = async (spec: ServeSpec): Promise<void> => {
  const { home } = spec;
  process.umask(0o077);
  mkdirSync(home.zonesDir, { recursive: true, mode: 0o700 });
  const socketPath = socketPathIn(home.root, 'server');
  mkdirSync(dirname(socketPath), { recursive: true, mode: 0o700 });
  await holdLifeLock(home.serverLock);
  const ended = Promise.withResolvers<void>();

  const stop = async (keep: boolean): Promise<number> => {
    try {
      parts.viewers.close();
      return await parts.hall
        .stop(keep)
        .finally(() => (keep ? parts.holder.close() : parts.holder.shutDown()));
    } finally {
      // Whatever failed: a server that takes no work any more must not stay. The answer leaves before the process does.
      setTimeout(() => ended.resolve(), 50);
    }
  };
  let isLeaving = false;
  const leave = async (): Promise<void> => {
    isLeaving = true;
    await stop(false);
  };
  const parts = assemble(spec, { stop, leave });
  const server = createServer((socket) => {
    const peer = createPeer(socket, parts.handlers, {
      onFault: (method, thrown) => spec.log(`${method}: ${thrown instanceof Error ? thrown.stack : thrown}`),
    });
    void peer.closed.then(hangUpOnSilence(peer, LONG_SILENCE));
  });
  server.maxConnections = MAX_CONNECTIONS;
  const stopKept = (): void => void stop(true).catch((thrown) => spec.log(`stop: ${thrown}`));
  const closeSocket = await listenByRename(server, socketPath, stopKept);
  const stopRetention = startRetention(parts.store, home.zonesDir, spec.log);
  recover(parts);
  signalReady();
  for (const signal of ['SIGTERM', 'SIGINT'] as const) process.once(signal, stopKept);

  await ended.promise;
  stopRetention();
  closeSocket();
  server.close();
  parts.store.close();
  if (isLeaving) removeServerHome(home);
};
