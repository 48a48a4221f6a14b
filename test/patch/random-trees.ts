import * as fc from 'fast-check';
import type { Path } from '../../src/patch/listing.ts';
import type { Shadow } from '../../src/patch/shadow.ts';

/** Random trees that share a past, each line of them unlike any other, so that it can be looked for afterwards. */

type File = { mode: '100644' | '100755' | '120000'; text: string };
export type Model = Map<Path, File>;
type Edit = { what: (typeof EDITS)[number]; which: number; where: number; name: number };

const EDITS = [
  'insert',
  'insert',
  'insert',
  'replace',
  'cut',
  'rename',
  'rename',
  'delete',
  'mode',
  'link',
  'binary',
  'add',
  'unfold',
  'fold',
  'empty',
  'move-folder',
] as const;
/** Names that meet in every way: beside each other, below each other, and alike but for their case. */
const NAMES = ['a', 'b', 'A', 'd/a', 'd/b', 'd/e/c', 'D/a', 'x/y', 'x', 'new\xff', 'e/f', '.gitignore'];

const editsArbitrary = fc.array(
  fc.record<Edit>({
    what: fc.constantFrom(...EDITS),
    which: fc.nat(1000),
    where: fc.nat(1000),
    name: fc.nat(1000),
  }),
  { minLength: 1, maxLength: 6 },
);

export const triples = fc.record({
  files: fc.uniqueArray(fc.nat(NAMES.length - 1), { minLength: 3, maxLength: 7 }),
  local: editsArbitrary,
  remote: editsArbitrary,
});

const fits = (model: Model, path: Path): boolean =>
  !model.has(path) &&
  [...model.keys()].every((one) => !one.startsWith(`${path}/`) && !path.startsWith(`${one}/`));

const put = (model: Model, path: Path, file: File): void => {
  if (fits(model, path)) model.set(path, file);
};

const linesOf = (text: string): string[] => text.split('\n').slice(0, -1);

/** One edit of one file. `token` is a word that is nowhere else. */
const editFile = (file: File, { what, where }: Edit, token: string): File => {
  // A link leads to a name, which is not empty and one line.
  if (file.mode === '120000') return { mode: file.mode, text: token };
  const lines = linesOf(file.text);
  const at = where % Math.max(1, lines.length);
  const joined = (next: string[]): File => ({ ...file, text: next.map((line) => `${line}\n`).join('') });
  switch (what) {
    case 'insert':
      return joined(lines.toSpliced(at, 0, token));
    case 'replace':
      return joined(lines.toSpliced(at, 1, token));
    case 'cut':
      return joined(lines.toSpliced(at, 2));
    case 'mode':
      return { ...file, mode: file.mode === '100755' ? '100644' : '100755' };
    case 'link':
      return { mode: '120000', text: token };
    case 'binary':
      return { ...file, text: `\0${token}\n` };
    case 'empty':
      return { ...file, text: '' };
    default:
      return file;
  }
};

const edit = (model: Model, one: Edit, token: string): void => {
  const paths = [...model.keys()].sort();
  const path = paths[one.which % Math.max(1, paths.length)];
  const file = path === undefined ? undefined : model.get(path);
  const name = NAMES[one.name % NAMES.length] ?? 'a';
  if (one.what === 'add') put(model, name, { mode: '100644', text: `${token}\n` });
  if (path === undefined || file === undefined) return;
  const moveTo = (to: Path): void => {
    model.delete(path);
    if (fits(model, to)) model.set(to, file);
    else model.set(path, file);
  };
  if (one.what === 'rename') moveTo(name);
  else if (one.what === 'unfold') moveTo(`${path}/${name}`);
  else if (one.what === 'fold') moveTo(path.split('/')[0] ?? path);
  else if (one.what === 'delete') model.delete(path);
  else if (one.what === 'move-folder') {
    for (const below of paths.filter((other) => other.startsWith('d/'))) {
      const moved = model.get(below);
      if (moved && fits(model, `m${below}`)) model.delete(below) && model.set(`m${below}`, moved);
    }
  } else if (one.what !== 'add') model.set(path, editFile(file, one, token));
};

const start = (names: readonly number[]): Model => {
  const model: Model = new Map();
  for (const number of names) {
    const text = Array.from({ length: 12 }, (_, i) => `base ${number} line ${i}\n`).join('');
    put(model, NAMES[number] ?? 'a', { mode: '100644', text });
  }
  return model;
};

const edited = (model: Model, edits: readonly Edit[], side: string): Model => {
  const copy: Model = new Map(model);
  for (const [i, one] of edits.entries()) edit(copy, one, `${side}-token-${i}-`);
  return copy;
};

export const modelsOf = (triple: { files: number[]; local: Edit[]; remote: Edit[] }): Model[] => {
  const base = start(triple.files);
  return [base, edited(base, triple.local, 'local'), edited(base, triple.remote, 'remote')];
};

/** Stores trees with one process, and gives their ids. */
export const storeTrees = async (shadow: Shadow, models: readonly Model[]): Promise<string[]> => {
  const stream = models.flatMap((model) => [
    'commit refs/t\ncommitter a <a@b> 1000000000 +0000\ndata 0\ndeleteall\n',
    ...[...model].map(
      ([path, { mode, text }]) => `M ${mode} inline "${path}"\ndata ${text.length}\n${text}\n`,
    ),
    'ls ""\n',
  ]);
  const input = Buffer.from(`${stream.join('')}done\n`, 'latin1');
  const { code, stdout, stderr } = await shadow.run(['fast-import', '--quiet', '--force', '--done'], {
    input,
  });
  if (code !== 0) throw new Error(stderr);
  const empty = '4b825dc642cb6eb9a060e54bf8d69288fbee4904';
  const ids = [...stdout.toString('latin1').matchAll(/^(?:040000 tree ([0-9a-f]{40})|(missing))/gmu)];
  return ids.map(([, id]) => id ?? empty);
};

/** Every token of one side in some contents. */
export const tokensIn = (texts: Iterable<string>, side: string): Set<string> =>
  new Set([...texts].flatMap((text) => text.match(new RegExp(`${side}-token-\\d+-`, 'gu')) ?? []));
