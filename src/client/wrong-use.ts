import { KhloneError } from '../protocol/error.ts';
import { beforeDashes } from './caller.ts';
import { nearest } from './nearest.ts';

/** The parser's words for wrong use as an error of ours: what is wrong, what was probably meant, where to read more. */

/** The names that commands go by, each as its words. */
export type Paths = readonly (readonly string[])[];
/** Option names of the command that was meant, as typed: `--who`. None where no command was. */
export type Options = {
  all: readonly string[];
  required: readonly string[];
  /** Those that take a value. */
  valued: readonly string[];
};

const quotedIn = (message: string): string => /\("(.*)"\)/s.exec(message)?.[1] ?? '';

const meant = (word: string, known: readonly string[]): string => {
  const found = nearest(word, known);
  return found === undefined || found === word ? '' : `; did you mean ${found}?`;
};

const beginsWith = (path: readonly string[], words: readonly string[]): boolean =>
  words.every((word, i) => path[i] === word);

/** The longest beginning of these words that leads to a command or to a group of them. */
const groupOf = (words: readonly string[], paths: Paths): readonly string[] => {
  for (let n = words.length; n > 0; n -= 1) {
    const group = words.slice(0, n);
    if (paths.some((path) => beginsWith(path, group))) return group;
  }
  return [];
};

/** The words that may follow in a group. */
const below = (group: readonly string[], paths: Paths): string[] => [
  ...new Set(paths.filter((path) => beginsWith(path, group)).flatMap((path) => path[group.length] ?? [])),
];

const isOption = (word: string): boolean => /^-./.test(word);
const nameOf = (word: string): string => word.split('=')[0] ?? '';

/**
 * What no command takes, where the parser only says that none does: behind a word that may or may not be there it does
 * not tell an option from a word too many.
 */
const whatIsStrange = (argv: readonly string[], { all, valued }: Options): string | undefined => {
  const words = beforeDashes(argv);
  const options = words.filter(isOption);
  const unknown = options.find((word) => !all.includes(nameOf(word)));
  if (unknown !== undefined) return `no option ${nameOf(unknown)}${meant(nameOf(unknown), all)}`;
  const valueless = options.find((word) => word.includes('=') && !valued.includes(nameOf(word)));
  if (valueless !== undefined) return `${nameOf(valueless)} takes no value`;
  const lacking = words.find((word, i) => valued.includes(word) && isOption(words[i + 1] ?? '-?'));
  if (lacking !== undefined) return `${lacking} needs a value`;
  const given = words.filter((word, i) => !isOption(word) && !valued.includes(words[i - 1] ?? ''));
  const last = [...given, ...argv.slice(words.length + 1)].at(-1);
  return last && `"${last}" is one word too many`;
};

const whatIsWrong = (
  message: string,
  argv: readonly string[],
  group: readonly string[],
  paths: Paths,
  options: Options,
): string => {
  const name = group.join(' ');
  const next = argv.filter((word) => !word.startsWith('-'))[group.length];
  const known = below(group, paths);
  if (message.startsWith('Unsupported option')) {
    return `no option ${quotedIn(message)}${meant(quotedIn(message), options.all)}`;
  }
  const lacking = /^Not enough arguments to option (\S+?)\.$/m.exec(message)?.[1];
  if (lacking !== undefined) return `${lacking} needs a value`;
  if (message.startsWith('Not enough positional')) return `${name} needs a word more`;
  const missing = options.required.find((option) => !argv.some((word) => nameOf(word) === option));
  if (missing !== undefined) return `${name} needs ${missing}`;
  if (next === undefined) return `${name} what? ${known.join(', ')}`;
  if (group.length > 0 && known.length === 0) {
    const strange = quotedIn(message) ? undefined : whatIsStrange(argv, options);
    return strange ?? `"${quotedIn(message) || next}" is one word too many`;
  }
  return `no command ${[...group, next].join(' ')}${meant(next, known)}`;
};

/** The error for words that no command takes. */
export const wrongUse = (
  message: string,
  argv: readonly string[],
  paths: Paths,
  options: Options,
): KhloneError => {
  const group = groupOf(
    argv.filter((word) => !word.startsWith('-')),
    paths,
  );
  const isCommand = paths.some((path) => path.length === group.length && beginsWith(path, group));
  const hint = isCommand ? `khlone ${group.join(' ')} --help` : 'khlone help';
  return new KhloneError('usage', whatIsWrong(message.trim(), argv, group, paths, options), hint);
};
