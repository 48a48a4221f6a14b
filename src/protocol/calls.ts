import * as z from 'zod';
import { ATTACH_CALLS } from './attach.ts';
import { BrainEvent, Usage } from './event.ts';
import { isTaskId } from './id.ts';
import { PATCH_CALLS } from './patch.ts';
import { HOLDS, KINDS, TASK_STATES } from './task-states.ts';

/**
 * Every call between hub and server as a pair of schemas; the types are derived from them. Both sides parse what
 * they receive: a remote host is untrusted input, and so is a client to a server that other devices share.
 */

const text = (max: number) => z.string().max(max);
const zoneId = z.string().regex(/^z-[0-9a-z]{16}$/);
const taskId = z.string().refine(isTaskId, 'no id of a task');
/** As a person names it: `claude`, `claude:haiku`. It is printed, so nothing that a terminal obeys is let in. */
const brain = text(100).regex(/^[\w.:/@-]+$/);
const session = z.string().regex(/^[A-Za-z0-9._-]{1,64}$/);
/** Milliseconds since the epoch, as far as a Date reaches. */
const atMs = z.number().int().min(0).max(8.64e15);
const cloneName = z.string().regex(/^[a-z][a-z0-9-]{0,39}\.\d{1,6}$/);
export const isCloneName = (word: string): boolean => cloneName.safeParse(word).success;
const environment = z.record(text(1024), text(1024 * 1024));
const count = z.number().int().min(0).max(1_000_000);

export { ENDED, HOLDS, type Hold, KINDS, TASK_STATES, type TaskState } from './task-states.ts';

/** What the client's trusted configuration allows in a zone. Travels with each task: a clone cannot edit it. */
export const Policy = z.strictObject({
  heroRole: text(40),
  heroBrain: brain.optional(),
  defaultBrain: brain.optional(),
  brains: z.record(text(40), text(200)),
  roles: z.record(text(40), text(64 * 1024)),
  maxClones: count.min(1),
  maxQueue: count.min(1),
  sandbox: z.enum(['zone', 'off']),
  trusted: z.boolean(),
  /** How long and how much of the zone's events is kept; without it the built-in bounds hold. */
  retention: z
    .strictObject({ transcriptsMs: z.number().positive(), diskBytes: z.number().positive() })
    .optional(),
});
export type Policy = z.infer<typeof Policy>;

export const ZoneSpec = z.strictObject({
  id: zoneId,
  address: text(600),
  branch: text(300),
  mode: z.enum(['local', 'ssh', 'ec2']),
  /** Absolute path of the worktree on the server's machine; `~/…` is expanded there. */
  path: text(4096),
  /** A local zone with a worktree of its own beside the person's: its code is carried there, as to another machine. */
  carried: z.boolean().optional(),
});
export type ZoneSpec = z.infer<typeof ZoneSpec>;

export const TaskView = z.object({
  id: taskId,
  zone: zoneId,
  clone: cloneName,
  kind: z.enum(KINDS),
  title: text(400),
  session,
  state: z.enum(TASK_STATES),
  prioritized: z.boolean(),
  position: count.optional(),
  hold: z.enum(HOLDS).optional(),
  message: text(8 * 1024).optional(),
  hint: text(2 * 1024).optional(),
  error: text(40).optional(),
  attempt: count,
  usage: Usage.optional(),
  createdMs: z.number(),
  startedMs: z.number().optional(),
  endedMs: z.number().optional(),
});
export type TaskView = z.infer<typeof TaskView>;

export const CloneView = z.object({
  name: cloneName,
  role: text(40),
  brain,
  state: z.enum(['idle', 'active', 'waiting']),
  hero: z.boolean().optional(),
  task: taskId.optional(),
  title: text(400).optional(),
  progress: z.object({ done: count, total: count }).optional(),
  queued: count,
  note: text(2 * 1024).optional(),
});
export type CloneView = z.infer<typeof CloneView>;

export const ZoneView = z.object({
  id: zoneId,
  address: text(600),
  branch: text(300),
  mode: z.enum(['local', 'ssh', 'ec2']),
  path: text(4096),
  state: z.enum(['preparing', 'ready', 'halted']),
  epoch: text(40),
  seq: z.number(),
  paused: z.boolean(),
  crew: z.array(CloneView).max(1000),
  attention: z.array(TaskView).max(100),
  costUsd: z.number(),
  tokens: z.number(),
});
export type ZoneView = z.infer<typeof ZoneView>;

/** One line of a zone's journal. `seq` grows by one per item within an `epoch`; order is seq, never the clock. */
export const Item = z.object({
  epoch: z.string(),
  seq: z.number(),
  atMs,
  task: taskId.optional(),
  clone: cloneName.optional(),
  session: session.optional(),
  event: z.union([
    BrainEvent,
    z.object({
      type: z.literal('task'),
      state: z.enum(TASK_STATES),
      kind: z.enum(KINDS),
      title: z.string().optional(),
      hold: z.enum(HOLDS).optional(),
      message: z.string().optional(),
      hint: z.string().optional(),
      error: z.string().optional(),
    }),
    z.object({ type: z.literal('note'), text: z.string() }),
  ]),
});
export type Item = z.infer<typeof Item>;
/** Items that are not told: pruned, or with `kept` passed over for a watcher that wanted only the newest. */
export const Gap = z.object({
  epoch: z.string(),
  gap: z.object({ from: z.number(), to: z.number(), kept: z.literal(true).optional() }),
});
export type Gap = z.infer<typeof Gap>;
const Cursor = z.union([
  z.literal('start'),
  z.literal('live'),
  z.strictObject({ epoch: z.string().max(40), seq: z.number().int().min(0) }),
]);
export type Cursor = z.infer<typeof Cursor>;

