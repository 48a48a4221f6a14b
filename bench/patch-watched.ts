import { type FSWatcher, watch } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import type { App } from '../src/client/app.ts';
import type { Binding } from '../src/client/bindings.ts';
import { createAuto, QUIET_MS } from '../src/client/patches/auto.ts';
import { type Contender, edit, type Ground, openPeer, openZone } from './patch-ground.ts';
import { against, type Row } from './row.ts';

/**
 * The same edit without a command, by what the hub does for `sync --auto`: a watcher sees the save, waits until nothing
 * else is saved, and takes a whole pull and a whole sync.
 */

const ZONE = 'z-fedcba9876543210';
/** The file must be there by then; everything is looked at once a minute whatever the watcher saw. */
const THERE_WITHIN_MS = 30_000;

/** What the automatic exchange asks of a hub, and nothing else of one. `onLooked`: a look has ended. */
const hubOf = (
  binding: Binding,
  connected: Awaited<ReturnType<typeof openPeer>>,
  trust: string,
  onLooked: () => void,
): App => {
  const hub = {
    home: { root: dirname(trust), trust },
    bindings: { byZone: () => binding },
    link: () => ({ current: () => connected }),
    flush: () => Promise.resolve(),
    outbox: { list: () => [], refused: () => [] },
    known: { touch: onLooked },
  };
  return hub as unknown as App;
};

/** Resolves when the file on the other side has this round's text. */
const arrival = (path: string, round: number): Promise<void> =>
  new Promise((resolve, reject) => {
    let watcher: FSWatcher | undefined;
    const late = setTimeout(() => end(new Error(`${path} did not come by itself`)), THERE_WITHIN_MS);
    const end = (fault?: Error): void => {
      clearTimeout(late);
      watcher?.close();
      if (fault) reject(fault);
      else resolve();
    };
    const look = (): void => {
      readFile(path, 'utf8').then(
        (text) => text.includes(`round ${round}\n`) && end(),
        // Between two names: the next event finds it.
        () => {},
      );
    };
    watcher = watch(dirname(path), look);
    look();
  });

export const watchedKhlone = async (ground: Ground, files: number): Promise<Contender> => {
  const connected = await openPeer(ground);
  const name = `watched-${files}`;
  const { near, far } = await openZone(connected.peer, ground, join(ground.near, 'watched'), ZONE, name);
  const binding: Binding = {
    ...{ zone: ZONE, root: near, gitDir: join(near, '.git'), address: `b/${name}@main`, branch: 'main' },
    ...{ mode: 'ssh', host: ground.sshd.host, path: far, auto: true, usedMs: Date.now() },
  };
  let looked = (): void => {};
  const nextLook = (): Promise<void> =>
    new Promise((resolve) => {
      looked = resolve;
    });
  const hub = hubOf(binding, connected, join(ground.root, 'trust.json'), () => looked());
  const auto = createAuto(() => hub);
  const first = nextLook();
  auto.start(binding);
  await first;
  let settled = Promise.resolve();
  return {
    name: 'watched',
    once: async (round) => {
      settled = nextLook();
      const file = edit(near, round);
      await arrival(join(far, file), round);
    },
    settle: () => settled,
    end: async () => {
      await auto.stop(ZONE);
      connected.close();
    },
  };
};

type Anchor = { name: string; value: number };

/** `watchedMs` beside commands that somebody has to type: what waits for quiet is part of the one, and of none of them. */
export const watchedRows = (
  files: number,
  watchedMs: number,
  commandMs: number,
  plain: readonly Anchor[],
): Row[] => {
  const what = `one edited file of ${files.toLocaleString('en-US')}, watched, from save to file`;
  const beside = (name: string, value: number, anchor: Anchor): Row => {
    const { ok: _, ...row } = against(name, value, 'ms', anchor, 1);
    return { ...row, target: '–' };
  };
  return [
    ...plain.map((anchor) => beside(`${what}, ${QUIET_MS} ms of quiet in it`, watchedMs, anchor)),
    beside(`${what}, less the quiet`, watchedMs - QUIET_MS, { name: 'khlone by command', value: commandMs }),
  ];
};
