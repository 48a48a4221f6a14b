import * as z from 'zod';

/**
 * What a brain tells, in our own words: each brain's file in src/brains translates its CLI's lines into these.
 * Strings come from untrusted programs: they pass the sanitizer before a person sees them.
 */

/** Token and cost counts of one turn (`scope: 'turn'`), never cumulative: adapters subtract. costUsd only where the CLI reports it. */
export const Usage = z.object({
  input: z.number(),
  output: z.number(),
  cacheRead: z.number(),
  cacheWrite: z.number(),
  costUsd: z.number().optional(),
});
export type Usage = z.infer<typeof Usage>;

export const TURN_FAULTS = [
  'auth',
  'model',
  'rate',
  'overload',
  'network',
  'session',
  'limit',
  'other',
] as const;
export const TURN_REASONS = ['done', 'error', 'interrupted', 'denied', 'killed'] as const;

export const BrainEvent = z.discriminatedUnion('type', [
  /** The brain's own session id, to resume with. */
  z.object({ type: z.literal('session'), id: z.string().max(200) }),
  /** Words of the answer. `final: false` is a piece of a block still being written. */
  z.object({ type: z.literal('text'), text: z.string(), final: z.boolean() }),
  z.object({ type: z.literal('thinking'), text: z.string() }),
  /** Written by the brain before the effect begins: without one, a turn had no effect. `input` is one display line. */
  z.object({ type: z.literal('tool.start'), id: z.string(), name: z.string(), input: z.string() }),
  z.object({
    type: z.literal('tool.end'),
    id: z.string(),
    ok: z.boolean(),
    output: z.string(),
    denied: z.boolean(),
  }),
  /** The brain's own plan: done of total steps. */
  z.object({ type: z.literal('plan'), done: z.number(), total: z.number(), step: z.string().optional() }),
  z.object({ type: z.literal('permission'), id: z.string(), tool: z.string(), input: z.string() }),
  z.object({
    type: z.literal('retry'),
    attempt: z.number(),
    status: z.number().optional(),
    waitMs: z.number().optional(),
  }),
  z.object({ type: z.literal('usage'), usage: Usage }),
  z.object({ type: z.literal('warn'), text: z.string() }),
  /** The end of one turn, once per turn. `text` is the answer. `fault` tells an API error as what it is. */
  z.object({
    type: z.literal('turn.end'),
    reason: z.enum(TURN_REASONS),
    text: z.string(),
    fault: z
      .object({ kind: z.enum(TURN_FAULTS), message: z.string(), status: z.number().optional() })
      .optional(),
    denials: z.array(z.string()).optional(),
  }),
  /** A line the adapter does not know: kept, counted, never shown by default. */
  z.object({ type: z.literal('raw'), kind: z.string() }),
]);
export type BrainEvent = z.infer<typeof BrainEvent>;
export type TurnEnd = Extract<BrainEvent, { type: 'turn.end' }>;
