import { execFileSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { fileWord } from '../../../src/client/render/file-word.ts';

/** A path as a word for shells: one word, the same bytes, and nothing of it is run or drawn. */

const ZSH = ['/bin/zsh', '/usr/bin/zsh'].find((path) => existsSync(path));
const SHELLS: readonly (readonly [string, string])[] = [
  ['bash', '-c'],
  ...(ZSH ? [[ZSH, '-fc'] as const] : []),
];

const typed = ([shell, option]: readonly [string, string], words: readonly string[]): string[] =>
  execFileSync(shell, [option, `printf '%s\\0' ${words.join(' ')}`], { encoding: 'latin1', cwd: '/' })
    .split('\0')
    .slice(0, -1);

const bytes = (text: string): string => Buffer.from(text, 'utf8').toString('latin1');
const ODD = [
  'a b',
  "it's",
  '=ls',
  '~',
  '$(touch /ran)',
  'new\nline',
  'ü😀',
  'back\\slash\t',
  '!x',
  'a\u202eb',
  '#',
];
const NAMES = [...ODD.map(bytes), 'bad\xff\xfe', '\x1b[31m', '\x9b31m', '*', '{a,b}', '\\'];

describe.each(SHELLS)('a path typed in %s', (...shell) => {
  it('is one word with the same bytes', () => {
    const path = fc.string({
      unit: fc.constantFrom(...NAMES, 'a', '.', ' ', "'"),
      minLength: 1,
      maxLength: 8,
    });
    fc.assert(
      fc.property(fc.array(path, { minLength: 1, maxLength: 40, size: 'max' }), (paths) => {
        expect(
          typed(
            shell,
            paths.map((one) => fileWord(one)),
          ),
        ).toEqual(paths);
      }),
      { numRuns: 30 },
    );
    expect(
      typed(
        shell,
        NAMES.map((one) => fileWord(one)),
      ),
    ).toEqual(NAMES);
  });
});

it('holds nothing that a terminal acts on, and is no option', () => {
  for (const name of NAMES) expect(fileWord(name)).toMatch(/^[^\p{Cc}\p{Cf}]*$/u);
  expect(fileWord('-rf')).toBe('./-rf');
  expect(fileWord('src/a.ts')).toBe('src/a.ts');
});

it('leads from where the person stands', () => {
  expect(fileWord('src/a.ts', { cwd: '/w/src', root: '/w' })).toBe('a.ts');
  expect(fileWord('a b', { cwd: '/w/ü', root: '/w' })).toBe("'../a b'");
  expect(fileWord(bytes('ü/-x'), { cwd: '/w/ü', root: '/w' })).toBe('./-x');
});
