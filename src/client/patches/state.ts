import { mkdir } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import * as z from 'zod';
import { exists, lstat, readText, rename, syncPath, writeDurable } from '../../patch/near-disk.ts';
import { KhloneError } from '../../protocol/error.ts';
import { Envelope } from '../../protocol/patch.ts';

/**
 * What a worktree knows of the zones that it exchanges patches with: state.json in its git directory. The trees that
 * it names are pinned in the shadow beside it.
 */

const tree = z.string().regex(/^(?:[0-9a-f]{40}|[0-9a-f]{64})$/u);
const Entry = z.strictObject({ mode: z.string().regex(/^(?:100644|100755|120000|160000)$/u), oid: tree });
const Stage = z.strictObject({
  base: z.exactOptional(Entry),
  local: z.exactOptional(Entry),
  remote: z.exactOptional(Entry),
});
const stages = z.array(z.tuple([z.string().max(4096), Stage]));

const KeptConflict = z.strictObject({
  id: z.string().max(64),
  kind: z.string().max(40),
  paths: z.array(z.string().max(4096)),
  stages,
  contents: stages,
  message: z.string().max(4000),
  sinceMs: z.number(),
});
export type KeptConflict = z.infer<typeof KeptConflict>;

const Held = z.strictObject({ path: z.string().max(4096), why: z.string().max(500) });

/** A step that was begun, and whose end is not written down yet: with it the same plan can be made again. */
const Pending = z.strictObject({
  kind: z.enum(['pull', 'sync']),
  base: tree.optional(),
  local: tree,
  remote: tree,
  held: z.array(Held),
  /** Of a sync: what was sent, under which number. */
  seq: z.number().int().min(1).optional(),
  envelope: Envelope.optional(),
});
export type Pending = z.infer<typeof Pending>;

const ZoneState = z.strictObject({
  /** What both sides had when they last agreed; absent: they never did. */
  base: tree.optional(),
  /** The zone's state as it was told last. */
  remote: tree.optional(),
  head: tree.optional(),
  /** The last change that was numbered. */
  seq: z.number().int().min(0),
  pending: Pending.optional(),
  conflicts: z.array(KeptConflict),
  held: z.array(Held),
  /** What ignore rules covered here until a pull changed them: it travels only when a person names it. */
  ignoredOnce: z.array(
    Held.extend({ goneMs: z.number().optional(), but: z.array(z.string().max(4096)).optional() }),
  ),
  /** States that wait to be sent, each with what both sides had agreed on when it was taken. */
  queued: z.array(z.strictObject({ tree, base: tree })).optional(),
  /** When the two sides were last compared, in ms since the epoch. */
  seenMs: z.number().optional(),
  /** Paths that a sync would send and a pull would bring, as of then. */
  toSend: z.number().int().min(0),
  toPull: z.number().int().min(0),
});
export type ZoneState = z.infer<typeof ZoneState>;

const State = z.strictObject({ version: z.literal(1), zones: z.record(z.string(), ZoneState) });
type State = z.infer<typeof State>;

const MAX_STATE_BYTES = 256 * 1024 * 1024;

const fileOf = (gitDir: string): string => join(gitDir, 'khlone', 'state.json');

export const NO_STATE: ZoneState = {
  ...{ seq: 0, toSend: 0, toPull: 0 },
  ...{ conflicts: [], held: [], ignoredOnce: [] },
};

const readAll = async (gitDir: string): Promise<State> => {
  const path = fileOf(gitDir);
  const facts = await lstat(path).catch(() => undefined);
  if (!facts) return { version: 1, zones: {} };
  try {
    if (!facts.isFile() || facts.size > MAX_STATE_BYTES) throw new Error('no file of ours');
    return State.parse(JSON.parse(await readText(path)));
  } catch {
    throw new KhloneError(
      'conflict',
      `${path} is not what khlone wrote`,
      'move it away: the next sync then compares both sides anew',
    );
  }
};

export const readState = async (gitDir: string, zone: string): Promise<ZoneState> =>
  (await readAll(gitDir)).zones[zone] ?? NO_STATE;

/** Durable when it returns. One writer at a time: whoever holds the worktree's lock. */
export const writeState = async (gitDir: string, zone: string, state: ZoneState): Promise<void> => {
  const all = await readAll(gitDir);
  const path = fileOf(gitDir);
  if (!(await exists(dirname(path)))) await mkdir(dirname(path), { recursive: true, mode: 0o700 });
  const text = JSON.stringify({ ...all, zones: { ...all.zones, [zone]: state } });
  await writeDurable(`${path}.new`, text, { mode: 0o600 });
  await rename(`${path}.new`, path);
  await syncPath(dirname(path));
};
