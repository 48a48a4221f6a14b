import { pinAll } from '../patch/pins.ts';
import type { Shadow } from '../patch/shadow.ts';

/** The trees that a zone has told to a replica, or got from it: what that one's patches may begin with. */

const sentName = (replica: string, tree: string): string => `sent/${replica}/${tree}`;

/** The trees that this replica was told, or has sent itself: at first the one that was carried. */
export const sentTo = (pins: ReadonlyMap<string, string>, replica: string): Set<string> =>
  new Set([...pins].flatMap(([name, tree]) => (name.startsWith(`sent/${replica}/`) ? [tree] : [])));

/** Trees told to others that are held at most; who finds none of its own gets the whole state once more. */
const MAX_HELD = 512;
/** As many of its own, told before, are held on until something new is held: letting go of them is no work of its own. */
const MAX_STALE = 8;

/** Holds what the replica may count on at its next look: what it says it has, and what it is told now. */
export const holdFor = (
  shadow: Shadow,
  pins: Map<string, string>,
  replica: string,
  wanted: ReadonlySet<string>,
): Promise<void> => {
  const others = [...pins.keys()].filter((name) => name.startsWith('sent/') && !name.includes(replica));
  const dropped = others.length > MAX_HELD ? others : [];
  const sent = sentTo(pins, replica);
  const stale = [...sent].filter((tree) => !wanted.has(tree));
  const isNew = [...wanted].some((tree) => !sent.has(tree));
  if (!isNew && dropped.length === 0 && stale.length <= MAX_STALE) return Promise.resolve();
  return pinAll(
    shadow,
    pins,
    new Map([
      ...[...wanted].map((tree) => [sentName(replica, tree), tree] as const),
      ...stale.map((tree) => [sentName(replica, tree), undefined] as const),
      ...dropped.map((name) => [name, undefined] as const),
    ]),
  );
};
