import * as z from 'zod';

/**
 * Looking into a zone from a terminal. A viewer is one terminal of a person: its id is made where the terminal is, so
 * after a drop the same terminal finds its place again. What it shows is a real tmux client on the server's machine.
 */

const zone = z.string().regex(/^z-[0-9a-z]{16}$/);
const clone = z.string().regex(/^[a-z][a-z0-9-]{0,39}\.\d{1,6}$/);
const viewer = z.string().regex(/^v-[0-9a-z]{16}$/);
const cells = z.number().int().min(1).max(10_000);

/** The person's terminal. `term` is a hint only: a host that does not know it is given one that it knows. */
export const Terminal = z.strictObject({
  columns: cells,
  rows: cells,
  term: z.string().max(64),
  utf8: z.boolean(),
});
export type Terminal = z.infer<typeof Terminal>;

/**
 * `view`: what a clone does, in words; it ends with its terminal. `shell`: a shell of the person's own in the zone's
 * worktree; without a terminal it goes on for a day. A viewer that shows another sight than before begins anew.
 */
export const Sight = z.discriminatedUnion('kind', [
  z.strictObject({ kind: z.literal('view'), clone }),
  z.strictObject({ kind: z.literal('shell') }),
]);
export type Sight = z.infer<typeof Sight>;

/**
 * Why a viewer's bytes ended. `left`: Ctrl-D in a view, tmux's own detach, or nothing else is known. `exited`: its shell
 * ended. `detached`: by `crew detach`. `gone`: the clone was let go or the zone removed. `lost`: tmux died; opening again
 * brings it back. A halted zone keeps its viewers: they see that it is.
 */
export const PARTINGS = ['left', 'exited', 'detached', 'gone', 'lost'] as const;
export type Parting = (typeof PARTINGS)[number];

const sight = { zone, viewer, sight: Sight, terminal: Terminal };

/** How many bytes were typed into a viewer since it began; `of` is another one where the count began anew. */
export const Typed = z.object({ of: z.string().max(64), bytes: z.number().int().min(0) });
export type Typed = z.infer<typeof Typed>;

/** A program to run, and all of its environment. */
const Program = z.object({
  argv: z.array(z.string().max(4096)).min(1).max(64),
  env: z.record(z.string().max(1024), z.string().max(4096)),
});

export const ATTACH_CALLS = {
  /**
   * Makes the viewer's tmux session where it is missing and answers the program that shows it, for a terminal on the
   * server's own machine, or one that ssh makes there. `env` is all that the program may see; its TERM is the terminal's
   * own where the host knows it. A view that no terminal comes for ends after a minute.
   * Fails with `not-found`, `conflict` (no worktree yet), `rate-limited` (64 viewers, 8 shells of a zone), `tmux-failed`.
   */
  'attach.prepare': {
    params: z.strictObject(sight),
    answer: Program,
  },
  /**
   * The same with a terminal made on the server's machine. The call's body is what is typed, the answer's body is
   * what tmux draws; both are interactive. The answer's end is the viewer's end: `attach.end` says why. The call's
   * own end (cancel, a lost connection, the end of what is typed) leaves a shell running for its return. Opening the
   * same viewer again takes its place: the call before ends with `interrupted`, and nothing of it is typed any more;
   * `typed` tells how far it came, so that the keys go on from there. Fails as `attach.prepare` does, and with
   * `no-pty` where the host has no script(1) of util-linux: there a terminal of ssh's can run what `attach.prepare` says.
   */
  'attach.open': { params: z.strictObject(sight), answer: z.object({ typed: Typed.optional() }) },
  /**
   * The same for a program that makes the terminal itself and runs on a channel of sshd's: fewer hops for a key
   * (src/protocol/pty-proxy.ts). It says `nonce` in a magic line first. Whoever had the viewer before is ended, and
   * `typed` tells how far it came. Fails as `attach.prepare` does, and with `no-pty` where the host cannot run it.
   */
  'attach.proxy': {
    params: z.strictObject(sight),
    answer: Program.extend({ nonce: z.string().max(64), typed: Typed }),
  },
  /** Only for a terminal of `attach.open`; any other knows its size by itself. */
  'attach.resize': {
    params: z.strictObject({ viewer, columns: cells, rows: cells }),
    answer: z.object({}),
  },
  /**
   * Ends a viewer, its shell too, or tells how one ended that is over. `exitCode` with `exited`, where it is known: it is
   * kept through the death of the server.
   */
  'attach.end': {
    params: z.strictObject({ viewer }),
    answer: z.object({ parting: z.enum(PARTINGS), exitCode: z.number().int().min(0).max(255).optional() }),
  },
  /** Ends every viewer of a zone and answers how many there were: `crew detach`. */
  'attach.detach': { params: z.strictObject({ zone }), answer: z.object({ ended: z.number().int().min(0) }) },
} as const;
