import { describe, expect, it } from 'vitest';
import { conflictOf } from '../../src/patch/conflict.ts';
import type { Sides } from '../../src/patch/groups.ts';
import { caseConflicts } from '../../src/patch/letter-case.ts';
import {
  baseAfterPull,
  baseAfterSync,
  changed,
  type Held,
  type PlanWish,
  planPatch,
} from '../../src/patch/plan.ts';
import type { Change, Entry, Tree } from '../../src/patch/tree.ts';

/** Trees in short: a word per path, whose letters stand for its content. */
const entry = (text: string): Entry =>
  text.startsWith('@') ? { mode: '160000', oid: text } : { mode: '100644', oid: text };
const tree = (files: Record<string, string>): Tree =>
  new Map(Object.entries(files).map(([path, text]) => [path, entry(text)]));
const sidesOf = (
  base: Record<string, string>,
  local: Record<string, string>,
  remote: Record<string, string>,
  merged: Record<string, string>,
): Sides => ({ base: tree(base), local: tree(local), remote: tree(remote), merged: tree(merged) });

const plan = (sides: Sides, more: Partial<PlanWish> = {}) =>
  planPatch({ sides, conflicts: [], renames: [], held: [], ...more });
const names = (changes: readonly { path: string }[]): string[] => changes.map(({ path }) => path);
const held = (...paths: string[]): Held[] => paths.map((path) => ({ path, why: 'secret' }));

const BOTH = sidesOf({ a: 'a', b: 'b' }, { a: 'L', b: 'b' }, { a: 'a', b: 'R' }, { a: 'L', b: 'R' });

describe('a plan', () => {
  it('brings to each side what the other has, and tells what each path held before', () => {
    const { toLocal, toRemote, blocked } = plan(BOTH);
    expect(toLocal).toEqual([{ path: 'b', before: entry('b'), after: entry('R') }]);
    expect(toRemote).toEqual([{ path: 'a', before: entry('a'), after: entry('L') }]);
    expect([...blocked]).toEqual([]);
  });

  it('leaves a conflict and a held path where they are on both sides, and in the base', () => {
    const sides = sidesOf(
      { a: 'a', b: 'b', c: 'c' },
      { a: 'L', b: 'b', c: 'L' },
      { a: 'R', b: 'R', c: 'c' },
      { a: 'a', b: 'R', c: 'L' },
    );
    const conflicts = [conflictOf(['a'], sides, { kind: 'content', message: '' })];
    const made = plan(sides, { conflicts, held: held('b') });
    expect([names(made.toLocal), names(made.toRemote)]).toEqual([[], ['c']]);
    expect(made.held).toEqual([{ path: 'b', why: 'secret' }]);
    expect(changed(sides.remote, baseAfterPull(sides, made))).toEqual(tree({ a: 'a', b: 'b', c: 'c' }));
    expect(changed(sides.local, baseAfterSync(sides, made))).toEqual(tree({ a: 'a', b: 'b', c: 'L' }));
  });

  it('holds everything below a held folder, and a file that would take its place', () => {
    const sides = sidesOf(
      {},
      {},
      { 'd/a': '1', 'd/b/c': '2', da: '3' },
      { 'd/a': '1', 'd/b/c': '2', da: '3' },
    );
    expect(names(plan(sides, { held: held('d/') }).toLocal)).toEqual(['da']);
    const over = sidesOf({}, {}, { d: '1' }, { d: '1' });
    expect(names(plan(over, { held: held('d/nested') }).toLocal)).toEqual([]);
  });

  it('holds the old name of a held file too, since its edits are nowhere else', () => {
    const sides = sidesOf({ config: 'c' }, { config: 'L' }, { '.env': 'c' }, { '.env': 'L' });
    const made = plan(sides, { renames: [{ from: 'config', to: '.env' }], held: held('.env') });
    expect([made.toLocal, made.toRemote]).toEqual([[], []]);
    expect(made.held.map(({ path }) => path)).toEqual(['.env', 'config']);
  });

  it('neither writes nor removes the commit of a submodule, nor files in its place', () => {
    const sides = sidesOf(
      { sub: '@1', 'lib/x': 'x' },
      { sub: '@2', lib: '@9' },
      { 'sub/file': 'f', 'lib/x': 'X' },
      { sub: '@1', 'lib/x': 'X' },
    );
    const made = plan(sides);
    expect([made.toLocal, made.toRemote]).toEqual([[], []]);
    expect(made.held.find(({ path }) => path === 'sub')?.why).toBe('submodule');
  });

  it('makes room first, then writes, and removes the rest last', () => {
    const sides = sidesOf(
      { f: '1', 'd/x': '2', gone: '3', old: '4', Read: '5' },
      { f: '1', 'd/x': '2', gone: '3', old: '4', Read: '5' },
      { 'f/in': '1', d: '2', new: '4', READ: '5' },
      { 'f/in': '1', d: '2', new: '4', READ: '5' },
    );
    const made = plan(sides, { renames: [{ from: 'old', to: 'new' }] });
    expect(names(made.toLocal)).toEqual(['f', 'd/x', 'Read', 'READ', 'd', 'f/in', 'new', 'old', 'gone']);
    expect(made.moves).toEqual({ toLocal: [{ from: 'old', to: 'new' }], toRemote: [] });
  });
});

