import { createHash } from 'node:crypto';
import type { Sides } from './groups.ts';
import { type Path, pathText } from './listing.ts';
import type { Note, Stage } from './merge-said.ts';
import type { Entry } from './tree.ts';

/** What two sides did to the same files and git will not decide, as a value that waits for a person. */

export type ConflictKind =
  | 'content'
  | 'add-add'
  | 'modify-delete'
  | 'rename'
  | 'type'
  | 'binary'
  | 'case'
  /** The agreed base, or a file of it, is not here any more. */
  | 'no-base';

export type Conflict = {
  /** The same for the same inputs. */
  id: string;
  kind: ConflictKind;
  /** All that wait together, sorted; each is in at least one of the three trees. */
  paths: Path[];
  /** What the three trees have at these paths. */
  stages: Map<Path, Stage>;
  /** What git tried to merge, by the name that it would have had: a side's content may come from another name. */
  contents: Map<Path, Stage>;
  /** For people, one or more lines. It holds file names: sanitize before printing. */
  message: string;
};

const MAX_MESSAGE_CHARS = 2_000;

const stageOf = ({ base, local, remote }: Sides, path: Path): Stage => {
  const stage: Stage = {};
  const [b, l, r] = [base.get(path), local.get(path), remote.get(path)];
  if (b) stage.base = b;
  if (l) stage.local = l;
  if (r) stage.remote = r;
  return stage;
};

const entryText = (entry: Entry | undefined): string => (entry ? `${entry.mode} ${entry.oid}` : '-');

const idOf = (stages: ReadonlyMap<Path, Stage>): string => {
  const hash = createHash('sha256');
  for (const [path, { base, local, remote }] of stages) {
    hash.update(`${path}\0${[base, local, remote].map(entryText).join('\0')}\0`, 'latin1');
  }
  return hash.digest('hex').slice(0, 16);
};

/** Git's words for its messages, from the most telling; a group gets the first that is among its messages. */
const KINDS: readonly (readonly [RegExp, ConflictKind])[] = [
  [/rename|file location/u, 'rename'],
  [/file\/directory|distinct modes|distinct types|submodule/u, 'type'],
  [/modify\/delete/u, 'modify-delete'],
  [/binary/u, 'binary'],
];

const isFile = (entry: Entry | undefined): boolean => entry === undefined || entry.mode.startsWith('100');

const kindOf = (notes: readonly Note[], contents: ReadonlyMap<Path, Stage>): ConflictKind => {
  const words = notes.map(({ type }) => type);
  const named = KINDS.find(([pattern]) => words.some((word) => pattern.test(word)));
  if (named) return named[1];
  const all = [...contents.values()];
  if (!all.every(({ base, local, remote }) => [base, local, remote].every(isFile))) return 'type';
  if (all.some(({ local, remote }) => !local || !remote)) return 'modify-delete';
  return all.some(({ base }) => base) ? 'content' : 'add-add';
};

const textOf = (notes: readonly Note[]): string =>
  [...new Set(notes.map(({ text }) => pathText(text)))].join('\n').slice(0, MAX_MESSAGE_CHARS);

/** The conflict of one group, with the notes about it; or with our own word for it. */
export const conflictOf = (
  group: readonly Path[],
  sides: Sides,
  said:
    | { stages: ReadonlyMap<Path, Stage>; notes: readonly Note[] }
    | { kind: ConflictKind; message: string },
): Conflict => {
  const paths = group
    .filter((path) => sides.base.has(path) || sides.local.has(path) || sides.remote.has(path))
    .sort();
  const stages = new Map(paths.map((path) => [path, stageOf(sides, path)]));
  const id = idOf(stages);
  if ('kind' in said) return { id, kind: said.kind, paths, stages, contents: stages, message: said.message };
  const contents = new Map(
    group.flatMap((path) => {
      const stage = said.stages.get(path);
      return stage ? [[path, stage] as const] : [];
    }),
  );
  const notes = said.notes.filter(({ type }) => type.startsWith('CONFLICT'));
  return { id, kind: kindOf(notes, contents), paths, stages, contents, message: textOf(notes) };
};
