import type { Cursor } from '../protocol/calls.ts';
import { asKhloneError } from '../protocol/error.ts';
import { LOUD_TYPES, type Verbosity } from '../protocol/event-lines.ts';
import { jsonLine, oneLine } from '../protocol/sanitize.ts';
import type { App } from './app.ts';
import type { Binding } from './bindings.ts';
import { createBookmarked, type LineMaker, readBookmark } from './bookmark.ts';
import { type Caller, type Style, styleOf } from './caller.ts';
import { followJournal, type Heard } from './follow-journal.ts';
import { soonest } from './patience.ts';
import { createReader } from './reader.ts';
import { linkWords } from './render/link-words.ts';
import { createLiveLines } from './render/live-lines.ts';
import { mark } from './render/receipt.ts';
import { createWants, insteadOf, type Wanted } from './wanted.ts';
import { createWatchView } from './watch-view.ts';

/** Zones as they work: a steady view at a terminal, lines in a pipe. Both go on where they were, whatever dies. */

export type WatchWish = {
  zones: readonly Binding[];
  /** Every zone there is by now, where those that are made meanwhile are wanted too. */
  all: (() => readonly Binding[]) | undefined;
  /** Whether a clone's events are wanted, and its name in a view. */
  who: Wanted;
  /** The only clone that `who` wants, where it is one by its name. */
  clone: string | undefined;
  verbosity: Verbosity;
  json: boolean;
  /** No word about links. */
  quiet: boolean;
};

/** Where lines go: a pipe, or the view of a terminal. */
type Sink = {
  /** Lines of a zone, and where it is told then. */
  tell(lines: readonly string[], mark: Record<string, string>): void;
  note(line: string): void;
  /** A zone is watched from now on. */
  begin(binding: Binding): void;
  /** Waits for a slow reader; false when nobody reads any more. */
  reads(): Promise<boolean>;
  close(): void;
};

const pipeSink = (caller: Caller, wish: WatchWish): Sink => {
  const reader = createReader(caller);
  const note = (line: string): void => {
    if (!wish.quiet) caller.err(`${line}\n`);
  };
  return {
    tell: (lines, mark) => caller.out(lines.map((line) => `${line}\n`).join(''), mark),
    note,
    begin: ({ address }) => note(`watching ${oneLine(address, 300)}: Ctrl-C ends this, the work goes on`),
    reads: reader.reads,
    close: () => {},
  };
};

const viewSink = (app: App, caller: Caller, wish: WatchWish, live: ReadonlySet<Binding>): Sink => {
  const style = styleOf(caller, 'stdout');
  const view = createWatchView(app, caller, () => [...live], { who: wish.who, style });
  return {
    tell: (lines, mark) => {
      if (lines.length > 0) view.push(lines);
      view.mark(mark);
    },
    note: (line) => view.push([line]),
    begin: () => {},
    // It shows what it can and counts the rest, so it waits for nobody.
    reads: async () => true,
    close: view.close,
  };
};

/** Zones that are made meanwhile are looked for this often. */
const LOOK_MS = 1_000;

const isOfMany = ({ zones, all }: WatchWish): boolean => all !== undefined || zones.length > 1;

