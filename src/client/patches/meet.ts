import { randomBytes } from 'node:crypto';
import { join } from 'node:path';
import { openEnvelope } from '../../patch/envelope.ts';
import { type Merge, mergeTrees } from '../../patch/merge.ts';
import { type Held, type Plan, planPatch } from '../../patch/plan.ts';
import { KhloneError } from '../../protocol/error.ts';
import type { Far, Look } from './far.ts';
import { type Ground, keepState, present } from './ground.ts';
import type { KeptConflict } from './state.ts';

/** The three trees of an exchange and what becomes of them, before anything moves. */

export type Trees = { base: string | undefined; local: string; remote: string; held: readonly Held[] };
export type Meeting = Trees & { merge: Merge; plan: Plan };

/** The same trees give the same plan, so an interrupted step is finished by making it again. */
export const meet = async ({ shadow }: Ground, trees: Trees): Promise<Meeting> => {
  const { base, local, remote, held } = trees;
  const merge = await mergeTrees(shadow, { base, local, remote });
  const { sides, conflicts, renames } = merge;
  return { ...trees, merge, plan: planPatch({ sides, conflicts, renames, held }) };
};

/** Brings the zone's present state into the shadow, and notes it as the last one seen. */
export const fetchRemote = async (ground: Ground, far: Far): Promise<Look> => {
  const { shadow, replica, state, dir } = ground;
  const known = [...new Set([state.remote, state.base])].filter((tree) => tree !== undefined);
  const here = (await Promise.all(known.map((tree) => present(ground, tree)))).filter(
    (tree) => tree !== undefined,
  );
  const { answer, body } = await far.look({ replica, known: here, payload: true });
  const { tree, envelope, head } = answer;
  if (envelope) {
    const isAsked = envelope.base === undefined || here.includes(envelope.base);
    if (envelope.result !== tree || !isAsked || !body)
      throw new KhloneError('conflict', 'the zone sent another state than it told', 'try again');
    await openEnvelope(shadow, envelope, body, payloadIn(dir));
  } else if ((await present(ground, tree)) === undefined) {
    throw new KhloneError('conflict', 'the zone told a state and did not send it', 'try again');
  }
  const { head: _, ...rest } = ground.state;
  await keepState(ground, { ...rest, remote: tree, ...(head && { head }) });
  return answer;
};

export const payloadIn = (dir: string): string => join(dir, `payload-${randomBytes(6).toString('hex')}`);

/** Conflicts as they are kept, each with the time when it was first seen. */
export const keptConflicts = (ground: Ground, { merge }: Meeting): KeptConflict[] => {
  const since = new Map(ground.state.conflicts.map(({ id, sinceMs }) => [id, sinceMs]));
  return merge.conflicts.map(({ id, kind, paths, stages, contents, message }) => ({
    ...{ id, kind, paths, message },
    stages: [...stages],
    contents: [...contents],
    sinceMs: since.get(id) ?? Date.now(),
  }));
};
