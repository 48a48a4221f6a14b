import {
  type Choice,
  EXCLUDED,
  isOurs,
  looksSecret,
  MAX_FILE_BYTES,
  matcherOf,
  megabytes,
  SECRET,
  tooLarge,
} from './left-out.ts';
import { type Path, pathText } from './listing.ts';
import type { Held } from './plan.ts';
import type { Change, Tree } from './tree.ts';

/** What is held back in either direction while the rest goes on: secrets, large files, and floods of new ones. */

export type HoldWish = {
  /** One direction of a plan that was made without these holds; the plan is then made again with them. */
  changes: readonly Change[];
  /** What both sides agreed on before: a secret in it was tracked already, and goes on to travel. */
  base: Tree;
  /** Sizes in bytes of the new contents, by id: see `newContents`. */
  sizes: ReadonlyMap<string, number>;
  choice: Choice;
  maxFileBytes?: number;
  /** Whether the person named this path, or a folder above it: then it is no flood. */
  isNamed?: (path: Path) => boolean;
};

/** New files of one step, beyond which all of them wait. */
export const MAX_NEW_BYTES = 100_000_000;
export const MAX_NEW_FILES = 5_000;

const isNew = ({ before, after }: Change): boolean => before === undefined && after !== undefined;

/** The ids of files that a side gets and did not have, whose sizes `holdsOf` asks for. */
export const newContents = (changes: readonly Change[]): string[] =>
  changes.filter(isNew).flatMap(({ after }) => (after ? [after.oid] : []));

/** Why one path may not move, whatever else does. */
const refusalOf = ({ base, sizes, choice, maxFileBytes = MAX_FILE_BYTES }: HoldWish) => {
  const included = matcherOf(choice.include);
  const excluded = matcherOf(choice.exclude);
  return (change: Change): string | undefined => {
    const text = pathText(change.path);
    if (isOurs(change.path)) return "khlone's own folder";
    if (excluded(text)) return EXCLUDED;
    if (!base.has(change.path) && looksSecret(text) && !included(text)) return SECRET;
    const bytes = isNew(change) ? (sizes.get(change.after?.oid ?? '') ?? 0) : 0;
    return bytes > maxFileBytes ? tooLarge(bytes) : undefined;
  };
};

/** What of one direction is held. Whatever is not named here moves. */
export const holdsOf = (wish: HoldWish): Held[] => {
  const { choice, isNamed = () => false } = wish;
  const refusal = refusalOf(wish);
  const included = matcherOf(choice.include);
  const isMeant = (path: Path): boolean => isNamed(path) || included(pathText(path));
  const held: Held[] = [];
  const fresh: Change[] = [];
  for (const change of wish.changes) {
    const why = refusal(change);
    if (why !== undefined) held.push({ path: change.path, why });
    else if (isNew(change) && !isMeant(change.path)) fresh.push(change);
  }
  const bytes = fresh.reduce((sum, { after }) => sum + (wish.sizes.get(after?.oid ?? '') ?? 0), 0);
  if (fresh.length <= MAX_NEW_FILES && bytes <= MAX_NEW_BYTES) return held;
  const why = `one of ${fresh.length} new files at once (${megabytes(bytes)}): name its folder`;
  return [...held, ...fresh.map(({ path }) => ({ path, why }))];
};
