import { ENDED, Subscribe } from '../../protocol/calls.ts';
import { KhloneError } from '../../protocol/error.ts';
import { type Answer, type Call, items } from '../../protocol/peer.ts';
import { giveWay } from '../give-way.ts';
import type { Line, Position } from '../journal-lines.ts';
import { type About, aboutOf, itemIn } from '../line-head.ts';
import type { Store } from '../store/store.ts';
import { zoneRow } from '../store/zones.ts';
import { bytesPassed } from '../tidy.ts';
import { isFarBehind, passOver } from './newest.ts';

/** Watching a zone's journal from a cursor: each watcher reads the files at its own pace, so none costs another. */

/** Watchers of the whole server; one more is refused, because each holds a file open while it reads. */
const MAX_WATCHERS = 256;

const isAll = ({ task, clone, session, types }: Subscribe): boolean =>
  task === undefined && clone === undefined && session === undefined && types === undefined;

const matches = (about: About | undefined, sub: Subscribe): boolean =>
  about !== undefined &&
  (sub.task === undefined || about.task === sub.task) &&
  (sub.clone === undefined || about.clone === sub.clone) &&
  (sub.session === undefined || about.session === sub.session) &&
  (sub.types === undefined || sub.types.includes(about.type));

const endsTask = (line: Line): boolean => {
  const event = itemIn(line.bytes)?.event;
  return event?.type === 'task' && (ENDED.has(event.state) || event.state === 'unknown');
};

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

/** Waits, again and again, for the zone's next commit or for the watcher to leave. */
const createWait = (store: Store, zone: string, signal: AbortSignal): (() => Promise<void>) => {
  let waiting: { resolve: () => void; stop: () => void } | undefined;
  const done = (): void => {
    waiting?.stop();
    waiting?.resolve();
    waiting = undefined;
  };
  signal.addEventListener('abort', done, { once: true });
  return () =>
    new Promise((resolve) => {
      if (signal.aborted) return resolve();
      const stop = store.onCommit((zones) => {
        if (zones.has(zone)) done();
      });
      waiting = { resolve, stop };
    });
};

/** What goes to this watcher out of lines that were read: `seq` is how far they came, `over` the last word. */
type Step = { found: Buffer[]; seq: number; over: boolean };

/** Goes through lines that were read together, to the last one that this watcher is to hear. */
const stepOf = (lines: readonly Line[], sub: Subscribe, headSeq: number, after: number): Step => {
  const step: Step = { found: [], seq: after, over: false };
  for (const line of lines) {
    step.seq = line.seq;
    const about = isAll(sub) ? undefined : aboutOf(line.bytes);
    if (isAll(sub) || matches(about, sub)) step.found.push(line.bytes);
    step.over =
      (sub.until === 'task' && about?.type === 'task' && about.task === sub.task && endsTask(line)) ||
      (sub.until === 'now' && line.seq >= headSeq);
    if (step.over) break;
  }
  return step;
};

/** Lines as one piece: as they lie, where none between them was left out. */
const inOne = (lines: readonly Buffer[]): Buffer => {
  const [first] = lines;
  const bytes = lines.reduce((sum, line) => sum + line.length, 0);
  const last = lines.at(-1);
  if (!first || !last) return Buffer.alloc(0);
  const isRun = last.buffer === first.buffer && last.byteOffset + last.length - first.byteOffset === bytes;
  return isRun ? Buffer.from(first.buffer, first.byteOffset, bytes) : Buffer.concat(lines, bytes);
};

export async function* follow(store: Store, sub: Subscribe, signal: AbortSignal): AsyncGenerator<unknown> {
  const head = store.head(sub.zone);
  if (!head) throw new KhloneError('not-found', 'that zone is not known here', 'khlone status --all');
  const { after, gap } = entryOf(store, sub, head);
  if (gap) yield { epoch: head.epoch, gap };
  let position: Position = { n: 0, offset: 0 };
  const nextCommit = createWait(store, sub.zone, signal);
  const hears = (line: Line): boolean => isAll(sub) || matches(aboutOf(line.bytes), sub);
  let seq = after;
  let isBehind = true;
  let lookedTo = seq;
  while (!signal.aborted) {
    const first = store.firstSeq(sub.zone);
    if (seq + 1 < first) {
      // A watcher that was slow met a pruning: what it missed is told.
      yield { epoch: head.epoch, gap: { from: seq + 1, to: first - 1 } };
      seq = first - 1;
    }
    try {
      if (isBehind) lookedTo = store.head(sub.zone)?.seq ?? seq;
      const from = isBehind ? await passOver(store, sub, { after: seq, to: lookedTo }, hears) : seq;
      if (from > seq) {
        yield { epoch: head.epoch, gap: { from: seq + 1, to: from, kept: true } };
        [seq, position] = [from, { n: 0, offset: 0 }];
      }
      isBehind = false;
      const here = store.here(sub.zone, position);
      for await (const lines of here ? [here] : store.lines(sub.zone, seq, position)) {
        const step = stepOf(lines, sub, head.seq, seq);
        seq = step.seq;
        if (step.found.length > 0) {
          const piece = inOne(step.found);
          bytesPassed(piece.length);
          const turn = giveWay(piece.length, signal);
          if (turn) await turn;
          yield piece;
        }
        if (step.over) return;
        // What was looked through is little to be sent: to look through it again would read a long journal for each piece.
        isBehind = seq >= lookedTo && isFarBehind(store, sub, position);
        if (isBehind) break;
      }
    } catch (thrown) {
      // A segment went away before it was opened; the next round begins behind it.
      if (store.firstSeq(sub.zone) === first) throw thrown;
      continue;
    }
    if (sub.until === 'now') return;
    const now = store.head(sub.zone);
    if (now && now.seq > seq) continue;
    // What comes in this journal after a deletion is another zone's, whose watchers begin anew.
    if (!zoneRow(store, sub.zone)) return;
    await nextCommit();
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