describe('the next base', () => {
  it('is what remote has after a pull and what local has after a sync', () => {
    const made = plan(BOTH);
    expect(changed(BOTH.remote, baseAfterPull(BOTH, made))).toEqual(BOTH.remote);
    expect(changed(BOTH.local, baseAfterSync(BOTH, made))).toEqual(BOTH.local);
  });

  it('stays where it was for what failed', () => {
    const made = plan(BOTH);
    expect(changed(BOTH.remote, baseAfterPull(BOTH, made, ['b']))).toEqual(BOTH.base);
    expect(changed(BOTH.local, baseAfterSync(BOTH, made, ['a']))).toEqual(BOTH.base);
  });

  it('has no file where a path that failed needs a folder', () => {
    const sides = sidesOf({ a: '1' }, { a: '1' }, { 'a/x': '1', 'a/y': '2' }, { 'a/x': '1', 'a/y': '2' });
    const after = changed(sides.remote, baseAfterPull(sides, plan(sides), ['a']));
    expect(after).toEqual(tree({ a: '1' }));
  });

  it('does not count an edit as taken that should have arrived under a new name and did not', () => {
    const sides = sidesOf({ f: 'f' }, { g: 'f' }, { f: 'R' }, { g: 'R' });
    const made = plan(sides, { renames: [{ from: 'f', to: 'g' }] });
    expect(names(made.toLocal)).toEqual(['g']);
    expect(changed(sides.remote, baseAfterPull(sides, made, ['g']))).toEqual(sides.base);
  });
});

describe('a disk that takes A for a', () => {
  const collide = (sides: Sides, local: string[]) => {
    const first = plan(sides);
    const conflicts = caseConflicts(sides, local, first.toLocal);
    return { conflicts, plan: plan(sides, { conflicts }) };
  };
  const add = (path: string): Sides => sidesOf({}, {}, { [path]: 'R' }, { [path]: 'R' });

  it.each([
    ['read.md', 'README.md', false],
    ['readme.md', 'README.md', true],
    ['SRC/b', 'src/a', true],
    ['src', 'SRC/a', true],
    ['caf\xc3\xa9', 'cafe\xcc\x81', true],
    ['\xc3\x89', '\xc3\xa9', true],
    ['src/b', 'src/a', false],
  ])('has a conflict of %j with %j: %s', (path, there, isConflict) => {
    const { conflicts, plan: made } = collide(add(path), [there]);
    expect(conflicts.map(({ kind, paths }) => [kind, paths])).toEqual(isConflict ? [['case', [path]]] : []);
    expect(names(made.toLocal)).toEqual(isConflict ? [] : [path]);
  });

  it('lets a name change its letters where the old one goes', () => {
    const sides = sidesOf({ Read: '1' }, { Read: '1' }, { READ: '1' }, { READ: '1' });
    expect(collide(sides, ['Read']).conflicts).toEqual([]);
  });

  it('keeps two new names apart that both sides brought', () => {
    const sides = sidesOf({}, { a: 'L' }, { A: 'R' }, { a: 'L', A: 'R' });
    const { conflicts, plan: made } = collide(sides, ['a']);
    expect(conflicts.map(({ paths }) => paths)).toEqual([['A', 'a']]);
    expect([made.toLocal, made.toRemote] satisfies Change[][]).toEqual([[], []]);
  });
});
