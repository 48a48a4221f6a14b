import { entriesOf, treeWith } from '../../patch/tree.ts';
import type { Far } from './far.ts';
import { firstBase } from './first-base.ts';
import { type Ground, keepState, present } from './ground.ts';
import type { KeptConflict } from './state.ts';

/** Whether a conflict waits because nobody knew what both sides had before they met. */
const isGroundless = ({ kind, stages }: KeptConflict): boolean =>
  kind === 'no-base' && stages.every(([, { base }]) => base === undefined);

/**
 * What both sides agreed on last, or what they come from where they never did. What waits for want of a ground gets
 * one as soon as commits tell it: by a `git fetch` here, or by a server that knows the question. `head`: the zone's.
 */
export const agreedBase = async (
  ground: Ground,
  far: Far | undefined,
  head: string | undefined,
): Promise<string | undefined> => {
  const agreed = await present(ground, ground.state.base);
  const waiting = ground.state.conflicts.filter(isGroundless);
  if (agreed !== undefined && waiting.length === 0) return agreed;
  const first = await firstBase(ground.repository, far, head);
  if (agreed === undefined || first === undefined) return agreed ?? first;
  const paths = waiting.flatMap((conflict) => conflict.paths);
  const wishes = [...(await entriesOf(ground.shadow, first, paths))].map(([path, after]) => ({
    path,
    after,
  }));
  // Where no tree can hold one of these names beside the others, all of them stay in their conflicts.
  const base = await treeWith(ground.shadow, agreed, wishes).catch(() => undefined);
  if (base === undefined) return agreed;
  const conflicts = ground.state.conflicts.filter((conflict) => !isGroundless(conflict));
  await keepState(ground, { ...ground.state, base, conflicts });
  return base;
};
