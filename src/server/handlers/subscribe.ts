import { ENDED, type Item, Subscribe } from '../../protocol/calls.ts';
import { KhloneError } from '../../protocol/error.ts';
import { type Answer, type Call, items, together } from '../../protocol/peer.ts';
import type { Position } from '../journal.ts';
import type { Store } from '../store/store.ts';

/** Watching a zone's journal from a cursor: each watcher reads the files at its own pace, so none costs another. */

/** Watchers of the whole server; one more is refused, because each holds a file open while it reads. */
const MAX_WATCHERS = 256;

const matches = (item: Item, sub: Subscribe): boolean =>
  (sub.task === undefined || item.task === sub.task) &&
  (sub.clone === undefined || item.clone === sub.clone) &&
  (sub.session === undefined || item.session === sub.session);

const endsTask = (item: Item): boolean =>
  item.event.type === 'task' && (ENDED.has(item.event.state) || item.event.state === 'unknown');

/** The cursor as a sequence number in today's journal; what is no longer there is told as a gap, never passed over. */
const entryOf = (store: Store, sub: Subscribe, head: { epoch: string; seq: number }) => {
  const first = store.firstSeq(sub.zone);
  if (sub.from === 'live') return { after: head.seq, gap: undefined };
  if (sub.from === 'start') return { after: first - 1, gap: undefined };
  if (sub.from.epoch !== head.epoch)
    return { after: first - 1, gap: { from: sub.from.seq + 1, to: first - 1 } };
  if (sub.from.seq + 1 < first) return { after: first - 1, gap: { from: sub.from.seq + 1, to: first - 1 } };
  return { after: sub.from.seq, gap: undefined };
};

/** Resolves at the zone's next commit, or when the watcher leaves. */
const nextCommit = (store: Store, zone: string, signal: AbortSignal): Promise<void> =>
  new Promise((resolve) => {
    const done = (): void => {
      stop();
      signal.removeEventListener('abort', done);
      resolve();
    };
    const stop = store.onCommit((zones) => {
      if (zones.has(zone)) done();
    });
    signal.addEventListener('abort', done);
    if (signal.aborted) done();
  });

/** Items that were read in one go travel together, up to so many bytes of them or so many. */
const TOGETHER_BYTES = 64 * 1024;
const TOGETHER_ITEMS = 64;

/** What goes to this watcher out of one reading of the journal: `seq` is how far it came, `over` its last word. */
type Step = { found: Item[]; seq: number; over: boolean };

const isLast = (item: Item, sub: Subscribe, headSeq: number): boolean =>
  (sub.until === 'task' && item.task === sub.task && endsTask(item)) ||
  (sub.until === 'now' && item.seq >= headSeq);

/**
 * Reads on from a position, in steps: what lies in the journal now is read without a wait in between. What was read
 * before a fault is told before the fault is, because the position is behind it.
 */
async function* steps(
  store: Store,
  sub: Subscribe,
  headSeq: number,
  after: number,
  position: Position,
): AsyncGenerator<Step> {
  let step: Step = { found: [], seq: after, over: false };
  let begin = position.offset;
  try {
    for await (const item of store.items(sub.zone, after, position)) {
      step.seq = item.seq;
      if (matches(item, sub)) step.found.push(item);
      step.over = isLast(item, sub, headSeq);
      // A new segment counts from its beginning: then the step is a little short.
      const isFull =
        step.found.length >= TOGETHER_ITEMS || Math.abs(position.offset - begin) >= TOGETHER_BYTES;
      if (!step.over && !isFull) continue;
      yield step;
      if (step.over) return;
      step = { found: [], seq: item.seq, over: false };
      begin = position.offset;
    }
  } catch (thrown) {
    yield step;
    throw thrown;
  }
  yield step;
}

export async function* follow(store: Store, sub: Subscribe, signal: AbortSignal): AsyncGenerator<unknown> {
  const head = store.head(sub.zone);
  if (!head) throw new KhloneError('not-found', 'that zone is not known here', 'khlone status --all');
  const { after, gap } = entryOf(store, sub, head);
  if (gap) yield { epoch: head.epoch, gap };
  const position: Position = { n: 0, offset: 0 };
  let seq = after;
  while (!signal.aborted) {
    const first = store.firstSeq(sub.zone);
    if (seq + 1 < first) {
      // A watcher that was slow met a pruning: what it missed is told.
      yield { epoch: head.epoch, gap: { from: seq + 1, to: first - 1 } };
      seq = first - 1;
    }
    try {
      for await (const step of steps(store, sub, head.seq, seq, position)) {
        seq = step.seq;
        if (step.found.length > 0) yield together(step.found);
        if (step.over) return;
      }
    } catch (thrown) {
      // A segment went away before it was opened; the next round begins behind it.
      if (store.firstSeq(sub.zone) === first) throw thrown;
      continue;
    }
    if (sub.until === 'now') return;
    const now = store.head(sub.zone);
    if (now && now.seq > seq) continue;
    await nextCommit(store, sub.zone, signal);
  }
}

export const subscribeHandler = (store: Store) => {
  let watchers = 0;
  return (call: Call): Answer => {
    const parsed = Subscribe.safeParse(call.params);
    if (!parsed.success) throw new KhloneError('invalid-params', 'subscribe: wrong shape');
    if (watchers >= MAX_WATCHERS) {
      throw new KhloneError('rate-limited', `${MAX_WATCHERS} watchers are connected`, 'end one of them');
    }
    const { signal } = call;
    if (signal.aborted) throw new KhloneError('interrupted', 'the watcher left');
    // Counted from here: many may come before the first of them is read. The signal aborts at every end of a body.
    watchers += 1;
    signal.addEventListener('abort', () => {
      watchers -= 1;
    });
    // What lies in the journal is read in one go, and a word must get past it.
    const klass = parsed.data.until === 'now' ? 'bulk' : 'interactive';
    return { value: {}, body: items(follow(store, parsed.data, signal)), klass };
  };
};
