import { connect as connectSocket, type Socket } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import { CALLS, type Cursor, ENDED, Gap, Item, type TaskState, type ZoneView } from '../../protocol/calls.ts';
import { asKhloneError, KhloneError } from '../../protocol/error.ts';
import { CONNECT_DEADLINE_MS } from '../../protocol/limits.ts';
import { createPeer, type Peer } from '../../protocol/peer.ts';
import { createPainting, faint, nowLine } from './painting.ts';
import { createPrinter, MAX_CHARS } from './printer.ts';

/**
 * The program in a viewer's pane: reads the zone's journal from the server's own socket and prints what one clone does.
 * It goes by its cursor, so a server that comes back goes on where it was. Writing to a terminal waits for it, and the
 * journal waits with it: what is not read yet lies in the files, and what is not shown yet fits the scrollback.
 */

/** How much of the zone's past is shown first, in items of its journal. */
const PAST_ITEMS = 1_000;
/** Of what waits, so much is asked for: in the journal's JSON a little more than what the scrollback keeps of it. */
const NEWEST_BYTES = 1.5 * MAX_CHARS;
/** Nobody reads faster than this: more than so many characters in so long a time wait, and newer ones take their place. */
const MOST_CHARS = MAX_CHARS;
const REST_MS = 500;
/** Waits between looks for a server that is away: the first, and the longest. */
const RETRY_MS = { first: 100, most: 2_000 } as const;
/** A server that is away for longer than this is told of. */
const PATIENCE_MS = 1_500;

export type World = { zone: string; clone: string; print(lines: readonly string[]): void };

/** What is kept from one connection to the next. */
type Place = {
  painting: ReturnType<typeof createPainting>;
  cursor: Exclude<Cursor, string> | undefined;
  now: string | undefined;
  /** What was printed last of the clone's tasks leaves it with nothing to do. */
  isStill: boolean;
};

export const newPlace = (): Place => ({
  ...{ painting: createPainting(), cursor: undefined, now: undefined, isStill: true },
});

const connect = (path: string): Promise<Socket> =>
  new Promise((resolve, reject) => {
    const socket = connectSocket(path);
    const timer = setTimeout(() => socket.destroy(new Error('no answer')), CONNECT_DEADLINE_MS);
    socket.once('close', () => reject(new KhloneError('unreachable', 'khlone-server is away')));
    socket.once('error', () => undefined);
    socket.once('connect', () => {
      clearTimeout(timer);
      resolve(socket);
    });
  });

const zoneOf = async (peer: Peer, zone: string): Promise<ZoneView> => {
  const { value } = await peer.call('zone.get', { zone });
  const { zone: found } = CALLS['zone.get'].answer.parse(value);
  if (found) return found;
  throw new KhloneError('not-found', 'the zone is no longer there');
};

/**
 * Prints what the clone does now, where that has changed. The server may be ahead of what was printed here, so until
 * the end of a task was read, nothing is told to be idle.
 */
const showNow = async (peer: Peer, world: World, place: Place): Promise<void> => {
  const { crew } = await zoneOf(peer, world.zone);
  const clone = crew.find(({ name }) => name === world.clone);
  if (!clone) throw new KhloneError('not-found', 'the clone is no longer there');
  if (place.isStill) place.now = undefined;
  else if (clone.state === 'idle' && clone.queued === 0) return;
  const line = nowLine(clone);
  if (line !== place.now) world.print([line]);
  place.now = line;
};

/** States after which a clone may have nothing to do. */
const STILL: ReadonlySet<TaskState> = new Set([...ENDED, 'held', 'paused', 'unknown']);

const gapLine = ({ from, to, kept }: Gap['gap']): string =>
  faint(
    kept ? '… more was printed meanwhile (khlone log)' : `… ${to - from + 1} entries of the journal are gone`,
  );

/** Shows an item, or that some are not told. What a clone does now may be another thing after either. */
const show = (world: World, place: Place, raw: unknown): 'task' | 'passed' | 'words' => {
  const gap = Gap.safeParse(raw);
  if (gap.success) {
    const { from, to } = gap.data.gap;
    if (to < from) return 'words';
    world.print([...place.painting.end(), gapLine(gap.data.gap)]);
    place.isStill = false;
    return 'passed';
  }
  const item = Item.parse(raw);
  world.print(place.painting.take(item));
  place.cursor = { epoch: item.epoch, seq: item.seq };
  if (item.event.type !== 'task') return 'words';
  place.isStill = STILL.has(item.event.state);
  return 'task';
};

/** Rests where more was printed than MOST_CHARS in REST_MS: the server has it pass over what is too much meanwhile. */
const createEase = (print: World['print']) => {
  let [chars, sinceMs] = [0, performance.now()];
  return {
    print: (lines: readonly string[]): void => {
      for (const line of lines) chars += line.length;
      print(lines);
    },
    rest: async (): Promise<void> => {
      if (chars < MOST_CHARS) return;
      await delay(Math.max(0, sinceMs + REST_MS - performance.now()));
      [chars, sinceMs] = [0, performance.now()];
    },
  };
};

/** Shows the journal from the place on, until the connection ends; then throws. */
export const follow = async (peer: Peer, world: World, place: Place): Promise<void> => {
  const { zone, clone } = world;
  const { print, rest } = createEase(world.print);
  const own = { ...world, print };
  const signal = new AbortController().signal;
  const items = (from: Cursor, until: 'now' | 'never'): AsyncIterable<unknown> =>
    peer.subscribe({ zone, clone, from, until, newest: NEWEST_BYTES }, signal);
  if (!place.cursor) {
    const { epoch, seq } = await zoneOf(peer, zone);
    place.cursor = { epoch, seq: Math.max(0, seq - PAST_ITEMS) };
  }
  for await (const raw of items(place.cursor, 'now')) {
    show(own, place, raw);
    await rest();
  }
  await showNow(peer, own, place);
  for await (const raw of items(place.cursor, 'never')) {
    if (show(own, place, raw) !== 'words') await showNow(peer, own, place);
    await rest();
  }
};

/** What is typed is taken and thrown away: unread, it would pile up in tmux. */
const swallowInput = (): void => {
  process.stdin.on('error', () => undefined);
  if (process.stdin.isTTY) process.stdin.setRawMode(true);
  process.stdin.resume();
};

/** Shows a clone until it or its zone is gone. The server is not started for it: a person may have stopped it. */
export const showClone = async (socketPath: string, zone: string, clone: string): Promise<void> => {
  const { print, flush } = createPrinter(
    // Synchronous on a terminal: a slow one holds up this program and nothing else.
    (text) => void process.stdout.write(text),
    (lines) => faint(`… ${lines} lines passed (khlone log)`),
  );
  const world: World = { zone, clone, print };
  const place = newPlace();
  swallowInput();
  let awaySinceMs: number | undefined;
  let waitMs: number = RETRY_MS.first;
  let told = false;
  for (;;) {
    try {
      const peer = createPeer(await connect(socketPath), {});
      [awaySinceMs, waitMs, told] = [undefined, RETRY_MS.first, false];
      await follow(peer, world, place).finally(() => peer.close());
    } catch (thrown) {
      if (asKhloneError(thrown).code === 'not-found') return flush();
    }
    awaySinceMs ??= performance.now();
    if (!told && performance.now() - awaySinceMs > PATIENCE_MS) {
      print([faint('khlone-server is away; this goes on when a command of khlone brings it back')]);
      told = true;
      place.now = undefined;
    }
    await delay(waitMs);
    waitMs = Math.min(RETRY_MS.most, waitMs * 2);
  }
};
