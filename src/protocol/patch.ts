import * as z from 'zod';

/**
 * Work that travels between a person's worktree and a zone's. The hub merges; the server tells the state of its
 * worktree and changes it path by path, where it is still as the hub saw it. Trees are git's ids; whatever leads from
 * one to another is an envelope with a payload that the receiver proves.
 */

const zone = z.string().regex(/^z-[0-9a-z]{16}$/);
const objectId = z.string().regex(/^(?:[0-9a-f]{40}|[0-9a-f]{64})$/);
const digest = z.string().regex(/^[0-9a-f]{64}$/);
/** Which of the worktrees that share a zone asks. */
const replica = z.string().regex(/^r-[0-9a-f]{24}$/);
/** Grows by one with each change that a replica sends. */
const seq = z.number().int().min(1).max(Number.MAX_SAFE_INTEGER);
/** One character per byte: names that are no UTF-8 survive. */
const path = z.string().min(1).max(4096);
const count = z.number().int().min(0);
const pattern = z.string().max(1000);

export const Envelope = z
  .strictObject({
    version: z.literal(1),
    /** `patch`: zlib around `git diff --binary -M`. `bundle`: a git bundle of one commit that holds the tree. */
    kind: z.enum(['patch', 'bundle']),
    /** The tree that the receiver has; absent: nothing, and the bundle is complete in itself. */
    base: objectId.optional(),
    result: objectId,
    sha256: digest,
    bytes: count,
  })
  .refine(({ kind, base }) => kind === 'bundle' || base !== undefined, 'a patch needs a base');
export type Envelope = z.infer<typeof Envelope>;

/** A path that was left as it is, and why. Lists of them travel as the JSON body of an answer. */
export const Refusal = z.strictObject({ path, why: z.string().max(500) });
export type Refusal = z.infer<typeof Refusal>;

/** What a snapshot leaves out beside ignored files, as khlone.yml says. */
const Choice = z.strictObject({
  maxFileBytes: z.number().int().positive(),
  include: z.array(pattern).max(1000),
  exclude: z.array(pattern).max(1000),
});

/** Commits that are named at once where two histories look for the one that they share. */
export const MAX_COMMON = 1_000;

export const PATCH_CALLS = {
  /** The first code of a zone: a pack as the body. `tree` is the state that it began with, now or by an earlier call. */
  'code.put': {
    params: z.strictObject({ zone, manifest: z.unknown() }),
    answer: z.object({ head: z.string().max(100), files: count.max(1_000_000), tree: objectId.optional() }),
  },
  /**
   * The zone's state now. With `payload`, and where the state is none of `known`, the answer's body is what leads
   * there from one of them (`envelope.base`), or from nothing.
   */
  'patch.look': {
    params: z.strictObject({
      zone,
      replica,
      known: z.array(objectId).max(8),
      choice: Choice,
      payload: z.boolean(),
    }),
    answer: z.object({
      tree: objectId,
      head: objectId.optional(),
      branch: z.string().max(1000).optional(),
      /** What git is in the middle of there, for people: its files are no state that anybody made. */
      underway: z.array(z.string().max(200)).max(16).optional(),
      /** Paths that differ from the first of `known` that the zone has; absent where it has none. */
      changed: count.optional(),
      leftOut: z.array(z.object({ path: z.string().max(4096), why: z.string().max(500) })).max(200),
      /** The last change of this replica that the zone has taken in. */
      applied: z.object({ seq, sha256: digest }).optional(),
      envelope: Envelope.optional(),
    }),
  },
  /**
   * Changes the zone's worktree from the envelope's base, which the zone told earlier, to its result; the body is the
   * payload. A path that is not as the base says is left alone. The answer's body is JSON: the refusals. A repeated
   * `seq` with the same payload is answered as the first time; `copied` says that it came with another one, or is
   * behind: two worktrees use this replica's id, and this one takes a new id and looks again. `settles`: once every path
   * has moved, the person has all of the result, as `patch.agree` says it. `unchanged`: sent before the answer to a look
   * came. Where that told another state than the base, or left something out, nothing moves: `changed`. `edits`: sent
   * without a look. Where it is not only edits of files that are as the base has them, nothing moves either.
   */
  'patch.apply': {
    params: z.strictObject({
      ...{ zone, replica, seq },
      envelope: Envelope,
      settles: z.boolean().optional(),
      unchanged: z.boolean().optional(),
      edits: z.boolean().optional(),
    }),
    answer: z.object({
      done: count,
      repeated: z.boolean(),
      copied: z.boolean(),
      changed: z.boolean().optional(),
    }),
  },
  /** The person has all of this state: what differs from it from now on is work that a removal would lose. */
  'patch.agree': {
    params: z.strictObject({ zone, tree: objectId, head: objectId.optional() }),
    answer: z.object({}),
  },
  /** The commits of the zone's branch that the person lacks, as a git bundle in the body; none: no body. */
  'patch.commits': {
    params: z.strictObject({ zone, have: z.array(objectId).max(256) }),
    answer: z.object({ head: objectId.optional(), branch: z.string().max(1000).optional() }),
  },
  /** The commit that the zone's HEAD and the person's commits come from; absent where they share none. */
  'patch.common': {
    params: z.strictObject({ zone, have: z.array(objectId).max(MAX_COMMON) }),
    answer: z.object({ common: objectId.optional() }),
  },
} as const;