const makerOf = (app: App, binding: Binding, wish: WatchWish, style: Style): LineMaker => {
  if (wish.json) {
    const zone = oneLine(binding.address, 600);
    return { take: (item) => [jsonLine({ zone, ...item })], isClean: () => true };
  }
  const crew = app.known.get(binding.zone)?.view.crew ?? [];
  const titles = new Map(crew.flatMap(({ task, title }) => (task && title ? [[task, title]] : [])));
  // Of org/repo@branch the last two say which: the rest would fill a narrow terminal.
  const zone = isOfMany(wish) ? oneLine(binding.address.replace(/^[^@]*\//, ''), 200) : '';
  return createLiveLines({ verbosity: wish.verbosity, style, zone, titles });
};

/** Each host says once that it is lost and once that it is back, however many of its zones are watched. */
const createHostWords = (style: Style) => {
  const lost = new Set<string>();
  return (heard: Heard, host: string): string | undefined => {
    if (heard.type === 'lost' && lost.has(host)) return undefined;
    if (heard.type === 'back' && !lost.has(host)) return undefined;
    if (heard.type === 'lost') lost.add(host);
    if (heard.type === 'back') lost.delete(host);
    return linkWords(heard, host, style);
  };
};

type Watch = {
  app: App;
  caller: Caller;
  wish: WatchWish;
  sink: Sink;
  style: Style;
  words: (heard: Heard, host: string) => string | undefined;
  signal: AbortSignal;
  wants: ReturnType<typeof createWants>;
  /** How far each zone was heard: one that is made again goes on behind what it told before. */
  heard: Map<string, Cursor>;
  /** When a zone was found to be deleted, in ms since the epoch: one that is used since is made again. */
  gone: Map<string, number>;
};

const nobodyWords = ({ app, wish, style }: Watch, binding: Binding): string | undefined => {
  const instead = isOfMany(wish) ? undefined : insteadOf(app, binding, wish.who);
  return instead && `${mark(style, 'attention')} no such clone here yet; the crew: ${instead}`;
};

/** One zone until the end: the caller leaves, nobody reads any more (false), or the zone is deleted (true). */
const watchZone = async (watch: Watch, binding: Binding, from: Cursor): Promise<boolean> => {
  const { app, caller, wish, sink, style } = watch;
  const name = `at:${binding.zone}`;
  const start = readBookmark(caller.marks[name], from);
  const linesFrom = (after: Cursor, lines: number) =>
    createBookmarked(makerOf(app, binding, wish, style), { after, lines });
  let lines = linesFrom(start.after, start.lines);
  const patient = isOfMany(wish);
  // What is not shown stays where it is.
  const select = {
    ...(wish.clone !== undefined && { clone: wish.clone }),
    ...(wish.verbosity === 'quiet' && !wish.json && { types: LOUD_TYPES }),
  };
  const follow = { binding, select, from: start.after, until: 'never', patient } as const;
  for await (const heard of followJournal(app, caller, follow, watch.signal)) {
    const words = watch.words(heard, binding.host);
    if (words) sink.note(words);
    if (heard.type === 'begin') {
      watch.heard.set(binding.zone, heard.after);
      lines = linesFrom(heard.after, 0);
      sink.begin(binding);
      const nobody = nobodyWords(watch, binding);
      if (nobody) sink.note(nobody);
      sink.tell([], { [name]: lines.mark() });
    }
    if (heard.type === 'item')
      watch.heard.set(binding.zone, { epoch: heard.item.epoch, seq: heard.item.seq });
    if (heard.type === 'item' && (await watch.wants(binding, heard.item)))
      for (const told of lines.take(heard.item)) sink.tell(told.lines, { [name]: told.mark });
    if (!(await sink.reads())) return false;
  }
  return true;
};

/** Begins with each zone that is made from now on, at the first event that nobody heard. */
const watchNew = async (
  { wish, signal, heard, gone }: Watch,
  live: ReadonlySet<Binding>,
  begin: (binding: Binding, from: Cursor) => Promise<void>,
): Promise<void> => {
  const seen = new Set(wish.zones.map(({ zone }) => zone));
  const failed = Promise.withResolvers<never>();
  while (wish.all) {
    await soonest(failed.promise, LOOK_MS, signal);
    const there = wish.all();
    const watched = new Set([...live].map(({ zone }) => zone));
    const isNew = ({ zone, usedMs }: Binding): boolean =>
      !watched.has(zone) && (!seen.has(zone) || usedMs > (gone.get(zone) ?? Infinity));
    for (const binding of there)
      if (isNew(binding)) begin(binding, heard.get(binding.zone) ?? 'start').catch(failed.reject);
    // One that is deleted and made again is a new one.
    seen.clear();
    for (const { zone } of there) seen.add(zone);
  }
};

/** Answers when nobody reads any more or no zone is left. Throws `interrupted`, and of one zone what time does not mend. */
export const watchZones = async (app: App, caller: Caller, wish: WatchWish): Promise<void> => {
  const isView = caller.terminal.stdout && caller.env.TERM !== 'dumb' && !wish.json && !wish.quiet;
  const live = new Set<Binding>();
  const over = new AbortController();
  const sink = isView ? viewSink(app, caller, wish, live) : pipeSink(caller, wish);
  const style = styleOf(caller, 'stdout');
  const signal = AbortSignal.any([caller.signal, over.signal]);
  const watch: Watch = {
    app,
    caller,
    wish,
    sink,
    style,
    words: createHostWords(style),
    signal,
    wants: createWants(app, caller, wish.who),
    heard: new Map(),
    gone: new Map(),
  };
  const one = async (binding: Binding, from: Cursor): Promise<void> => {
    live.add(binding);
    try {
      if (!(await watchZone(watch, binding, from))) over.abort();
    } catch (thrown) {
      const isLeft = over.signal.aborted && !caller.signal.aborted;
      const isGone = isOfMany(wish) && asKhloneError(thrown).code === 'not-found';
      if (isGone) watch.gone.set(binding.zone, Date.now());
      if (isGone) sink.note(`${oneLine(binding.address, 300)} was deleted`);
      else if (!isLeft) throw thrown;
    } finally {
      live.delete(binding);
    }
  };
  try {
    await Promise.all([...wish.zones.map((binding) => one(binding, 'live')), watchNew(watch, live, one)]);
  } catch (thrown) {
    if (!over.signal.aborted || caller.signal.aborted) throw thrown;
  } finally {
    over.abort();
    sink.close();
  }
};
