import { randomBytes } from 'node:crypto';
import { join } from 'node:path';
import type { Conflict } from '../../patch/conflict.ts';
import { openEnvelope } from '../../patch/envelope.ts';
import { type Merge, mergeTrees } from '../../patch/merge.ts';
import { type Held, type Plan, planPatch } from '../../patch/plan.ts';
import { KhloneError } from '../../protocol/error.ts';
import { faultPoint } from '../../protocol/fault-point.ts';
import type { Far, Look } from './far.ts';
import { type Ground, keepState, present } from './ground.ts';
import { withOneNames } from './one-name.ts';
import type { KeptConflict } from './state.ts';

/** The three trees of an exchange and what becomes of them, before anything moves. */

export type Trees = { base: string | undefined; local: string; remote: string; held: readonly Held[] };
export type Meeting = Trees & { merge: Merge; plan: Plan };

/** Conflicts that wait, as a merge knows them. One with a name of this disk is over once that name is. */
const waiting = ({ state }: Ground): Conflict[] =>
  state.conflicts
    .filter(({ kind }) => kind !== 'case')
    .map(({ sinceMs: _, kind, stages, contents, ...rest }) => ({
      ...rest,
      kind: kind as Conflict['kind'],
      stages: new Map(stages),
      contents: new Map(contents),
    }));

/** The same trees and the same waiting conflicts give the same plan: an interrupted step is finished by making it again. */
export const meet = async (ground: Ground, trees: Trees): Promise<Meeting> => {
  const { base, local, remote, held } = trees;
  const merged = await mergeTrees(ground.shadow, { base, local, remote, known: waiting(ground) });
  const merge = await withOneNames(ground.shadow, local, merged);
  const { sides, conflicts, renames } = merge;
  return { ...trees, merge, plan: planPatch({ sides, conflicts, renames, held }) };
};

/** Asks for the zone's state and takes in what leads there. `known`: trees that are here, of which the zone may choose. */
const askFor = async ({ shadow, replica, dir }: Ground, far: Far, known: string[]): Promise<Look> => {
  const { answer, body } = await far.look({ replica, known, payload: true });
  const { tree, envelope } = answer;
  if (!envelope) return answer;
  const isAsked = envelope.base === undefined || known.includes(envelope.base);
  if (envelope.result !== tree || !isAsked || !body)
    throw new KhloneError('conflict', 'the zone sent another state than it told', 'try again');
  await openEnvelope(shadow, envelope, body, payloadIn(dir));
  faultPoint('patch.fetched');
  return answer;
};

/** Trees of `known` that are whole in truth. */
const verified = async (ground: Ground, known: readonly string[]): Promise<string[]> => {
  const found = await Promise.all(known.map((tree) => present(ground, tree, true)));
  return found.filter((tree) => tree !== undefined);
};

/** Brings the zone's present state into the shadow. */
export const askZone = async (ground: Ground, far: Far): Promise<Look> => {
  const { remote, base } = ground.state;
  const known = await Promise.all([...new Set([remote, base])].map((tree) => present(ground, tree)));
  const here = known.filter((tree) => tree !== undefined);
  const answer = await askFor(ground, far, here).catch(async (thrown: unknown) => {
    // What came may be sound, and what it builds on broken here: then it is asked for anew, as a whole if need be.
    const sound = await verified(ground, here);
    if (sound.length === here.length) throw thrown;
    return askFor(ground, far, sound);
  });
  const { tree, envelope } = answer;
  if (!envelope && (await present(ground, tree)) === undefined)
    throw new KhloneError('conflict', 'the zone told a state and did not send it', 'try again');
  return answer;
};

/** Notes the zone's state as the last one seen. */
export const noteRemote = async (ground: Ground, { tree, head }: Look): Promise<void> => {
  const { head: _, ...rest } = ground.state;
  await keepState(ground, { ...rest, remote: tree, ...(head && { head }) });
};

/** Both. */
export const fetchRemote = async (ground: Ground, far: Far): Promise<Look> => {
  const answer = await askZone(ground, far);
  await noteRemote(ground, answer);
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
