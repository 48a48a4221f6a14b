import {
  closeSync,
  fsyncSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import * as z from 'zod';
import { tellFull } from '../patch/full-disk.ts';
import { CALLS, Policy, ZoneSpec } from '../protocol/calls.ts';
import { KhloneError } from '../protocol/error.ts';
import { faultPoint } from '../protocol/fault-point.ts';

/**
 * What was accepted here and has not reached its server: one file per entry, in one order, fsynced before the receipt.
 * An entry goes when the server answered; sending it twice is harmless, because the task's id is the client's.
 */

/** Entries of all hosts together; one more is refused, because nobody reads them for days on purpose. */
export const OUTBOX_MAX_ENTRIES = 10_000;

/** As another build wrote them: what it knew more is passed over, so an up- or a downgrade keeps what waits. */
const StoredAdd = CALLS['task.add'].params
  .extend({
    zone: ZoneSpec.strip(),
    policy: Policy.extend({ retention: Policy.shape.retention.unwrap().strip().optional() }).strip(),
  })
  .strip();

const Entry = z.object({
  version: z.literal(1),
  host: z.string(),
  /** The server that may have got it already; another server must not run it unseen. */
  sentTo: z.string().optional(),
  /** That other server is there now: a person says whether it is sent again. */
  held: z.boolean().optional(),
  queuedMs: z.number(),
  say: z.string(),
  call: z.union([
    z.object({
      name: z.literal('task.add'),
      params: StoredAdd,
      prompt: z.string().optional(),
    }),
    z.object({ name: z.literal('task.cancel'), params: CALLS['task.cancel'].params.strip() }),
    /** The state of a worktree, pinned in its shadow: what a sync at that moment would have sent. */
    z.object({
      name: z.literal('patch.sync'),
      params: z.object({ zone: z.string(), tree: z.string(), files: z.number() }),
    }),
  ]),
});
export type Entry = z.infer<typeof Entry>;
export type Queued = { file: string; entry: Entry };
/** A task that its server refused when it was sent from here: failed, with the reason. */
export type Refused = { id: string; say: string; host: string; code: string; message: string; hint?: string };

const Refusal = z.object({
  id: z.string(),
  say: z.string(),
  host: z.string(),
  code: z.string(),
  message: z.string(),
  hint: z.string().optional(),
});
/** Refusals that are remembered; the oldest goes. */
const MAX_REFUSED = 100;

/** The zone that an entry belongs to; a cancel names only its task. */
const zoneOf = ({ call }: Entry): string | undefined =>
  call.name === 'task.add' ? call.params.zone.id : call.name === 'patch.sync' ? call.params.zone : undefined;

/** What a refusal is remembered by: the task, or the state that was queued. */
const nameOf = ({ call }: Entry): string => {
  if (call.name === 'task.add') return call.params.id;
  return call.name === 'task.cancel' ? call.params.task : call.params.tree;
};

export type Outbox = {
  /**
   * Durable when it returns. A task that waits already is not queued again: the entry that waits is returned. A sync
   * takes the place of one that waits for the same zone with nothing behind it.
   */
  put(entry: Omit<Entry, 'version'>): Queued;
  list(host?: string): Queued[];
  /** The next one to be sent to a host; what is held for a person is passed over. */
  first(host: string): Queued | undefined;
  /** Rewritten durably: used to note that a server may have got it. */
  update(queued: Queued, entry: Entry): void;
  /** Durable for what its server may not know of: what a person took back is not sent after all. */
  remove(queued: Queued): void;
  /** The server refused it: it is kept aside with the reason, where `status` and `await` find it by the name answered. */
  refuse(queued: Queued, why: KhloneError): string;
  refused(): Refused[];
  /** Forgets what was refused under this name: a later attempt went well. */
  forgive(id: string): void;
  /** Files of entries that this build cannot read: kept for the one that wrote them. */
  unreadable(): readonly string[];
};

const syncDir = (dir: string): void => {
  const fd = openSync(dir, 'r');
  try {
    fsyncSync(fd);
  } finally {
    closeSync(fd);
  }
};

const writeDurably = (dir: string, file: string, text: string): void => {
  const temp = join(dir, `.${file}.${process.pid}`);
  try {
    writeTo(temp, text);
  } catch (thrown) {
    // Half an entry would hold the room that the disk has left.
    rmSync(temp, { force: true });
    throw tellFull(thrown, dir);
  }
  renameSync(temp, join(dir, file));
  syncDir(dir);
};

const writeTo = (path: string, text: string): void => {
  const fd = openSync(path, 'w', 0o600);
  try {
    const bytes = Buffer.from(text);
    let done = 0;
    while (done < bytes.length) done += writeSync(fd, bytes, done, bytes.length - done);
    fsyncSync(fd);
  } finally {
    closeSync(fd);
  }
};

/** A command that is repeated after the hub died names the same task. */
const waitingTask = (
  entries: ReadonlyMap<string, Entry>,
  { call }: Omit<Entry, 'version'>,
): Queued | undefined => {
  if (call.name !== 'task.add') return undefined;
  for (const [file, entry] of entries) {
    if (entry.call.name === 'task.add' && entry.call.params.id === call.params.id) return { file, entry };
  }
  return undefined;
};

/** Syncs that follow each other are one: the later state has all of the earlier one. Never across a task. */
const waitingSync = (
  entries: ReadonlyMap<string, Entry>,
  { call }: Omit<Entry, 'version'>,
): Queued | undefined => {
  if (call.name !== 'patch.sync') return undefined;
  const [file, entry] =
    [...entries].findLast(([, one]) => (zoneOf(one) ?? call.params.zone) === call.params.zone) ?? [];
  return file && entry?.call.name === 'patch.sync' ? { file, entry } : undefined;
};

const isEntry = (name: string): boolean => /^\d{12}\.json$/.test(name);

const readRefused = (dir: string): Refused[] => {
  try {
    return z.array(Refusal).parse(JSON.parse(readFileSync(join(dir, 'refused.json'), 'utf8'))) as Refused[];
  } catch {
    return [];
  }
};

const forgive = (dir: string, id: string): void => {
  const all = readRefused(dir);
  const others = all.filter((one) => one.id !== id);
  if (others.length < all.length) writeDurably(dir, 'refused.json', JSON.stringify(others));
};

/** Opens the outbox of a home. An unreadable entry is left where it is and named: a person may look at it. */
export const openOutbox = (dir: string): Outbox => {
  mkdirSync(dir, { recursive: true, mode: 0o700 });
  const names = readdirSync(dir).filter(isEntry).sort();
  let next = Number(names.at(-1)?.slice(0, 12) ?? 0) + 1;
  const entries = new Map<string, Entry>();
  const unreadable: string[] = [];
  for (const name of names) {
    try {
      entries.set(name, Entry.parse(JSON.parse(readFileSync(join(dir, name), 'utf8'))));
    } catch {
      unreadable.push(join(dir, name));
    }
  }
  return {
    put: (given) => {
      const waiting = waitingTask(entries, given);
      if (waiting) return waiting;
      const earlier = waitingSync(entries, given);
      if (earlier) {
        const entry: Entry = { ...earlier.entry, call: given.call };
        writeDurably(dir, earlier.file, JSON.stringify(entry));
        entries.set(earlier.file, entry);
        return { file: earlier.file, entry };
      }
      if (entries.size >= OUTBOX_MAX_ENTRIES) {
        throw new KhloneError('queue-full', `${entries.size} entries wait in the outbox`, 'khlone reconnect');
      }
      const file = `${String(next).padStart(12, '0')}.json`;
      const entry: Entry = { version: 1, ...given };
      writeDurably(dir, file, JSON.stringify(entry));
      faultPoint('outbox-kept');
      next += 1;
      entries.set(file, entry);
      return { file, entry };
    },
    list: (host) =>
      [...entries]
        .filter(([, entry]) => host === undefined || entry.host === host)
        .map(([file, entry]) => ({ file, entry })),
    first: (host) => {
      for (const [file, entry] of entries) if (entry.host === host && !entry.held) return { file, entry };
      return undefined;
    },
    update: (queued, entry) => {
      writeDurably(dir, queued.file, JSON.stringify(entry));
      entries.set(queued.file, entry);
      queued.entry = entry;
    },
    refused: () => readRefused(dir),
    forgive: (id) => forgive(dir, id),
    unreadable: () => unreadable,
    refuse: (queued, why) => {
      const id = nameOf(queued.entry);
      const { say, host } = queued.entry;
      const refusal = { id, say, host, code: why.code, message: why.message };
      const others = readRefused(dir).filter((one) => one.id !== id);
      const all = [...others, { ...refusal, ...(why.hint && { hint: why.hint }) }].slice(-MAX_REFUSED);
      writeDurably(dir, 'refused.json', JSON.stringify(all));
      entries.delete(queued.file);
      rmSync(join(dir, queued.file), { force: true });
      return id;
    },
    remove: (queued) => {
      entries.delete(queued.file);
      rmSync(join(dir, queued.file), { force: true });
      faultPoint('outbox-removed');
      if (!queued.entry.sentTo || queued.entry.held) syncDir(dir);
    },
  };
};
