import { KhloneError } from '../protocol/error.ts';
import { type Path, records } from './listing.ts';
import { type Entry, entryOf, NO_MODE } from './tree.ts';

/** What `git merge-tree --write-tree -z` writes, read strictly. */

/** What each side brings to one file; a side that has none is absent. */
export type Stage = { base?: Entry; local?: Entry; remote?: Entry };
/** `type` is one of git's stable words for a kind of message, `text` its sentence. */
export type Note = { paths: Path[]; type: string; text: Path };
export type Said = {
  tree: string;
  stages: Map<Path, Stage>;
  notes: Note[];
  /** Git made a tree that it does not read itself: a file without content is in it. */
  isBroken?: boolean;
};

const SIDES = { '1': 'base', '2': 'local', '3': 'remote' } as const;
const STAGE = /^(\d{6}) ([0-9a-f]{40,64}) ([123])\t(.+)$/su;
const OID = /^(?:[0-9a-f]{40}|[0-9a-f]{64})$/u;
const COUNT = /^(?:0|[1-9]\d{0,8})$/u;

const strange = (): KhloneError => new KhloneError('internal', 'git merge-tree said something strange');

/** Where one side renamed a folder and the other put a file in the place of one in it, git (2.39) loses the content. */
const isNull = (word: string | undefined): boolean => word?.startsWith(NO_MODE) ?? false;

const readStages = (words: readonly string[]): Map<Path, Stage> => {
  const stages = new Map<Path, Stage>();
  for (const word of words) {
    const [, mode, oid, number = '', path = ''] = STAGE.exec(word) ?? [];
    const side = SIDES[number as keyof typeof SIDES];
    if (side === undefined || stages.get(path)?.[side]) throw strange();
    const entry = isNull(mode) ? {} : { [side]: entryOf(mode, oid) };
    stages.set(path, { ...stages.get(path), ...entry });
  }
  return stages;
};

const readNotes = (words: readonly string[]): Note[] => {
  const notes: Note[] = [];
  for (let at = 0; at < words.length; ) {
    const count = words[at] ?? '';
    const paths = words.slice(at + 1, at + 1 + Number(count));
    const [type, text] = words.slice(at + 1 + paths.length, at + 3 + paths.length);
    if (!COUNT.test(count) || paths.length !== Number(count)) throw strange();
    if (type === undefined || text === undefined) throw strange();
    notes.push({ paths, type, text: text.trim() });
    at += 3 + paths.length;
  }
  return notes;
};

/** "<tree>", one word per stage of a file in conflict, an empty word, then the messages. */
export const readMergeTree = (output: Buffer): Said => {
  const [tree = '', ...rest] = records(output);
  if (!OID.test(tree)) throw strange();
  const end = rest.indexOf('');
  const stages = end < 0 ? rest : rest.slice(0, end);
  return {
    tree,
    stages: readStages(stages),
    isBroken: stages.some(isNull),
    notes: readNotes(end < 0 ? [] : rest.slice(end + 1)),
  };
};
