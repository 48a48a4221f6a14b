import type { Conflict } from '../../patch/conflict.ts';
import { caseConflicts, ignoresCase } from '../../patch/letter-case.ts';
import type { Merge } from '../../patch/merge.ts';
import { planPatch } from '../../patch/plan.ts';
import type { Shadow } from '../../patch/shadow.ts';
import { listTree } from '../../patch/tree.ts';

/**
 * A merge with the conflicts of this disk beside git's own: a new name that falls on another one. They follow from the
 * three trees like all others, so that whoever looks, and whoever finishes what another process began, finds the same.
 */
export const withOneNames = async (shadow: Shadow, local: string, merge: Merge): Promise<Merge> => {
  if (!(await ignoresCase(shadow))) return merge;
  const { sides, conflicts, renames } = merge;
  const { toLocal } = planPatch({ sides, conflicts, renames, held: [] });
  const found = caseConflicts(sides, (await listTree(shadow, local)).keys(), toLocal);
  // Both of two new names find each other.
  const each = new Map<string, Conflict>(found.map((one) => [one.id, one]));
  return { ...merge, conflicts: [...conflicts, ...each.values()] };
};