const selector = z.strictObject({
  zone: zoneId.optional(),
  task: text(40).optional(),
  clone: text(60).optional(),
});

/** What a zone still waits for, and lines for the person. */
const wants = { needsEnvironment: z.boolean(), needsCode: z.boolean(), notes: z.array(text(2048)).max(8) };

/** name → what is sent and what comes back. `task.add` carries a long prompt as the call's body. */
export const CALLS = {
  hello: {
    params: z.strictObject({ proto: z.tuple([count, count]), build: text(100) }),
    answer: z.object({
      proto: count,
      build: text(100),
      uuid: text(60),
      boot: text(60),
      home: text(4096),
      host: text(255),
    }),
  },
  'task.add': {
    params: z.strictObject({
      id: taskId,
      kind: z.enum(KINDS),
      /** Absent when the prompt is the body of the call (over 64 KiB). */
      prompt: text(64 * 1024).optional(),
      zone: ZoneSpec,
      policy: Policy,
      who: text(100).optional(),
      session,
      prioritize: z.boolean(),
      limitMs: z.number().int().positive().max(2_147_483_647).optional(),
    }),
    answer: z.object({
      task: TaskView,
      enrolled: z.boolean(),
      zoneMade: z.boolean(),
      repeated: z.boolean(),
      ...wants,
    }),
  },
  'zone.open': {
    params: z.strictObject({ zone: ZoneSpec, policy: Policy }),
    answer: z.object({ zone: ZoneView, made: z.boolean(), ...wants }),
  },
  'zone.environment': {
    params: z.strictObject({ zone: zoneId, environment, refresh: z.boolean() }),
    answer: z.object({ taken: z.boolean() }),
  },
  'zone.list': { params: z.strictObject({}), answer: z.object({ zones: z.array(ZoneView).max(10_000) }) },
  'zone.get': { params: z.strictObject({ zone: zoneId }), answer: z.object({ zone: ZoneView.optional() }) },
  'zone.halt': { params: z.strictObject({ zone: zoneId }), answer: z.object({ ended: count }) },
  'zone.del': {
    params: z.strictObject({ zone: zoneId, force: z.boolean() }),
    answer: z.object({ deleted: z.boolean(), kept: text(4096).optional() }),
  },
  'task.get': {
    /** `brief`: without the text of its answer, which may be megabytes. */
    params: z.strictObject({ task: text(40), brief: z.literal(true).optional() }),
    answer: z.object({ task: TaskView, answer: z.string().optional() }),
  },
  'task.list': {
    params: selector.extend({ ended: z.boolean(), most: count.max(1000) }),
    answer: z.object({ tasks: z.array(TaskView).max(1000) }),
  },
  'task.cancel': { params: z.strictObject({ task: text(40) }), answer: z.object({ task: TaskView }) },
  'task.retry': {
    params: z.strictObject({ task: text(40), id: taskId }),
    answer: z.object({ task: TaskView, repeated: z.boolean() }),
  },
  'queue.pause': {
    params: z.strictObject({ zone: zoneId, paused: z.boolean() }),
    answer: z.object({ paused: z.boolean() }),
  },
  'queue.move': {
    params: z.strictObject({ task: text(40), position: count.min(1) }),
    answer: z.object({ task: TaskView }),
  },
  'crew.add': {
    params: z.strictObject({ zone: ZoneSpec, policy: Policy, role: text(40), brain: brain.optional() }),
    answer: z.object({ clone: CloneView }),
  },
  'crew.del': {
    params: z.strictObject({ zone: zoneId, clones: z.array(cloneName).max(1000), force: z.boolean() }),
    answer: z.object({ deleted: z.array(cloneName).max(1000) }),
  },
  'brain.probe': {
    params: z.strictObject({ environment }),
    answer: z.object({
      brains: z
        .array(
          z.object({
            name: brain,
            ready: z.boolean(),
            why: text(2048).optional(),
            hint: text(2048).optional(),
            version: text(100).optional(),
          }),
        )
        .max(50),
      view: z.object({ kind: text(40).optional(), why: text(2048) }),
      tmux: z.object({ version: text(40).optional(), why: text(2048).optional() }),
    }),
  },
  ...ATTACH_CALLS,
  ...PATCH_CALLS,
  uninstall: {
    params: z.strictObject({ force: z.boolean() }),
    answer: z.object({ kept: z.array(text(4096)) }),
  },
  stop: { params: z.strictObject({ keep: z.boolean() }), answer: z.object({ ended: count }) },
} as const satisfies Record<string, { params: z.ZodType; answer: z.ZodType }>;

export type CallName = keyof typeof CALLS;
export type Params<N extends CallName> = z.infer<(typeof CALLS)[N]['params']>;
export type AnswerOf<N extends CallName> = z.infer<(typeof CALLS)[N]['answer']>;

/**
 * A journal from a cursor. `until: 'now'` ends at what was committed when it began; with `task`, when that task ended.
 * `types`: the events that are told, by their type; all where it is not there. `newest`: of what waits, only so many
 * bytes are sent, more or less, and a gap tells of those before.
 */
export const Subscribe = z.strictObject({
  zone: zoneId,
  task: taskId.optional(),
  clone: cloneName.optional(),
  session: text(64).optional(),
  from: Cursor,
  until: z.enum(['now', 'task', 'never']),
  types: z.array(text(40)).max(20).optional(),
  newest: z
    .number()
    .int()
    .min(1)
    .max(64 * 1024 * 1024)
    .optional(),
});
export type Subscribe = z.infer<typeof Subscribe>;
