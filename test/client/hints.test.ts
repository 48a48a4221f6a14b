import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';

/** What khlone tells a person to type has to be there. The manual is made from the commands, and is checked to be fresh. */

const ROOT = join(import.meta.dirname, '../..');
const sources = readdirSync(join(ROOT, 'src'), { recursive: true, encoding: 'utf8' });
const read = (path: string): string => readFileSync(join(ROOT, path), 'utf8');

/** `khlone crew del NAME --force` in any text: the command's words, and the option. */
const TOLD = /\bkhlone ((?:[a-z]+ )+)(?:[A-Z]+ |\$\{[^}]*\} )*(--[a-z-]+)/g;
const told = sources
  .filter((name) => name.endsWith('.ts'))
  .flatMap((name) =>
    [...read(join('src', name)).matchAll(TOLD)].map(([whole, words = '', option = '']) => {
      return { name, whole, words: words.trim(), option };
    }),
  );

const page = (section: string): readonly [string[], Set<string>] => {
  const [title = '', ...lines] = section.split('\n');
  const also = /^Also ((?:`khlone [a-z ]+`(?:, | and )?)+)\.$/m.exec(section)?.[1] ?? '';
  const names = [title, ...[...also.matchAll(/`([^`]+)`/g)].map(([, name = '']) => name)];
  const options = lines.flatMap((line) => /^- `([^` ]+)/.exec(line)?.[1]?.split(',') ?? []);
  return [names.map((name) => name.replace(/^khlone /, '')), new Set(options)];
};
const options = new Map(
  read('docs/commands.md')
    .split(/^## /m)
    .map(page)
    .flatMap(([names, known]) => names.map((name) => [name, known] as const)),
);

test('every option that a hint tells of is an option of its command', () => {
  expect(told.length).toBeGreaterThan(10);
  /** The command that words begin with: what follows are its arguments. */
  const known = (words: string): Set<string> | undefined =>
    options.get(words) ?? (words.includes(' ') ? known(words.replace(/ [^ ]+$/, '')) : undefined);
  const wrong = told.filter(({ words, option }) => option !== '--help' && !known(words)?.has(option));
  expect(wrong).toEqual([]);
});
