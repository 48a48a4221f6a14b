import type { Cli, Definition } from 'clipanion';
import type { Context } from './cli.ts';

/** What `--help` prints, made from the command definitions: a page for one command, a table for all. */

/** clipanion writes a value as #0, #1. */
const named = (definition: string): string => definition.replace(/#\d+/g, 'VALUE');

const plain = (text: string): string => text.trim().replace(/\s*\n\s*/g, ' ');

const PAGE_COLUMNS = 80;
/** A meaning in fewer columns than this beside its word is harder to read than below it. */
const LEAST_BESIDE = 36;
/** How far a meaning is indented below its word. */
const BELOW = 6;

/** Text broken between words, each line indented. */
const wrapped = (text: string, columns: number, indent: string): string[] => {
  const width = Math.max(20, columns - indent.length);
  const lines: string[] = [];
  let line = '';
  for (const word of plain(text).split(' ')) {
    if (line !== '' && line.length + 1 + word.length > width) {
      lines.push(indent + line);
      line = word;
    } else line = line === '' ? word : `${line} ${word}`;
  }
  return [...lines, indent + line];
};

/** Two columns: words, and what they mean; under each other where the terminal is too narrow. */
const table = (rows: readonly (readonly [string, string])[], columns: number): string[] => {
  const widest = Math.max(0, ...rows.map(([word]) => word.length));
  const left = Math.min(widest, 30) + 4;
  if (columns - left < LEAST_BESIDE) {
    const below = (says: string) => wrapped(says, columns, ' '.repeat(BELOW));
    return rows.flatMap(([word, says]) => [`  ${word}`, ...below(says)]);
  }
  return rows.flatMap(([word, says]) => {
    const [first = '', ...rest] = wrapped(says, columns, ' '.repeat(left));
    if (word.length + 4 > left) return [`  ${word}`, first, ...rest];
    return [`  ${word}`.padEnd(left) + first.slice(left), ...rest];
  });
};

const usageOf = ({ usage }: Definition): string =>
  named(usage)
    .trim()
    .replace(/ \.\.\.$/, ' [options] WORDS…');

/** The page of one command. */
export const commandPage = (
  definition: Definition,
  paths: readonly (readonly string[])[],
  columns = PAGE_COLUMNS,
): string => {
  const others = paths.slice(1).map((path) => `khlone ${path.join(' ')}`);
  const { description = '', details = '', examples = [], options } = definition;
  const lines = [
    `${definition.path}: ${plain(description)}`,
    '',
    `  ${usageOf(definition)}`,
    ...(others.length > 0 ? [`  also: ${others.join(', ')}`] : []),
    ...(details ? ['', ...wrapped(details.replaceAll('`', ''), columns, '')] : []),
    '',
    ...table(
      options.map((option) => [named(option.definition), option.description ?? '']),
      columns,
    ),
    ...(examples.length > 0 ? [''] : []),
    ...table(
      examples.map(([says, line]) => [line.trim(), plain(says)]),
      columns,
    ),
  ];
  return `${lines.join('\n')}\n`;
};

/** All commands in the order of the manual, by category. */
export const contentsPage = (cli: Cli<Context>, version: string, columns = PAGE_COLUMNS): string => {
  const definitions = cli.definitions();
  const categories = [...new Set(definitions.map(({ category }) => category ?? ''))].filter(Boolean);
  const lines = categories.flatMap((category) => [
    '',
    category,
    ...table(
      definitions
        .filter((definition) => definition.category === category)
        .map(({ path, description }) => [path, plain(description ?? '')]),
      columns,
    ),
  ]);
  return `khlone ${version}: hand work to AI coding agents from your shell\n${lines.join('\n')}\n\nkhlone COMMAND --help says more.\n`;
};
